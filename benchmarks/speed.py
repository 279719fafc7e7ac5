"""How long do rendering and training take, how near is that to what the machine can do, and how much memory?

    python benchmarks/speed.py                     # all parts at the paper's size: 500×500, lip box 80×120
    python benchmarks/speed.py --against torch     # the same networks, and the released program's work, in PyTorch beside it
    python benchmarks/speed.py --parts render,step --size 256 --json speed.json
    python benchmarks/speed.py --parts growth      # time against frame size, lip box, batch and length of the video

Runs on whatever JAX finds: the one command for a CPU, a GPU or a TPU. Every part has a process of its own, so that its peak
memory is its own. Times are medians; GFLOP are those of the lowered program (multiply and add are two), their rate is beside
the one of a 4096² float32 matrix product in the same process.

  render        a frame's lips painted, carried and, if the recipe has a Blend-Net, blended, in batches of 1 and 8 (accelerators:
                also 64)
  film          frames a second of `speech2lip render`, encoding included, by the default recipe and by `--config sharp`, twice
  step          a training step of one frame with all its losses but sync, as the released program trains, without and with LPIPS
  sync          the same and a window of 5 frames with the sync loss
  batch         step, per frame, in batches of 1, 2, 4 and 8 frames; the largest config.train.batch_size that fits
  recipe        the steps of configs/default.py in its phases: 64 frames, 4 of them composed, 8 windows
  input         batches a second that the loader makes for 'recipe'
  start         seconds from the command to the end of the first step of `speech2lip train`, twice: the second start finds its
                compilations kept
  dispatch      recipe's lips phase: one step a dispatch against 10 in a scan; the host's own time for a dispatch
  precision     step and render with JAX's float32 products at full precision, as the backend does them by default, and in
                bfloat16 (JAX_DEFAULT_MATMUL_PRECISION=bfloat16 is how a run chooses that); state is float32 in all
  growth        step and render as frame, lip box and batch grow
  converge      with --subject SUBJECT: the default recipe trained on it; seconds until psnr_lip of the validation frames is
                within 0.2 dB of its last value
  profile       the three costliest kernels of the step ('recipe, lips') and of rendering, by JAX's profiler

The one command for an accelerator: python benchmarks/speed.py --subject SUBJECT --json speed.json
--parts render,film,step,sync,batch,recipe,input,start,dispatch,precision,profile,converge
"""
import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PARTS = ('render', 'film', 'step', 'sync', 'batch', 'recipe', 'input', 'start', 'dispatch', 'profile', 'precision', 'growth',
         'converge')
DEFAULT_PARTS = PARTS[:-3]
BOX = (80, 120)  # of a 500×500 face


@dataclasses.dataclass
class Row:
  """A measurement: median seconds of `work`, its GFLOP (0: not counted)."""
  work: str
  seconds: float
  gflop: float = 0.0


def median_seconds(function, rounds=5, trace=None):
  """Of calls that end in host values, after one that compiles; trace: folder for a profile of the others."""
  import jax
  jax.block_until_ready(function())
  seconds = []
  with jax.profiler.trace(str(trace)) if trace else contextlib.nullcontext():
    for _ in range(rounds):
      start = time.perf_counter()
      jax.block_until_ready(function())
      seconds.append(time.perf_counter() - start)
  return float(np.median(seconds))


def matmul_rate():
  """GFLOP/s of a 4096² float32 product."""
  import jax
  import jax.numpy as jnp
  x, size = jnp.ones((4096, 4096)), 4096
  with jax.default_matmul_precision('highest'):
    product = jax.jit(lambda a: a @ a)
    return 2 * size**3 / median_seconds(lambda: product(x), 3) / 1e9


def gflop(pmapped, *arguments):
  return pmapped.lower(*arguments).cost_analysis()['flops'] / 1e9


