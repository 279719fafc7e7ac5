"""Goes the whole way without a download.

    speech2lip demo --workdir demo

Makes a video of a synthetic subject (`synthetic.subject`), preprocesses it, trains by configs/demo.py, renders the held-out
frames and a foreign sound, and evaluates. Each step calls the verb's own function; given again, it goes on where it was.

    DIR/talk.mp4, talk.npz     the video, and its truth
    DIR/subject/               what preprocess makes of it
    DIR/run/                   training
    DIR/held_out.mp4           frames that training never saw, with their own sound
    DIR/foreign.mp4, .wav      another voice, which the subject never heard
    DIR/eval/                  report.html, metrics.json, table.md, strips.png
    DIR/sheet.png              true held-out frames, ours, and frames of foreign.mp4
"""
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes, usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic, write_text
from speech2lip_jax.common.flags import CERTIFICATE, KEY, LABEL, LANDMARKER, PROVENANCE, SIZE, WORKDIR
from speech2lip_jax.provenance.origin import DISCLOSED, Disclosure, Origin

if TYPE_CHECKING:
  from speech2lip_jax.rendering.person import Person

DEFAULT_SIZE, SECONDS = 256, 80.0
MOTION = 'nodding'
NUM_COLUMNS = 6

_SECONDS = flags.DEFINE_float('seconds', SECONDS, 'Length of the video that the demo makes.', lower_bound=4.0)
_STEPS = flags.DEFINE_integer('steps', None, 'Training steps; by default as configs/demo.py says.', lower_bound=2)
_SEED = flags.DEFINE_integer('seed', 0, 'What the subject says and how it moves.', lower_bound=0)
flags.declare_key_flag('workdir')
flags.declare_key_flag('size')
flags.declare_key_flag('landmarker')
flags.declare_key_flag('provenance')
flags.declare_key_flag('label')
flags.declare_key_flag('certificate')
flags.declare_key_flag('key')


class DemoFiles(NamedTuple):
  """What the demo leaves, absolute paths. metrics: the contents of metrics_json."""
  clip: pathlib.Path
  contact_sheet: pathlib.Path
  held_out: pathlib.Path
  foreign: pathlib.Path
  sheet: pathlib.Path
  table: pathlib.Path
  report: pathlib.Path
  metrics_json: pathlib.Path
  metrics: dict[str, Any]


def run(workdir: os.PathLike | str, size: int = DEFAULT_SIZE, seconds: float = SECONDS, steps: int | None = None, seed: int = 0,
        landmarker: str | None = None, disclosure: Disclosure = DISCLOSED) -> DemoFiles:
  """Runs the demo, or what is left of it.

  Args:
    workdir: folder for everything; new, or of a demo with the same values.
    size: side of the video and of the subject's frames, pixels, a multiple of 4.
    seconds: length of the video; the last 15 % are held out.
    steps: training steps; None takes configs/demo.py's.
    seed: of the subject.
    landmarker: MediaPipe's face_landmarker.task. None looks where `preprocess` does but never downloads: without the
      model the landmarks come with the video.
    disclosure: what the videos say of themselves.

  Raises:
    InputError: the workdir is a file, holds other things or a demo with other values, or a value is out of range.
  """
  work = pathlib.Path(workdir).absolute()
  disclosure.signer()  # a bad certificate is told first
  _claim(work, {'size': size, 'seconds': seconds, 'steps': steps, 'seed': seed})
  started = time.monotonic()
  clip, subject, run_dir = work / 'talk.mp4', work / 'subject', work / 'run'
  held_out, foreign, sheet = work / 'held_out.mp4', work / 'foreign.mp4', work / 'sheet.png'

  def step(title: str, outputs: list[pathlib.Path], function: Callable[[], Any]) -> None:
    if all(path.exists() for path in outputs):
      return
    print(f'\n[{time.monotonic() - started:4.0f} s] {title}', flush=True)
    function()

  step(f'a talking head, {seconds:g} s at {size} px → {clip.name}', [clip, clip.with_suffix('.npz')],
       lambda: _make_clip(clip, size, seconds, seed))
  step('preprocess', [subject / 'meta.json'], lambda: _preprocess(clip, subject, size, landmarker))
  config = demo_config(subject, steps)
  step(f'train, {config.train.num_steps} steps', [run_dir / 'checkpoints' / str(config.train.num_steps)],
       lambda: _train(config, run_dir))

  @functools.cache
  def person() -> 'Person':
    from speech2lip_jax.rendering.person import open_person
    return open_person(run_dir, disclosure=disclosure)

  step(f'render the held-out frames → {held_out.name}', [held_out], lambda: person().held_out().write(held_out))
  step(f'render a foreign sound → {foreign.name}', [foreign], lambda: _render_foreign(person(), foreign))
  metrics_json, report = work / 'eval' / 'metrics.json', work / 'eval' / 'report.html'
  step('evaluate', [metrics_json, report], lambda: _evaluate(person().trained, work / 'eval', run_dir, landmarker))
  step(f'contact sheet → {sheet.name}', [sheet], lambda: _write_sheet(
      person().trained, held_out, foreign, sheet, disclosure.origin(run_dir, person().trained.digest)))
  return DemoFiles(clip, subject / 'contact_sheet.png', held_out, foreign, sheet, metrics_json.with_name('table.md'), report,
                   metrics_json, json.loads(metrics_json.read_text()))


