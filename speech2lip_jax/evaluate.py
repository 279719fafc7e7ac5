"""Held-out frames against the truth and against what is possible without a model: `speech2lip evaluate --workdir RUN --out DIR`.

Writes metrics.json, a table, and strips.png (true, oracle, ours, baselines). The mouth region of a frame is the set of its
pixels whose C2O falls in the lip box; every picture metric is the mean over frames of the frame's value. With --judge, a sync
expert that nothing was trained against scores the lips of the finished frames; with MediaPipe's landmark model at hand, the
opening of the mouth is compared with the true one. What cannot be had is null in metrics.json, with the reason.
"""
import json
import pathlib
import sys
from collections.abc import Callable, Iterator

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from speech2lip_jax import cli
from speech2lip_jax.atomic import write_text
from speech2lip_jax.common_flags import LANDMARKER, OUT, WORKDIR
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import evenly_spaced, mean_lips, subject_mel_windows
from speech2lip_jax.errors import InputError
from speech2lip_jax.metrics import image as image_metrics
from speech2lip_jax.metrics import opening
from speech2lip_jax.ops import warp
from speech2lip_jax.predict import Prediction, Trained, load_trained
from speech2lip_jax.preprocess import landmarks
from speech2lip_jax.sync_expert import Expert, SyncNetExpert, open_expert, runs_of, score_lips, subject_activity

_JUDGE = flags.DEFINE_string('judge', None, 'Folder of speech2lip expert: one with another seed, of another part of the clips '
                             '(--recipe.data.part), than the one trained against; it scores the sync.')

_BASELINES = flags.DEFINE_bool('baselines', True, 'Score the baselines and the oracle too; --nobaselines: the model alone, in a '
                               'quarter of the time.')

METRICS = ('psnr_lip', 'psnr_img', 'ssim_lip', 'ssim_img')
SYNC_METRICS = ('sync_conf', 'sync_dist', 'sync_conf0', 'sync_acc5')
OPENING_METRICS = ('opening_corr', 'opening_lag_ms', 'opening_amplitude')
NUM_NEAREST = 8
NUM_STRIP_FRAMES = 8


def nearest_windows(queries: np.ndarray, references: np.ndarray, count: int, chunk: int = 256) -> np.ndarray:
  """Indices of the `count` references nearest to each query by Euclidean distance, nearest first: [n, count].

  queries: [n, …], references: [m, …] float32, flattened.
  """
  references = references.reshape(len(references), -1)
  squares = np.square(references).sum(1)
  rows = []
  for start in range(0, len(queries), chunk):
    block = queries[start:start + chunk].reshape(-1, references.shape[1])
    distances = squares - 2 * block @ references.T
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(distances, nearest, 1).argsort(1)
    rows.append(np.take_along_axis(nearest, order, 1))
  return np.concatenate(rows)


def candidates(trained: Trained) -> dict[str, Callable[[], Iterator[Prediction]]]:
  """Everything that is scored, by name: 'model', the oracle, and the baselines, all composed in the same way.

  The baselines take their lips from the frames that are not test frames, validation included; what is nearest is told by
  mel whatever the model hears, so that they stay the same.
  """
  subject, split, steps = trained.subject, trained.split, trained.config.audio.window_steps
  known = np.sort(np.concatenate([split.train, split.val]))
  mel = lambda frame_ids: subject_mel_windows(subject, frame_ids, steps)
  nearest = known[nearest_windows(mel(split.test), mel(known), min(NUM_NEAREST, len(known)))]
  codes = trained.subject_codes(split.test)
  mean = mean_lips(subject, known)
  lips = subject.rgb_lip_canonical
  from_lips = lambda rgb_lip_of_rows: lambda: trained.predictor.from_lips(split.test, rgb_lip_of_rows)
  return {
      'model': lambda: trained.predictor.from_codes(split.test, codes),
      'without_blend_net': lambda: trained.predictor.from_codes(split.test, codes, with_blend_net=False),
      'oracle': from_lips(lambda rows: lips[split.test[rows]] / np.float32(255)),
      'mean_lips': from_lips(lambda rows: np.broadcast_to(mean, (len(rows), *mean.shape))),
      'nearest': from_lips(lambda rows: lips[nearest[rows, 0]] / np.float32(255)),
      'nearest_8_mean': from_lips(lambda rows: lips[nearest[rows]].mean(1, dtype=np.float32) / 255),
  }