def make_subject(folder, size, box=BOX, num_frames=60):
  from tests.toy_subject import write_toy_subject
  scaled = tuple(max(8, round(side * size / 500) // 2 * 2) for side in box)
  return write_toy_subject(pathlib.Path(folder), size=size, clip_frames=(num_frames,), lip_size=scaled)


def with_landmarks(subject):
  """The subject with landmarks whose lower face falls and rises, so that its jaw is moved as a person's."""
  from speech2lip_jax.synthetic import portrait
  rest = portrait.load().landmarks[:, :2].astype(np.float32)
  ys, xs = np.nonzero(subject.mask_face_canonical)
  low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()])
  rest = low + (rest - rest.min(0)) / np.ptp(rest, axis=0) * (high - low)
  fall = 0.03 * subject.meta.height * np.sin(np.arange(subject.meta.num_frames))
  moves = np.stack([np.zeros(len(rest)), np.clip((rest[:, 1] - rest[2, 1]) / (rest[152, 1] - rest[2, 1]), 0, 1)], -1)
  return dataclasses.replace(subject, landmarks=(rest + fall[:, None, None] * moves).astype(np.float32))


class Bench:
  """The default recipe on a toy subject, with the given changes of config.train."""

  def __init__(self, folder, **train):
    from speech2lip_jax.configs import default
    from speech2lip_jax.data import dataset
    from speech2lip_jax.data.features import open_features
    from speech2lip_jax.gamem.subject import subject_constants
    from speech2lip_jax.models.build import build_model
    from speech2lip_jax.training import state as train_state
    from speech2lip_jax.training import step as train_step
    self.config = config = default.get_config().unlock()
    config.data.path = str(folder)
    config.train.update(**train)
    self.subject = with_landmarks(dataset.load_subject(folder))
    self.split = dataset.split_frames(self.subject, config.data)
    self.features = open_features(self.subject, config.audio, self.split.train)
    self.constants = subject_constants(self.subject, self.split.train)
    self.model = build_model(self.subject, config, train_step.AXIS)
    self.optimizer, _ = train_state.make_optimizer(config.train)
    self.state = train_state.state_creator(self.model, self.optimizer, config, self.features.num_channels)(self.constants)

  def resident(self):
    from speech2lip_jax.data.input_pipeline import make_resident
    return make_resident(self.subject, self.features)

  def expert(self):
    from speech2lip_jax.configs import expert as recipe
    from speech2lip_jax.sync import train_expert as train_expert_module
    short = recipe.get_config().unlock()
    short.train.update(num_steps=2, run_frames=20)
    return train_expert_module.train_expert(self.subject, self.split.train, short, show_progress=False)

  def batches(self, expert=None):
    from speech2lip_jax.data.input_pipeline import TrainBatches
    from speech2lip_jax.sync import expert as sync_expert
    sampler = sync_expert.sync_sampler(expert, self.subject, self.split.train, self.config.sync, seed=0) if expert else None
    return TrainBatches(self.subject, self.split.train, seed=0, batch_size=self.config.train.batch_size,
                        blend_every=self.config.train.blend_every, sync=sampler)

  def prepared(self, phase, lpips=None):
    """The pmapped step of `phase` and its arguments: state, batch, and the others."""
    from speech2lip_jax.common.devices import replicate, shard
    from speech2lip_jax.training import step as train_step
    expert = self.expert() if 'sync' in phase else None
    batch = shard(self.batches(expert).batch(0, with_frames='blend' in phase, with_sync=expert is not None))
    step = train_step.make_train_step(self.model, self.optimizer, self.config)
    state, *others = replicate((self.state, self.resident(), self.constants, train_step.Frozen(expert, lpips)))
    return step, state, batch, others

  def step(self, phase, lpips=None, trace=None):
    """Row of a step in `phase`; trace: see `median_seconds`."""
    step, state, batch, others = self.prepared(phase, lpips)
    work = gflop(step, state, batch, *others)

    def take():
      nonlocal state
      state, metrics = step(state, batch, *others)
      return metrics['loss/total']
    return Row(phase, median_seconds(take, trace=trace), work)

  def predictor(self, batch_size, detail=None):
    from speech2lip_jax.rendering.jaw import open_jaw
    from speech2lip_jax.rendering.predictor import Predictor
    train = self.config.train
    return Predictor(self.model, {'params': self.state.params, 'batch_stats': self.state.batch_stats}, self.constants, self.subject,
                     batch_size, with_blend_net=train.blend_start_step < train.num_steps,
                     jaw=open_jaw(self.subject, self.split.train) if self.config.compose.jaw else None, detail=detail)


