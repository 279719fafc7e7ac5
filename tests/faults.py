"""Fault injection: a verb dies, or finds the disk full, at its k-th write; the same command must then end as if nothing had been.

    python -m tests.faults                        every place of every verb, as a table
    python -m tests.faults --verb 'train;render' --every 4 --kind killed,full

Under the folder that a verb writes into, each of these is a place to die: opening a file to write, each write, flush and close of
it, fsync, the flush of a memory map, rename, unlink, mkdir, rmdir, truncate, and each packet given to FFmpeg's muxer. They are
seen by Python's audit events, by a file object that stands in for the built-in one, and by a stand-in for PyAV's container. What
C++ writes by itself (Orbax's arrays through TensorStore, the bytes of a muxer) is seen only by what Python does around it: files
opened, folders made, renamed and removed. `kind=random`, a kill after a random time, reaches into those too.

Each try runs in a process forked from one that has imported everything but started no device; programs are compiled once, into
JAX's cache. Work that a verb spreads over processes is done in threads of this one.
"""
import builtins
import contextlib
import errno
import gc
import hashlib
import importlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

KINDS = {'killed': 'SIGKILL before a write', 'torn': 'SIGKILL in the middle of a write', 'full': 'disk full from a write on',
         'random': 'SIGKILL after a random time'}
FREES = ('os.remove', 'os.rmdir', 'os.rename', 'close')  # what a full disk still allows
PATH_EVENTS = ('os.remove', 'os.rmdir', 'os.mkdir', 'os.rename', 'os.truncate', 'os.link', 'os.symlink')
TIMES = ('seconds', 'seconds_per_frame', 'train_s', 'checksum')  # keys of records, anywhere in them; a checksum is of times too
LEFT_OUT = ('tensorboard', 'stages', 'features')  # folders: events of TensorBoard, and what serves a later run alone
LIMIT_S = 600


# ---- in the process that is to die