def frame_metrics(prediction: Prediction, true: np.ndarray) -> tuple[float, ...]:
  """`METRICS` of a frame; nan over the mouth where its region is empty."""
  mask = prediction.mask_mouth if prediction.mask_mouth.any() else None
  ssim_img, ssim_lip = image_metrics.ssim(prediction.rgb_face, true, mask)
  psnr_lip = image_metrics.psnr(prediction.rgb_face, true, mask) if mask is not None else np.nan
  return psnr_lip, image_metrics.psnr(prediction.rgb_face, true), ssim_lip, ssim_img


class Timing:
  """Gathers what sync and opening need from finished frames of the test split, one after another."""

  def __init__(self, trained: Trained, judge: Expert | None, landmarker: str | None):
    self._subject, self._ids, self._judge = trained.subject, trained.split.test, judge
    self._detector = landmarks.Detector(landmarker) if landmarker else None
    meta, box = self._subject.meta, self._subject.meta.lip_box
    rows, columns = np.mgrid[box.top:box.top + box.height, box.left:box.left + box.width].astype(np.float32)
    self._poses = self._subject.observed_from_canonical

    def read(frame, pose):
      places = warp.observed_points(jnp.stack([columns, rows], -1), self._subject.depth_canonical, pose, meta.focal_px,
                                    meta.canonical_scale)
      return warp.sample_image(warp.spline_coefficients(frame / 255.0), places, 'bspline', 'border')
    self._read = jax.jit(read)
    self._true_opening = None

  def __enter__(self) -> 'Timing':
    if self._detector:
      self._detector.__enter__()
    return self

  def __exit__(self, *error) -> None:
    if self._detector:
      self._detector.__exit__(*error)

  def metrics(self, frames: Iterator[np.ndarray]) -> dict[str, float | None]:
    """`SYNC_METRICS` and `OPENING_METRICS` of frames [H, W, 3] uint8; the true ones must come first."""
    lips, openings = [], []
    for frame_id, frame in zip(self._ids, frames, strict=True):
      if self._judge:
        lips.append(np.asarray(self._read(frame, self._poses[frame_id])))
      if self._detector:
        faces = self._detector.faces(frame)
        seen = landmarks.to_pixels(faces[0], frame.shape[1], frame.shape[0])[None, :, :2] if len(faces) else None
        openings.append(np.nan if seen is None else opening.lip_opening(seen)[0])
    result = dict.fromkeys(SYNC_METRICS + OPENING_METRICS)
    if self._judge:
      activity = subject_activity(self._subject, self._ids)
      rgb_lip = np.round(np.clip(lips, 0, 1) * 255).astype(np.uint8)
      scores = score_lips(self._judge, self._subject, self._ids, rgb_lip, activity).metrics()
      result |= {name: scores[name] for name in SYNC_METRICS}
    if self._detector:
      openings = _filled(np.array(openings))
      if self._true_opening is None:
        self._true_opening = openings
      result |= opening.agreement(openings, self._true_opening, runs_of(self._subject, self._ids), schema.FPS)
    return {name: None if value is None or np.isnan(value) else value for name, value in result.items()}


def _filled(values: np.ndarray) -> np.ndarray:
  """Values [n] with those that are nan (no face was found) taken from their neighbours; all nan stays."""
  known = np.isfinite(values)
  return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known]) if known.any() else values