def random_lpips():
  import jax
  import jax.numpy as jnp

  from speech2lip_jax.models.lpips import Lpips, Perceptual
  return Perceptual('alex', jax.jit(Lpips().init)(jax.random.key(0), *[jnp.zeros((1, 64, 64, 3))] * 2))


def render_gflop(bench, predictor, num_inputs):
  """Of a frame in a batch of 8, whose field is asked for its places once. num_inputs: of an audio embedding."""
  import jax
  import jax.numpy as jnp
  meta, count = bench.subject.meta, 8
  of = lambda *shape: jnp.zeros((count, *shape))
  model = bench.model.clone(axis_name=None)

  def work(variables, constants, *inputs):
    composition, blended = model.apply(variables, *inputs, constants, method='render')
    return blended if predictor.with_blend_net else composition.merged
  variables = {'params': bench.state.params, 'batch_stats': bench.state.batch_stats}
  shapes = jax.eval_shape(lambda: (of(num_inputs), of().astype(int), of(meta.height, meta.width, 3), of(4, 4)))
  return jax.jit(work).lower(variables, bench.constants, *shapes).cost_analysis()['flops'] / 1e9 / count


def render_rows(bench, batch_sizes, trace=None):
  """Host frames in, host frames out; audio embeddings as they are."""
  rows = []
  for size in batch_sizes:
    predictor, ids = bench.predictor(size), np.resize(bench.split.train, max(4, 2 * size))
    mouths = predictor.mouths_of(predictor.audio_embeddings(bench.features.subject_windows(ids)))
    render = lambda: np.stack([p.rgb_face for p in predictor.from_mouths(ids, mouths)])  # noqa: B023
    seconds = median_seconds(render, trace=trace) / len(ids)
    rows.append(Row(f'render, batches of {size}', seconds, render_gflop(bench, predictor, mouths.audio_embedding.shape[1])))
  return rows


def measure_render(folder):
  import jax
  return render_rows(Bench(folder), (1, 8) if jax.default_backend() == 'cpu' else (1, 8, 64))


def measure_film(folder):
  """By the default recipe and with detail of real mouths (`--config sharp`), of as many mouths as are ever looked through."""
  from speech2lip_jax.rendering import real_detail
  bench = Bench(folder)
  detail = real_detail.open_detail(bench.subject, bench.split.train, 0.7)
  rows = np.resize(np.arange(len(detail.coarse)), real_detail.MOST_FRAMES)
  many = detail._replace(coarse=detail.coarse[rows], rgb_lip=detail.rgb_lip[rows])
  return [Row(f'film, a frame with encoding{name}', film_seconds(folder, bench, bench.predictor(8, detail)))
          for name, detail in (('', None), (', --config sharp', many), ('', None), (', --config sharp', many))]


def film_seconds(folder, bench, predictor, count=200):
  """Seconds of a frame of `speech2lip render`."""
  from speech2lip_jax.rendering import film as film_module
  from speech2lip_jax.rendering import silence
  ids = np.resize(bench.split.train, count)
  mouths = predictor.mouths_of(predictor.audio_embeddings(bench.features.subject_windows(ids)))
  trained = type('Run', (), {'subject': bench.subject, 'predictor': predictor})

  def film(count):
    some = silence.Mouths(mouths.audio_embedding[:count], mouths.rest[:count], mouths.residual)
    sound = np.zeros((1, count * 640), np.int16)
    film_module.Film(trained, ids[:count], some, sound, 16000).write(folder / 'film.mp4')
  film(16)
  start = time.perf_counter()
  film(count)
  return (time.perf_counter() - start) / count


def measure_dispatch(folder, count=10):
  """The same steps, each a dispatch of its own and all in one."""
  import jax
  import jax.numpy as jnp

  from speech2lip_jax.common.devices import shard
  from speech2lip_jax.training import step as train_step
  bench = Bench(folder)
  loader = bench.batches()
  batches = [shard(loader.batch(i, with_frames=False)) for i in range(count)]
  step, one, _, others = bench.prepared('lips')
  many = jax.tree.map(jnp.copy, one)
  scanned = jax.pmap(lambda state, stacked, *rest: jax.lax.scan(lambda s, batch: step.__wrapped__(s, batch, *rest), state, stacked),
                     axis_name=train_step.AXIS, donate_argnums=0)
  stacked, host = jax.tree.map(lambda *x: jnp.stack(x, 1), *batches), []

  def loop():
    nonlocal one
    for batch in batches:
      start = time.perf_counter()
      one, metrics = step(one, batch, *others)
      host.append(time.perf_counter() - start)
    return metrics

  def scan():
    nonlocal many
    many, metrics = scanned(many, stacked, *others)
    return metrics
  return [Row('step, lips, one a dispatch', median_seconds(loop) / count),
          Row(f'step, lips, {count} a dispatch', median_seconds(scan) / count),
          Row("of one dispatch, the host's own time", float(np.median(host[count:])))]


