"""Runs commands in processes forked from one that has imported everything but started no device, and disturbs them."""
import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.faults.cases import CASES, Case, finished_subject, write_inputs
from tests.faults.contents import contents, digest
from tests.faults.injector import Injector

LIMIT_S = 600


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
    self._in_fork(lambda: write_inputs(self.home), 'inputs')
    needs = ' '.join(' '.join(case.arguments) for case in cases)
    if '{home}/run' in needs and not (self.home / 'run' / 'checkpoints' / '4').is_dir():
      assert self.run(CASES['train'], self.home / 'run').code == 0
    if any(case.before is finished_subject for case in cases) and not (self.home / 'subject').is_dir():
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
  from speech2lip_jax.sweeps import search  # noqa: F401
  from speech2lip_jax.sync import assess  # noqa: F401
  from speech2lip_jax.synthetic import subject  # noqa: F401
  from speech2lip_jax.training import loop  # noqa: F401
  for verb in cli.VERBS:
    cli.load_verb(verb)


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
    if not (out / name).is_file() or (out / name).read_bytes() != content and digest(out / name) != undisturbed[name]:
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
