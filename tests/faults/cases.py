"""The commands that are disturbed: each verb at its smallest, and what it reads."""
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


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


def _searched_trials_of_a_moment(home: pathlib.Path) -> None:
  """Likewise a search's; a killed process's turn is over soon."""
  from speech2lip_jax.sweeps import search
  _trials_of_a_moment(home)
  search.TURN_S = 3


def tiny_config():
  """The smoke recipe in two steps of its first phase: one compilation."""
  from speech2lip_jax.configs import smoke
  config = smoke.get_config().unlock()
  config.train.update(num_steps=4, blend_start_step=100, eval_every=2, lip_pixels=16, blend_every=1, batch_size=2)
  config.data.num_val_frames, config.depth.num_frames, config.perceptual.start_step = 2, 0, 100
  config.linear.share = config.linear.amplitude = 0.0
  config.field.width, config.compose.jaw = 8, False
  return config.lock()


TINY = 'from tests.faults.cases import tiny_config as get_config\n'
SWEEP = TINY + "\n\ndef get_hyper(hyper):\n  return hyper.sweep('seed', [0, 1])\n"
SEARCH = TINY + "\n\ndef get_hyper(hyper):\n  return hyper.space(hyper.integer('seed', 0, 100))\n"


def _old_files(*names: str) -> Callable[[pathlib.Path, pathlib.Path], None]:
  def write(home, out):
    out.mkdir(parents=True)
    for name in names:
      shutil.copy(home / 'talk.mp4', out / name)
  return write


def finished_subject(home: pathlib.Path, out: pathlib.Path) -> None:
  shutil.copytree(home / 'subject', out)


CASES = {
    'preprocess': Case(('preprocess', '--video={home}/talk.mp4', '--tracks={home}/talk.npz', '--size=64', '--out={out}'),
                       _preprocess_in_threads),
    'preprocess, another size': Case(
        ('preprocess', '--video={home}/talk.mp4', '--tracks={home}/talk.npz', '--size=72', '--out={out}'),
        _preprocess_in_threads, finished_subject),
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
    'sweep, a search': Case(('sweep', '--config={home}/search.py', '--workdir={out}', '--config.data.path={home}/toy',
                             '--num_trials=2'), _searched_trials_of_a_moment),
    'convert lpips': Case(('convert', '--kind=lpips', '--src=lpips.pth', '--out={out}/lpips.npz'), _golden_files,
                          _old_files('lpips.npz'), ('lpips.npz',)),
    'convert syncnet': Case(('convert', '--kind=syncnet', '--src={home}/tiny.py', '--out={out}'), _golden_files),
    'demo': Case(('demo', '--workdir={out}', '--size=64', '--seconds=4', '--steps=2'), _preprocess_in_threads),
}


def write_inputs(home: pathlib.Path) -> None:
  """What the cases read, but for what other cases make."""
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
  (home / 'search.py').write_text(SEARCH)
