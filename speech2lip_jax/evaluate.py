"""Held-out frames against the truth and against what is possible without a model: `speech2lip evaluate --workdir RUN --out DIR`.

Writes metrics.json, a table, and strips.png (true, oracle, ours, baselines). The mouth region of a frame is the set of its
pixels whose C2O falls in the lip box; every metric is the mean over frames of the frame's value.
"""
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from tqdm import tqdm

from speech2lip_jax import cli
from speech2lip_jax.common_flags import OUT, WORKDIR
from speech2lip_jax.data.dataset import evenly_spaced, mean_lips, subject_mel_windows
from speech2lip_jax.errors import InputError
from speech2lip_jax.metrics import image as image_metrics
from speech2lip_jax.predict import Prediction, Trained, load_trained

METRICS = ('psnr_lip', 'psnr_img', 'ssim_lip', 'ssim_img')
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

  The baselines take their lips from the frames that are not test frames, validation included.
  """
  subject, split, steps = trained.subject, trained.split, trained.config.audio.window_steps
  known = np.sort(np.concatenate([split.train, split.val]))
  windows = subject_mel_windows(subject, split.test, steps)
  nearest = known[nearest_windows(windows, subject_mel_windows(subject, known, steps), min(NUM_NEAREST, len(known)))]
  mean = mean_lips(subject, known)
  lips = subject.rgb_lip_canonical
  from_lips = lambda rgb_lip_of_rows: lambda: trained.predictor.from_lips(split.test, rgb_lip_of_rows)
  return {
      'model': lambda: trained.predictor.from_speech(split.test, windows),
      'without_blend_net': lambda: trained.predictor.from_speech(split.test, windows, with_blend_net=False),
      'oracle': from_lips(lambda rows: lips[split.test[rows]] / np.float32(255)),
      'mean_lips': from_lips(lambda rows: np.broadcast_to(mean, (len(rows), *mean.shape))),
      'nearest': from_lips(lambda rows: lips[nearest[rows, 0]] / np.float32(255)),
      'nearest_8_mean': from_lips(lambda rows: lips[nearest[rows]].mean(1, dtype=np.float32) / 255),
  }


def score(predictions: Iterator[Prediction], truth: Iterator[np.ndarray]) -> dict[str, float]:
  """Mean of `METRICS` over frames; frames whose mouth region is empty count for the whole-frame metrics only."""
  rows = []
  for prediction, true in zip(predictions, truth, strict=True):
    mask = prediction.mask_mouth if prediction.mask_mouth.any() else None
    ssim_img, ssim_lip = image_metrics.ssim(prediction.rgb_face, true, mask)
    psnr_lip = image_metrics.psnr(prediction.rgb_face, true, mask) if mask is not None else np.nan
    rows.append((psnr_lip, image_metrics.psnr(prediction.rgb_face, true), ssim_lip, ssim_img))
  return dict(zip(METRICS, np.nanmean(rows, axis=0).tolist(), strict=True))


def evaluate(trained: Trained, out: pathlib.Path) -> dict:
  """Scores the test split and writes metrics.json, table.md and strips.png into `out`; returns metrics.json's contents."""
  test, frames = trained.split.test, trained.subject.frames
  columns = evenly_spaced(np.arange(len(test)), NUM_STRIP_FRAMES)
  results, strips = {}, [('true', [frames[test[i]] for i in columns])]
  everything = candidates(trained)
  bar = tqdm(total=len(everything) * len(test), unit='frame', dynamic_ncols=True)
  for name, predictions in everything.items():
    strip = []

    def watched(predictions=predictions, strip=strip):
      for i, prediction in enumerate(predictions()):
        if i in columns:
          strip.append(prediction.rgb_face)
        bar.update()
        yield prediction

    bar.set_description(name)
    results[name] = score(watched(), (frames[i] for i in test))
    strips.append((name, strip))
  bar.close()

  record = results['model'] | {'num_frames': len(test), 'checkpoint_step': trained.step,
                               'baselines': {name: row for name, row in results.items() if name != 'model'}}
  out.mkdir(parents=True, exist_ok=True)
  _write_text(out / 'metrics.json', json.dumps(record, indent=1) + '\n')
  _write_text(out / 'table.md', table(results))
  rows = [np.hstack(images) for _, images in strips]
  cv2.imwrite(str(out / 'strips.png'), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
  return record


def table(results: dict[str, dict[str, float]]) -> str:
  """The results as a Markdown table, a row each."""
  lines = ['| | psnr_lip dB ↑ | psnr_img dB ↑ | ssim_lip ↑ | ssim_img ↑ |', '|---|---|---|---|---|']
  for name, row in results.items():
    lines.append(f'| {name} | {row["psnr_lip"]:.2f} | {row["psnr_img"]:.2f} | {row["ssim_lip"]:.4f} | {row["ssim_img"]:.4f} |')
  return '\n'.join(lines) + '\n'


def _write_text(path: pathlib.Path, text: str) -> None:
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not WORKDIR.value or not OUT.value:
    raise InputError('--workdir (of a training run) and --out (a folder for the results) are needed')
  trained = load_trained(WORKDIR.value)
  out = pathlib.Path(OUT.value)
  evaluate(trained, out)
  print((out / 'table.md').read_text())
  print(f'{len(trained.split.test)} held-out frames, checkpoint of step {trained.step}; {out}/metrics.json, {out}/strips.png')


if __name__ == '__main__':
  cli.run_verb('evaluate', sys.modules[__name__], sys.argv)