def evaluate(trained: Trained, out: pathlib.Path, judge: Expert | None = None, landmarker: str | None = None,
             baselines: bool = True) -> dict:
  """Scores the test split and writes metrics.json, table.md and strips.png into `out`; returns metrics.json's contents.

  judge: see --judge. landmarker: path of MediaPipe's model. baselines: see --baselines.
  """
  test, frames = trained.split.test, trained.subject.frames
  columns = evenly_spaced(np.arange(len(test)), NUM_STRIP_FRAMES)
  everything = {name: make for name, make in candidates(trained).items() if baselines or name == 'model'}
  bar = tqdm(total=(len(everything) + 1) * len(test), unit='frame', dynamic_ncols=True)

  def finished(predictions, rows, strip):
    """The frames of predictions, their picture metrics put into `rows` on the way."""
    for i, prediction in enumerate(predictions):
      rows.append(frame_metrics(prediction, frames[test[i]]))
      if i in columns:
        strip.append(prediction.rgb_face)
      bar.update()
      yield prediction.rgb_face

  def true_frames():
    for i in test:
      bar.update()
      yield frames[i]

  results, strips = {}, [('true', [frames[test[i]] for i in columns])]
  with Timing(trained, judge, landmarker) as timing:
    bar.set_description('truth')
    truth = timing.metrics(true_frames())
    for name, predictions in everything.items():
      bar.set_description(name)
      rows, strip = [], []
      timed = timing.metrics(finished(predictions(), rows, strip))
      results[name] = dict(zip(METRICS, np.nanmean(rows, axis=0).tolist(), strict=True)) | timed
      strips.append((name, strip))
  bar.close()

  reasons = {}
  if judge is None:
    reasons |= dict.fromkeys(SYNC_METRICS, 'no judge: give --judge, a folder of speech2lip expert')
  if landmarker is None:
    reasons |= dict.fromkeys(OPENING_METRICS, 'no landmark model, or no mediapipe: give --landmarker or $SPEECH2LIP_LANDMARKER')
  others = {'truth': truth} | {name: row for name, row in results.items() if name != 'model'}
  record = results['model'] | {'num_frames': len(test), 'checkpoint_step': trained.step, 'baselines': others}
  if reasons:
    record['reasons'] = reasons
  out.mkdir(parents=True, exist_ok=True)
  write_text(out / 'metrics.json', json.dumps(record, indent=1) + '\n')
  write_text(out / 'table.md', table({'truth': truth} | results))
  rows = [np.hstack(images) for _, images in strips]
  cv2.imwrite(str(out / 'strips.png'), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
  return record


COLUMNS = {'psnr_lip': ('psnr_lip dB ↑', '.2f'), 'psnr_img': ('psnr_img dB ↑', '.2f'), 'ssim_lip': ('ssim_lip ↑', '.4f'),
           'ssim_img': ('ssim_img ↑', '.4f'), 'sync_conf': ('sync_conf ↑', '.3f'), 'sync_dist': ('sync_dist ↓', '.3f'),
           'sync_conf0': ('conf0 ↑', '.3f'), 'sync_acc5': ('acc5 ↑', '.3f'), 'opening_corr': ('opening corr ↑', '.3f'),
           'opening_lag_ms': ('lag ms', '.1f'), 'opening_amplitude': ('amplitude →1', '.2f')}


def table(results: dict[str, dict[str, float | None]]) -> str:
  """The results as a Markdown table, a row each; columns that nobody has a value in are left out."""
  columns = [name for name in COLUMNS if any(row.get(name) is not None for row in results.values())]
  lines = ['| | ' + ' | '.join(COLUMNS[name][0] for name in columns) + ' |', '|---' * (len(columns) + 1) + '|']
  cell = lambda row, name: '–' if row.get(name) is None else format(row[name], COLUMNS[name][1])
  lines += [f'| {name} | ' + ' | '.join(cell(row, column) for column in columns) + ' |' for name, row in results.items()]
  return '\n'.join(lines) + '\n'


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not WORKDIR.value or not OUT.value:
    raise InputError('--workdir (of a training run) and --out (a folder for the results) are needed')
  landmarker = landmarks.model_at_hand(LANDMARKER.value)
  trained = load_trained(WORKDIR.value)
  judge = open_expert(_JUDGE.value, trained.subject) if _JUDGE.value else None
  if isinstance(judge, SyncNetExpert):
    raise InputError(f'--judge={_JUDGE.value}: SyncNet looks at whole faces, and a jaw gives the speech away whatever the lips do; '
                     'give a folder of speech2lip expert')
  out = pathlib.Path(OUT.value)
  evaluate(trained, out, judge, landmarker, _BASELINES.value)
  print((out / 'table.md').read_text())
  print(f'{len(trained.split.test)} held-out frames, checkpoint of step {trained.step}; {out}/metrics.json, {out}/strips.png')


if __name__ == '__main__':
  cli.run_verb('evaluate', sys.modules[__name__], sys.argv)