def measure_precision(folder):
  import jax
  rows = []
  for name in ('highest', None, 'bfloat16'):
    with jax.default_matmul_precision(name):
      bench = Bench(folder)
      rows += [dataclasses.replace(row, work=f'{row.work}, precision {name or "of the backend"}')
               for row in (bench.step('lips'), bench.step('blend'), *render_rows(bench, (8,)))]
  return rows


ONE = {'batch_size': 1, 'blend_every': 1, 'lip_pixels': 0}


def measure_step(folder):
  bench = Bench(folder, **ONE)
  rows = [bench.step('blend')]
  bench.config.loss.perceptual_weight = 0.01
  return [dataclasses.replace(rows[0], work='step, one frame'),
          dataclasses.replace(bench.step('blend', random_lpips()), work='step, one frame, with LPIPS')]


def measure_sync(folder):
  bench = Bench(folder, **ONE)
  bench.config.sync.num_windows = 1
  bench.config.loss.perceptual_weight = 0.01
  return [dataclasses.replace(bench.step('blend+sync', random_lpips()), work='step, one frame with LPIPS and a sync window')]


def measure_batch(folder):
  rows = []
  for size in (1, 2, 4, 8):
    row = Bench(folder, **ONE | {'batch_size': size}).step('blend')
    rows.append(Row(f'step, per frame in a batch of {size}', row.seconds / size, row.gflop / size))
  return [*rows, *largest_batches(folder)]


def largest_batches(folder):
  """Rows that name the largest config.train.batch_size that fits, by what the compiler plans for two sizes; time is not theirs."""
  import jax
  stats = jax.local_devices()[0].memory_stats() or {}
  limit = stats.get('bytes_limit') or os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  rows = []
  for phase, sizes in (('lips', (64, 256)), ('blend', (16, 64))):
    planned = [planned_bytes(Bench(folder, batch_size=size), phase) for size in sizes]
    per_frame = (planned[1] - planned[0]) / (sizes[1] - sizes[0])
    largest = int(sizes[0] + (limit - planned[0]) / per_frame) // 16 * 16
    needs = f'{per_frame / 2**20:.2f} MiB each, {limit / 2**30:.0f} GiB free'
    rows.append(Row(f'largest batch in phase {phase}: {largest} frames ({needs})', 0.0))
  return rows


def planned_bytes(bench, phase):
  """Device memory of a step, as compiled."""
  step, state, batch, others = bench.prepared(phase)
  plan = step.lower(state, batch, *others).compile().memory_analysis()
  return plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes


def measure_recipe(folder):
  bench = Bench(folder)
  rows = [bench.step(phase) for phase in ('lips', 'lips+sync', 'blend', 'blend+sync')]
  return [dataclasses.replace(row, work=f'recipe, {row.work}') for row in rows]


def measure_input(folder):
  bench = Bench(folder)
  batches, rows = bench.batches(bench.expert()), []
  for name, flags in (('lips', (False, False)), ('lips+sync', (False, True)), ('blend+sync', (True, True))):
    start = time.perf_counter()
    for step in range(50):
      batches.batch(step, *flags)
    rows.append(Row(f'input, {name}', (time.perf_counter() - start) / 50))
  return rows


def measure_start(folder):
  cache = folder / 'cache'
  rows = []
  for name in ('cold', 'warm'):
    run = folder / f'run_{name}'
    command = [sys.executable, '-m', 'speech2lip_jax', 'train', '--config', str(ROOT / 'configs' / 'default.py'),
               f'--workdir={run}', f'--config.data.path={folder}', '--config.depth.num_frames=0', '--config.train.log_every=1']
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(cache)},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = run / 'log.jsonl'
    while not (log.is_file() and 'loss/total' in log.read_text()):
      if process.poll() is not None:
        raise RuntimeError(f'training ended with {process.returncode}: {" ".join(command)}')
      time.sleep(0.02)
    rows.append(Row(f'start, first step, {name} cache', time.perf_counter() - start))
    process.terminate()
    process.wait()
  return rows