def _claim(work: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes demo.json with the demo's values, or checks that the one there says the same."""
  if work.exists() and not work.is_dir():
    raise InputError(f'--workdir {work}: is a file; give a folder')
  from speech2lip_jax.preprocess import pipeline
  if values['size'] < pipeline.MIN_SIZE or values['size'] % 4:
    raise InputError(f'--size {values["size"]}: must be at least {pipeline.MIN_SIZE} and a multiple of 4; give {DEFAULT_SIZE}')
  record = work / 'demo.json'
  if record.is_file():
    try:
      there = json.loads(record.read_text())
    except ValueError as error:
      raise InputError(f'{record}: damaged ({error}); give another --workdir') from error
    for name, value in values.items():
      if there.get(name) != value:
        raise InputError(f'{record}: this demo was begun with {name}={there.get(name)}, now {value}; '
                         'give the same to go on, or another --workdir')
    return
  if work.is_dir() and any(not path.name.startswith('.demo.') for path in work.iterdir()):  # what a stopped demo was writing
    raise InputError(f'--workdir {work}: holds other files and no demo; give a new or empty folder')
  work.mkdir(parents=True, exist_ok=True)
  write_text(record, json.dumps(values) + '\n')


def _make_clip(clip: pathlib.Path, size: int, seconds: float, seed: int) -> None:
  from speech2lip_jax.synthetic import subject
  subject.make_clip(clip, size, seconds, seed, MOTION, progress=True)


def _preprocess(clip: pathlib.Path, subject: pathlib.Path, size: int, landmarker: str | None) -> None:
  from speech2lip_jax.preprocess import landmarks, pipeline
  model = landmarks.model_at_hand(landmarker)
  if model:
    print(f'landmarks: found in the video by {model}')
    pipeline.preprocess([str(clip)], subject, size, model)
  else:
    tracks = clip.with_suffix('.npz')
    print(f'landmarks: the exact ones of {tracks.name}, since there is no landmark model here (--landmarker)')
    pipeline.preprocess([str(clip)], subject, size, tracks=[str(tracks)])


def demo_config(subject: pathlib.Path, steps: int | None):
  """configs/demo.py for this subject; with `steps`, phases and intervals shrink alike."""
  config = recipes.load('demo').get_config().unlock()
  config.data.path = str(subject)
  train = config.train
  if steps:
    share = steps / train.num_steps
    train.eval_every = max(1, round(train.eval_every * share))
    train.warmup_steps = max(1, round(train.warmup_steps * min(1, share)))
    train.num_steps = steps
  return config.lock()


def _train(config, run_dir: pathlib.Path) -> None:
  from speech2lip_jax.training.loop import train_and_evaluate
  train_and_evaluate(config, str(run_dir))


def _render_foreign(person: 'Person', out: pathlib.Path) -> None:
  from scipy.io import wavfile

  from speech2lip_jax.data import schema
  from speech2lip_jax.synthetic import speech
  with open_atomic(out.with_suffix('.wav')) as file:
    wavfile.write(file, schema.SAMPLE_RATE, speech.foreign_sound())
  person.say(out.with_suffix('.wav')).write(out)


def _evaluate(trained, out: pathlib.Path, run_dir: pathlib.Path, landmarker: str | None) -> None:
  from speech2lip_jax.preprocess import landmarks
  from speech2lip_jax.report.held_out import evaluate
  evaluate(trained, out, landmarker=landmarks.model_at_hand(landmarker), workdir=run_dir)


def _write_sheet(trained, held_out: pathlib.Path, foreign: pathlib.Path, out: pathlib.Path, origin: Origin | None) -> None:
  """Three rows: true held-out frames, ours, and the subject saying the foreign sound."""
  import numpy as np

  from speech2lip_jax.common.pictures import write_png
  from speech2lip_jax.data.dataset import evenly_spaced
  from speech2lip_jax.preprocess import video
  test = trained.split.test
  rows = evenly_spaced(np.arange(len(test)), NUM_COLUMNS)

  def pick(path, wanted):
    info = video.probe(str(path))
    return [np.array(frame) for i, (_, frame) in enumerate(video.read_frames(info, 0, info.num_frames)) if i in wanted]

  num_foreign = video.probe(str(foreign)).num_frames
  parts = [[trained.subject.frames[i] for i in test[rows]], pick(held_out, rows),
           pick(foreign, evenly_spaced(np.arange(num_foreign), len(rows)))]
  picture = np.vstack([np.hstack(part) for part in parts])
  write_png(out, picture, origin._replace(is_marked=False).sign if origin else None)


def main() -> None:
  """The verb."""
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for everything that the demo makes')
  started = time.monotonic()
  size = DEFAULT_SIZE if SIZE.value is None else SIZE.value  # preprocess's own default is for real videos
  files = run(WORKDIR.value, size, _SECONDS.value, _STEPS.value, _SEED.value, LANDMARKER.value,
              Disclosure(PROVENANCE.value, LABEL.value, CERTIFICATE.value, KEY.value))
  print('\n' + files.table.read_text())
  mean = files.metrics['baselines']['mean_lips']['psnr_lip']
  print(f'the mouth of {files.metrics["num_frames"]} held-out frames: {files.metrics["psnr_lip"]:.2f} dB, '
        f'their mean lips {mean:.2f} dB; {time.monotonic() - started:.0f} s')
  print(f'videos:  {files.held_out}  (held-out frames)\n         {files.foreign}  (another voice)')
  print(f'picture: {files.sheet}  (true, ours, another voice)\nreport:  {files.report}\nmetrics: {files.metrics_json}')
  print(usage.next_command('preprocess', video='YOUR_VIDEO.mp4', out='subjects/you'))


if __name__ == '__main__':
  cli.run_verb('demo', sys.modules[__name__], sys.argv)