class _File(io.BufferedIOBase):
  """Stands in for a file opened to write: the same bytes, each call an event."""

  def __init__(self, file, event):
    self._file, self._event, self.name, self.mode = file, event, file.name, file.mode

  def write(self, data):
    data = memoryview(data).cast('B')

    def half():
      self._file.write(data[:len(data) // 2])
      self._file.flush()
    self._event('write', self.name, half)
    return self._file.write(data)

  def flush(self):
    if not self._file.closed:
      self._event('flush', self.name)
      self._file.flush()

  def close(self):
    if not self._file.closed:
      try:
        self._event('close', self.name)
      finally:
        self._file.close()

  def __exit__(self, *_):
    self.close()

  closed = property(lambda self: self._file.closed)
  fileno = property(lambda self: self._file.fileno)
  read = property(lambda self: self._file.read)
  readinto = property(lambda self: self._file.readinto)
  seek = property(lambda self: self._file.seek)
  tell = property(lambda self: self._file.tell)
  truncate = property(lambda self: self._file.truncate)
  readable = property(lambda self: self._file.readable)
  writable = property(lambda self: self._file.writable)
  seekable = property(lambda self: self._file.seekable)


class _Container:
  """Stands in for PyAV's container of a file that is written: each packet and the end are events."""

  def __init__(self, container, event, path):
    self._container, self._event, self._path = container, event, path

  def __getattr__(self, name):
    return getattr(self._container, name)

  def mux(self, packets):
    self._event('mux', self._path)
    self._container.mux(packets)

  def close(self):
    self._event('mux', self._path)
    self._container.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


class Injector:
  """Counts a process's writes under a folder; at one of them the process dies, or from it on the disk is full."""

  def __init__(self, folder: pathlib.Path, kind: str | None = None, at: int = 0):
    self._folder, self._kind, self._at = os.path.join(os.path.realpath(folder), ''), kind, at
    self.count, self.seen = 0, []

  def install(self) -> None:
    """Begins to count; for the rest of the process."""
    import av
    real_open, real_av_open, real_flush = builtins.open, av.open, np.memmap.flush
    fsync = os.fsync

    def open_counted(file, mode='r', buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
      if not set(mode) & set('wax+') or isinstance(file, int) or not self._is_inside(file):
        return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
      if 'b' in mode:
        return _File(real_open(file, mode), self.event)
      binary = _File(real_open(file, mode.replace('t', '') + 'b'), self.event)
      return io.TextIOWrapper(binary, encoding or 'utf-8', errors, newline, line_buffering=buffering == 1)

    def open_av(file, mode=None, **options):
      container = real_av_open(file, mode, **options)
      is_ours = mode == 'w' and isinstance(file, str) and self._is_inside(file)
      return _Container(container, self.event, file) if is_ours else container

    def flush(array):
      if array.mode in ('w+', 'r+') and self._is_inside(array.filename):
        self.event('msync', array.filename)
      real_flush(array)

    def sync(file):
      self.event('fsync', self._path_of(file))
      fsync(file)

    builtins.open = io.open = open_counted
    av.open, np.memmap.flush, os.fsync = open_av, flush, sync
    sys.addaudithook(self._audit)

  def _path_of(self, file: int) -> str:
    try:
      return os.readlink(f'/proc/self/fd/{file}')
    except OSError:
      return ''

  def _is_inside(self, path, folder: int = -1) -> bool:
    if isinstance(path, int):
      path = self._path_of(path)
    try:
      path = os.fsdecode(path)
    except TypeError:
      return False
    if folder is not None and folder >= 0 and not os.path.isabs(path):
      path = os.path.join(self._path_of(folder), path)
    return (os.path.abspath(path) + os.sep).startswith(self._folder)

  def _audit(self, name, arguments) -> None:
    if name == 'open':
      path, _, flags = arguments
      if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and isinstance(path, (str, bytes, os.PathLike)) and self._is_inside(path):
        self.event('open', path)
    elif name in PATH_EVENTS:
      folder = arguments[-1] if isinstance(arguments[-1], int) else -1
      if self._is_inside(arguments[0], folder):
        self.event(name, arguments[0])

  def event(self, what: str, path, half: Callable[[], Any] | None = None) -> None:
    """A place to die. half: does half of what comes."""
    self.count += 1
    self.seen.append(what)
    if self._kind == 'full':
      if self.count >= self._at and what not in FREES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path) if not isinstance(path, int) else None)
    elif self._kind and self.count == self._at:
      if self._kind == 'torn' and half:
        half()
      os.kill(os.getpid(), signal.SIGKILL)


# ---- what a run left

def _records(value: Any) -> Any:
  """A parsed JSON value without the times in it."""
  if isinstance(value, dict):
    return {name: _records(item) for name, item in value.items() if name not in TIMES and not name.startswith('time/')}
  if isinstance(value, list):
    return [_records(item) for item in value]
  return float(value) if isinstance(value, int) else value


def _film(path: pathlib.Path) -> bytes:
  import av
  digest = hashlib.sha256()
  with av.open(str(path)) as container:
    for frame in container.decode():
      digest.update(str(frame.pts).encode() + frame.to_ndarray().tobytes())
  return digest.digest()


def _digest(path: pathlib.Path) -> str:
  if path.suffix in ('.mp4', '.mov'):
    content = _film(path)
  elif path.suffix == '.npz':
    with np.load(path) as arrays:
      content = b''.join(name.encode() + arrays[name].tobytes() for name in sorted(arrays.files))
  elif path.suffix == '.json':
    content = json.dumps(_records(json.loads(path.read_text())), sort_keys=True).encode()
  elif path.suffix == '.jsonl':
    lines = [_records(json.loads(line)) for line in path.read_text().splitlines()]
    content = json.dumps([line for line in lines if len(line) > 1], sort_keys=True).encode()
  else:
    content = path.read_bytes()
  return hashlib.sha256(content).hexdigest()


def _checkpoint(folder: pathlib.Path) -> str:
  import jax
  import orbax.checkpoint as ocp
  state = ocp.PyTreeCheckpointer().restore(folder / 'default')
  digest = hashlib.sha256((folder / 'metrics' / 'metrics').read_bytes())
  for path, value in sorted((jax.tree_util.keystr(path), value) for path, value in jax.tree.leaves_with_path(state)):
    digest.update(path.encode() + np.asarray(value).tobytes())
  return digest.hexdigest()


def contents(folder: pathlib.Path) -> dict[str, str]:
  """{path: digest} of what a run left, but for times, logs of programs, and what serves a later run alone."""
  found = {}
  for path in sorted(folder.rglob('*')):
    name, parts = path.relative_to(folder), path.relative_to(folder).parts
    if set(parts) & set(LEFT_OUT) or parts[-1] in ('.lock', '.lock.holder') or path.suffix in ('.log', '.html'):
      if '.part' not in parts[-1]:
        continue
    if 'checkpoints' in parts:
      if len(parts) > 1 and parts[-2] == 'checkpoints' and parts[-1].isdigit():
        found[str(name)] = _checkpoint(path)
    elif path.is_file():
      found[str(name)] = _digest(path)
  return found


# ---- the verbs, each at its smallest

class Case(NamedTuple):
  """A command to be disturbed.

  arguments: of the command line; {out} stands for the folder that it writes into, {home} for that of its inputs.
  patch: done in the process before the verb: what would only take time. before: fills {out}; what is there must survive, as
  `kept` (files) say: at every moment each is the old or the new one.
  """
  arguments: tuple[str, ...]
  patch: Callable[[pathlib.Path], None] = lambda home: None
  before: Callable[[pathlib.Path, pathlib.Path], None] | None = None
  kept: tuple[str, ...] = ()

  @property
  def verb(self) -> str:
    return self.arguments[0]


def _preprocess_in_threads(home: pathlib.Path) -> None:
  import concurrent.futures

  from speech2lip_jax.common import files
  from speech2lip_jax.preprocess import contact, follow, parallel, photometric
  parallel.make_pool = lambda *_: concurrent.futures.ThreadPoolExecutor(1)
  follow.refit = lambda *_: None
  photometric.refine = lambda track, *_: track
  contact.write = lambda out, meta: files.write_text(out / 'contact_sheet.png', f'{meta.width}')


def _tracks_for_a_model(home: pathlib.Path) -> None:
  """`dub` prepares its video with the exact landmarks, at 64 px."""
  from speech2lip_jax.common import recipes
  from speech2lip_jax.preprocess import pipeline
  _preprocess_in_threads(home)
  preprocess, load = pipeline.preprocess, recipes.load
  pipeline.preprocess = lambda videos, out, *_, **__: preprocess(videos, out, 64, tracks=[str(home / 'talk.npz')])

  class Tiny:
    get_config = staticmethod(tiny_config)
  recipes.load = lambda name: Tiny if name == 'default' else load(name)


def _golden_files(home: pathlib.Path) -> None:
  """`convert` reads the golden weights, whatever file it is given."""
  from speech2lip_jax.released import torch_file
  from tests import goldens

  def load(path):
    if 'lpips' in str(path):
      return goldens.weights('lpips')
    from tests import syncnet_weights
    return syncnet_weights.state()
  torch_file.load_checkpoint, torch_file.check = load, lambda path: None
  torch_file.state_dict = lambda content, path: content


def _trials_of_a_moment(home: pathlib.Path) -> None:
  """A sweep's trials are shell commands that leave what training and evaluation leave."""
  from speech2lip_jax.sweeps import run, trials
  run.POLL_S = 0.02

  def commands(trial, *_):
    if trial.metrics_json.is_file():
      return []
    log = json.dumps({'step': 3, 'metric/psnr_lip_val': 30.0 + trial.config.seed})
    metrics = json.dumps({'psnr_lip': 30.0, 'ssim_lip': 0.9, 'psnr_img': 40.0, 'sync_conf0': None})
    folder = trial.metrics_json.parent
    return [['mkdir', '-p', str(folder)], ['sh', '-c', f"echo '{log}' > {trial.workdir}/log.jsonl"],
            ['sh', '-c', f"echo '{metrics}' > {folder}/part; mv {folder}/part {trial.metrics_json}"]]
  trials.commands = commands


def tiny_config():
  """The smoke recipe in two steps of its first phase: one compilation."""
  from speech2lip_jax.configs import smoke
  config = smoke.get_config().unlock()
  config.train.update(num_steps=4, blend_start_step=100, eval_every=2, lip_pixels=16, blend_every=1, batch_size=2)
  config.data.num_val_frames, config.depth.num_frames, config.perceptual.start_step = 2, 0, 100
  config.linear.share = config.linear.amplitude = 0.0
  config.field.width, config.compose.jaw = 8, False
  return config.lock()


TINY = 'from tests.faults import tiny_config as get_config\n'
SWEEP = TINY + "\n\ndef get_hyper(hyper):\n  return hyper.sweep('seed', [0, 1])\n"


def _old_files(*names: str) -> Callable[[pathlib.Path, pathlib.Path], None]:
  def write(home, out):
    out.mkdir(parents=True)
    for name in names:
      shutil.copy(home / 'talk.mp4', out / name)
  return write


def _finished_subject(home: pathlib.Path, out: pathlib.Path) -> None:
  shutil.copytree(home / 'subject', out)


CASES = {
    'preprocess': Case(('preprocess', '--video={home}/talk.mp4', '--tracks={home}/talk.npz', '--size=64', '--out={out}'),
                       _preprocess_in_threads),
    'preprocess, another size': Case(
        ('preprocess', '--video={home}/talk.mp4', '--tracks={home}/talk.npz', '--size=72', '--out={out}'),
        _preprocess_in_threads, _finished_subject),
    'train': Case(('train', '--config={home}/tiny.py', '--workdir={out}', '--config.data.path={home}/toy')),
    'expert': Case(('expert', '--subject={home}/toy', '--workdir={out}', '--recipe.train.num_steps=2', '--recipe.train.num_runs=1',
                    '--recipe.train.run_frames=10', '--recipe.expert.width=4', '--recipe.data.test_fraction=.3')),
    'render': Case(('render', '--workdir={home}/run', '--audio={home}/a.wav', '--out={out}/a.mp4'),
                   before=_old_files('a.mp4'), kept=('a.mp4',)),
    'dub': Case(('dub', '--video={home}/talk.mp4', '--audio={home}/a.wav', '--workdir={out}/person', '--out={out}/a.mp4'),
                _tracks_for_a_model, _old_files('a.mp4'), ('a.mp4',)),
    'evaluate': Case(('evaluate', '--workdir={home}/run', '--nobaselines', '--out={out}')),
    'evaluate, two videos': Case(('evaluate', '--video={home}/talk.mp4', '--against={home}/talk.mp4', '--out={out}')),
    'sweep': Case(('sweep', '--config={home}/sweep.py', '--workdir={out}', '--config.data.path={home}/toy'), _trials_of_a_moment),
    'convert lpips': Case(('convert', '--kind=lpips', '--src=lpips.pth', '--out={out}/lpips.npz'), _golden_files,
                          _old_files('lpips.npz'), ('lpips.npz',)),
    'convert syncnet': Case(('convert', '--kind=syncnet', '--src={home}/tiny.py', '--out={out}'), _golden_files),
    'demo': Case(('demo', '--workdir={out}', '--size=64', '--seconds=4', '--steps=2'), _preprocess_in_threads),
}


# ---- trying

class Outcome(NamedTuple):
  """code: exit status, negative a signal. output: what was printed. seen: the events. contents: of a whole run."""
  code: int
  output: str
  seen: list[str]
  contents: dict[str, str] | None
  seconds: float


class Laboratory:
  """Inputs for all cases, and a way to run a command in a process forked from this one."""

  def __init__(self, home: pathlib.Path):
    self.home = home
    home.mkdir(parents=True, exist_ok=True)
    os.environ.pop('SPEECH2LIP_LANDMARKER', None)
    os.environ['XDG_CACHE_HOME'] = str(home / 'cache')  # no landmark model there
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(home / 'compiled')
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '0'
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['XLA_FLAGS'] = '--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1'
    _import_all()

  def make_inputs(self, cases: list[Case]) -> None:
    """What the cases read."""
    gc.freeze()  # or each child's collections would copy all memory
    self._in_fork(lambda: _write_inputs(self.home), 'inputs')
    needs = ' '.join(' '.join(case.arguments) for case in cases)
    if '{home}/run' in needs and not (self.home / 'run' / 'checkpoints' / '4').is_dir():
      assert self.run(CASES['train'], self.home / 'run').code == 0
    if any(case.before is _finished_subject for case in cases) and not (self.home / 'subject').is_dir():
      assert self.run(CASES['preprocess'], self.home / 'subject').code == 0

  def run(self, case: Case, out: pathlib.Path, kind: str | None = None, at: int = 0, compare: bool = False,
          after_s: float | None = None) -> Outcome:
    """Gives the case's command. compare: also read what it left. after_s: kill it after so many seconds."""
    arguments = [part.format(home=self.home, out=out) for part in case.arguments]

    def work(report):
      from speech2lip_jax import cli
      case.patch(self.home)
      injector = Injector(out, kind, at)
      injector.install()
      sys.argv = ['speech2lip', *arguments]
      code = 0
      try:
        cli.main()
      except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
      injector._kind = None
      sys.stdout.flush()
      seen = list(injector.seen)
      report({'code': code, 'seen': seen, 'contents': contents(out) if compare and code == 0 else None,
              'modules': list(sys.modules)})
      return code
    return self._in_fork(work, ' '.join(arguments[:1]), after_s)

  def _in_fork(self, work: Callable, name: str, after_s: float | None = None) -> Outcome:
    started = time.monotonic()
    output, answer = self.home / f'output.{os.getpid()}', self.home / f'answer.{os.getpid()}'
    answer.unlink(missing_ok=True)
    child = os.fork()
    if not child:
      code = 70
      try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
          os.dup2(file, number)
        sys.stdout, sys.stderr = io.TextIOWrapper(io.FileIO(1, 'w'), write_through=True), io.TextIOWrapper(
            io.FileIO(2, 'w'), write_through=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if name == 'inputs':
          work()
          code = 0
        else:
          real_open = builtins.open

          def report(record):
            with real_open(f'{answer}.new', 'w') as file:
              json.dump(record, file)
            os.replace(f'{answer}.new', answer)  # it may be killed here, too
          code = work(report)
      except BaseException:  # noqa: BLE001  told in the output; a forked test process must not go on
        traceback.print_exc()
      finally:
        os._exit(code)
    if after_s is not None:
      time.sleep(after_s)
      with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    deadline = started + LIMIT_S
    while True:
      pid, status = os.waitpid(child, os.WNOHANG)
      if pid:
        break
      if time.monotonic() > deadline:
        os.kill(child, signal.SIGKILL)
      time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    record = json.loads(answer.read_text()) if answer.is_file() else {}
    if name == 'inputs':
      assert code == 0, output.read_text()
    if code == 0:  # what is imported late by a whole run, the next need not import
      for module in record.get('modules', []):
        if module not in sys.modules and not module.startswith('__'):
          with contextlib.suppress(Exception):
            importlib.import_module(module)
    return Outcome(code, output.read_text(errors='replace'), record.get('seen', []), record.get('contents'),
                   time.monotonic() - started)


def _import_all() -> None:
  """Everything that the verbs import, so that a fork need not; none of it starts a device."""
  import orbax.checkpoint  # noqa: F401
  import tensorboardX  # noqa: F401

  from speech2lip_jax import cli
  from speech2lip_jax.dubbing import film, job  # noqa: F401
  from speech2lip_jax.preprocess import pipeline, video  # noqa: F401
  from speech2lip_jax.released import import_networks, import_workdir  # noqa: F401
  from speech2lip_jax.report import compare_videos, held_out  # noqa: F401
  from speech2lip_jax.sweeps import run  # noqa: F401
  from speech2lip_jax.sync import assess  # noqa: F401
  from speech2lip_jax.synthetic import subject  # noqa: F401
  from speech2lip_jax.training import loop  # noqa: F401
  for verb in cli.VERBS:
    cli.load_verb(verb)


def _write_inputs(home: pathlib.Path) -> None:
  from scipy.io import wavfile

  from speech2lip_jax.synthetic.subject import make_clip
  from tests.toy_subject import write_toy_subject
  if not (home / 'toy' / 'meta.json').is_file():
    write_toy_subject(home / 'toy', size=32, clip_frames=(60, 40))
  if not (home / 'talk.npz').is_file():
    make_clip(home / 'talk.mp4', size=96, seconds=1.6)
  sound = 0.1 * np.random.default_rng(0).standard_normal(8000)
  wavfile.write(home / 'a.wav', 16_000, (32767 * sound).astype(np.int16))
  (home / 'tiny.py').write_text(TINY)
  (home / 'sweep.py').write_text(SWEEP)


class Result(NamedTuple):
  """Of a try. hit: the fault struck. told: it was told as it should be, and nothing half-written lay there. survived: the same
  command then ended well. equal: with what an undisturbed run leaves. why: what went wrong."""
  hit: bool
  told: bool
  survived: bool
  equal: bool
  why: str


def half_written(folder: pathlib.Path) -> list[str]:
  """Files and folders that are not under their name yet."""
  found = [path for path in folder.rglob('*') if '.part' in path.name or 'orbax-checkpoint-tmp' in path.name]
  return [str(path.relative_to(folder)) for path in found]


def try_once(laboratory: Laboratory, case: Case, undisturbed: dict[str, str], kind: str, at: int, out: pathlib.Path,
             after_s: float | None = None) -> Result:
  """Disturbs the command, then gives it again."""
  shutil.rmtree(out, ignore_errors=True)
  if case.before:
    case.before(laboratory.home, out)
  old = {name: (out / name).read_bytes() for name in case.kept}
  first = laboratory.run(case, out, None if kind == 'random' else kind, at, after_s=after_s)
  why, told = '', True
  if kind == 'full' and first.code:
    lines = [line for line in first.output.splitlines() if 'error' in line.lower() and 'warning' not in line]
    if first.code not in (1, 2) or 'Traceback' in first.output or not any(
        line.startswith(f'speech2lip {case.verb}: error: ') and str(out) in line for line in lines):
      told, why = False, f'not told in a line: {first.output[-900:]}'
    elif left := half_written(out):
      told, why = False, f'left {left}'
  hit = bool(first.code)
  for name, content in old.items():
    if not (out / name).is_file() or (out / name).read_bytes() != content and _digest(out / name) != undisturbed[name]:
      told, why = False, f'{name} was destroyed'
  second = laboratory.run(case, out, compare=True)
  survived, equal = second.code == 0, second.contents == undisturbed
  if not survived:
    why += f' again: {second.output[-900:]}'
  elif not equal:
    found = second.contents or {}
    why += f' differs: {[name for name in sorted({*found, *undisturbed}) if found.get(name) != undisturbed.get(name)]}'
  return Result(hit, told, survived, equal, why)


def undisturbed_run(laboratory: Laboratory, case: Case, out: pathlib.Path) -> Outcome:
  """What the command does and leaves when nothing happens to it."""
  shutil.rmtree(out, ignore_errors=True)
  if case.before:
    case.before(laboratory.home, out)
  outcome = laboratory.run(case, out, compare=True)
  assert outcome.code == 0 and outcome.contents is not None, outcome.output
  return outcome


def tries(laboratory: Laboratory, case: Case, kinds: list[str], every: int, seed: int = 0,
          most: int | None = None) -> Iterator[tuple[str, int, Result]]:
  """(kind, place, what came of it) for every `every`-th place of the case, at most `most` of a kind, evenly spread."""
  rng, out = random.Random(seed), laboratory.home / 'out'
  whole = undisturbed_run(laboratory, case, out)
  undisturbed = whole.contents
  for kind in kinds:
    if kind == 'random':
      places = list(range(1, len(whole.seen) + 1, every))
    else:
      places = [at for at, what in enumerate(whole.seen, 1) if kind != 'torn' or what == 'write'][rng.randrange(every)::every]
    if most and len(places) > most:
      places = [places[round((i + rng.random()) * (len(places) - 1) / most)] for i in range(most)]
    for at in places:
      after_s = rng.uniform(0.05, 0.95) * whole.seconds if kind == 'random' else None
      yield kind, at, try_once(laboratory, case, undisturbed, kind, at, out, after_s)


def main() -> None:
  """Prints the table."""
  import argparse
  parser = argparse.ArgumentParser(description='Fault injection')
  parser.add_argument('--verb', default=';'.join(CASES), help='cases, with semicolons; all by default')
  parser.add_argument('--kind', default=','.join(KINDS))
  parser.add_argument('--every', type=int, default=1, help='each so-manieth place')
  parser.add_argument('--most', type=int, help='at most so many places of a kind and verb')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--home', help='a folder for inputs and compiled programs that is kept')
  options = parser.parse_args()
  home = pathlib.Path(options.home or tempfile.mkdtemp(prefix='speech2lip_faults_')).resolve()
  laboratory = Laboratory(home)
  names = [name for name in options.verb.split(';') if name in CASES] or list(CASES)
  laboratory.make_inputs([CASES[name] for name in names])
  print('| verb | fault | tried | survived | equal | told, nothing half-written |\n|---|---|---|---|---|---|', flush=True)
  total = np.zeros(4, int)
  for name in names:
    rows: dict[str, np.ndarray] = {}
    for kind, at, result in tries(laboratory, CASES[name], options.kind.split(','), options.every, options.seed, options.most):
      rows.setdefault(kind, np.zeros(4, int))[:] += (1, result.survived, result.equal, result.told)
      if result.why:
        print(f'{name}, {kind} at {at}: {result.why}', file=sys.stderr, flush=True)
    for kind, row in rows.items():
      total += row
      print(f'| {name} | {KINDS[kind]} | {" | ".join(map(str, row))} |', flush=True)
  print(f'| all | | {" | ".join(map(str, total))} |')
  sys.exit(int((total != total[0]).any()))


if __name__ == '__main__':
  main()