def measure_growth(folder):
  """A step of one frame and a rendered frame against frame size and lip box; the recipe's step against its batch."""
  rows = []

  def add(row, work):
    rows.append(dataclasses.replace(row, work=work))
    print(rows[-1], file=sys.stderr, flush=True)  # minutes go by
  for size, box in ((128, BOX), (256, BOX), (512, BOX), (1024, BOX), (500, (40, 60)), (500, (160, 240))):
    bench = Bench(make_subject(folder / f'{size}_{box[0]}', size, box, num_frames=24), **ONE)
    shape = bench.subject.meta.lip_box
    name = f'{size} px, lip box {shape.height}×{shape.width}'
    add(bench.step('blend'), f'step, {name}')
    add(render_rows(bench, (1,))[0], f'render, {name}')
  for batch_size in (16, 64, 256):
    add(Bench(folder, batch_size=batch_size).step('lips'), f'recipe, lips, batch of {batch_size}')
  return rows


def costliest(trace, count=3):
  """Names and shares of the events that took longest on the device's lines of a trace."""
  from jax.profiler import ProfileData
  path = max(pathlib.Path(trace).rglob('*.xplane.pb'), key=lambda p: p.stat().st_mtime)
  planes = list(ProfileData.from_file(str(path)).planes)
  chosen = [p for p in planes if p.name.startswith('/device:')] or [p for p in planes if p.name.startswith('/host:CPU')]
  total = {}
  for line in (line for plane in chosen for line in plane.lines if 'python' not in line.name.lower()):
    for event in line.events:
      if event.duration_ns and not any(word in event.name for word in ('::', 'Execute', 'ThreadpoolListener', 'end: ', '$')):
        total[event.name] = total.get(event.name, 0) + event.duration_ns
  whole = sum(total.values())
  best = sorted(total, key=total.get, reverse=True)[:count]
  return '; '.join(f'{name} {100 * total[name] / whole:.0f} %' for name in best)


def measure_profile(folder):
  bench, rows = Bench(folder), []
  for name, work in (('step', lambda trace: bench.step('lips', trace=trace)),
                     ('render', lambda trace: render_rows(bench, (8,), trace)[0])):
    row = work(folder / name)
    rows.append(dataclasses.replace(row, work=f'profile, {name}: {costliest(folder / name)}'))
  return rows


def measure_converge(subject):
  """Wall time of a whole training; the validation's own time is part of it."""
  run = pathlib.Path(tempfile.mkdtemp()) / 'run'
  command = [sys.executable, '-m', 'speech2lip_jax', 'train', '--config', str(ROOT / 'configs' / 'default.py'), f'--workdir={run}',
             f'--config.data.path={subject}']
  start, seen, log = time.perf_counter(), {}, run / 'log.jsonl'
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
  while process.poll() is None:
    time.sleep(0.2)
    for line in log.read_text().splitlines() if log.is_file() else ():
      record = json.loads(line) if line.endswith('}') else {}
      if 'metric/psnr_lip_val' in record:
        seen.setdefault(record['step'], (time.perf_counter() - start, record['metric/psnr_lip_val']))
  last = seen[max(seen)][1]
  near = min(seconds for seconds, psnr in seen.values() if psnr >= last - 0.2)
  return [Row(f'converge, within 0.2 dB of {last:.2f} dB', near), Row('converge, whole training', seen[max(seen)][0])]


def measure_torch(folder):
  """Our networks in PyTorch at the subject's shapes, and the released program's work at the frame's size."""
  import torch

  from benchmarks import torch_twin
  torch.manual_seed(0)
  bench = Bench(folder, **ONE)
  meta = bench.subject.meta
  box = (meta.lip_box.top, meta.lip_box.left, meta.lip_box.height, meta.lip_box.width)
  ours = torch_twin.Ours(bench.model.geometry.window, box, bench.config.blend.width)
  released = torch_twin.Released(meta.height, box)
  predictor, ids = bench.predictor(1), bench.split.train[:6]
  mouths = predictor.mouths_of(predictor.audio_embeddings(bench.features.subject_windows(ids)))

  pairs = {
      'render': (lambda: [p.rgb_face for p in predictor.from_mouths(ids, mouths)], len(ids), ours.render, released.render),
      'step': (_repeated_step(bench), 1, ours.step, released.step)}
  rows = []
  for name, (jax_work, count, twin_work, released_work) in pairs.items():
    seconds = {'ours, JAX': [], 'ours, PyTorch': [], 'released program, PyTorch': []}
    works = dict(zip(seconds, ((jax_work, count), (twin_work, 1), (released_work, 1)), strict=True))
    for work, _ in works.values():
      work()
    for _ in range(5):  # in alternation, so that a slower minute of the machine meets all three
      for key, (work, per) in works.items():
        start = time.perf_counter()
        work()
        seconds[key].append((time.perf_counter() - start) / per)
    rows += [Row(f'{name}, {key}', float(np.median(values))) for key, values in seconds.items()]
  return rows


def _repeated_step(bench):
  import jax
  bench.config.loss.perceptual_weight = 0.01
  step, state, batch, others = bench.prepared('blend', random_lpips())

  def take():
    nonlocal state
    state, metrics = step(state, batch, *others)
    jax.block_until_ready(metrics)
  return take


def run_part(part, folder, arguments):
  import jax
  folder = pathlib.Path(folder)
  if part == 'matmul':
    return {'gflop_s': matmul_rate(), 'device': str(jax.devices()[0].device_kind), 'count': jax.device_count()}
  if part == 'converge':
    rows = measure_converge(arguments.subject)
  else:
    rows = globals()[f'measure_{part}'](make_subject(folder, arguments.size))
  peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
  stats = jax.local_devices()[0].memory_stats() or {}
  return {'rows': [dataclasses.asdict(row) for row in rows], 'host_peak_gib': peak,
          'device_peak_gib': stats.get('peak_bytes_in_use', 0) / 2**30}


def print_rows(part, found, rate):
  device = f', device {found["device_peak_gib"]:.2f}' if found['device_peak_gib'] else ''
  for row in found['rows']:
    speed = '|'
    if row['gflop']:
      per_second = row['gflop'] / row['seconds']
      speed = f'{row["gflop"]:.4g} | {per_second:.0f} ({100 * per_second / rate:.0f} %)'
    print(f'| {row["work"]} | {row["seconds"]:.4f} | {speed} | {found["host_peak_gib"]:.1f}{device} |', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--parts', default=','.join(DEFAULT_PARTS))
  parser.add_argument('--size', type=int, default=500)
  parser.add_argument('--against', choices=['torch'])
  parser.add_argument('--json', type=pathlib.Path)
  parser.add_argument('--subject', type=lambda path: pathlib.Path(path).resolve())
  parser.add_argument('--one', help=argparse.SUPPRESS)  # the part that this process measures
  arguments = parser.parse_args()
  if arguments.one:
    with tempfile.TemporaryDirectory() as folder:
      print(json.dumps(run_part(arguments.one, folder, arguments)))
    return
  parts = arguments.parts.split(',') + (['torch'] if arguments.against else [])
  for part in parts:
    if part not in (*PARTS, 'torch'):
      parser.error(f'no part {part!r}; of {", ".join(PARTS)}')
    if part == 'converge' and not arguments.subject:
      parser.error('converge needs --subject SUBJECT')

  def measured(part):
    command = [sys.executable, __file__, *sys.argv[1:], '--one', part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
      sys.exit(f'{part}: failed')
    return json.loads(done.stdout.splitlines()[-1])
  machine = measured('matmul')
  print(f'{machine["count"]} × {machine["device"]}, {platform.machine()}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}; '
        f'4096² float32 product {machine["gflop_s"]:.0f} GFLOP/s; frames of {arguments.size}×{arguments.size}\n')
  print('| work | s | GFLOP | GFLOP/s (of the product\'s) | peak GiB |\n|---|---|---|---|---|')
  results = {'machine': machine, 'size': arguments.size}
  for part in parts:
    results[part] = measured(part)
    print_rows(part, results[part], machine['gflop_s'])
  if arguments.json:
    arguments.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
