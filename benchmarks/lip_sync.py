"""How well do trained models keep time, and what does the sync loss change? Judged on the canonical lips of held-out frames.

    speech2lip expert --subject SUBJECT --workdir JUDGE --recipe.data.part=odd --recipe.seed=1
    python benchmarks/lip_sync.py --judge JUDGE RUN [RUN ...]

RUN: workdirs of `speech2lip train` on one subject. Rows: the truth, the truth late by 1, 2 and 3 frames, a frozen mouth, mean
lips, the mean of the 8 nearest mel windows, and the models. psnr: of the canonical lip image, dB; conf0, acc5, ±1: see
`speech2lip_jax/metrics/sync.py`; motion: standard deviation of the lips over time against the true one.
"""
import argparse

import numpy as np

from speech2lip_jax.data.dataset import mean_lips, runs_of, subject_mel_windows
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.report.held_out import NUM_NEAREST, nearest_windows
from speech2lip_jax.sync.expert import open_expert
from speech2lip_jax.sync.scores import score_lips, subject_activity


def late(lips, runs, frames):
  moved = lips.copy()
  for rows in runs:
    moved[rows] = lips[np.maximum(rows - frames, rows[0])]
  return moved


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--judge', required=True)
  parser.add_argument('runs', nargs='+')
  arguments = parser.parse_args()
  trained = load_trained(arguments.runs[0])
  subject, split, steps = trained.subject, trained.split, 32
  test, known = split.test, np.sort(np.concatenate([split.train, split.val]))
  judge = open_expert(arguments.judge, subject)
  activity, true, runs = subject_activity(subject, test), np.asarray(subject.rgb_lip_canonical[test]), runs_of(subject, test)
  mel = lambda ids: subject_mel_windows(subject, ids, steps)
  nearest = known[nearest_windows(mel(test), mel(known), NUM_NEAREST)]
  still = np.broadcast_to(true[len(true) // 2], true.shape)
  mean = np.broadcast_to(np.round(255 * mean_lips(subject, known)).astype(np.uint8), true.shape)
  rows = {'truth': true} | {f'truth {k} late': late(true, runs, k) for k in (1, 2, 3)}
  rows |= {'frozen mouth': still, 'mean lips': mean,
           '8-nearest': np.stack([subject.rgb_lip_canonical[ids].mean(0).round().astype(np.uint8) for ids in nearest])}
  for run in arguments.runs:
    trained = load_trained(run)
    rows[run] = trained.predictor.painted_lips(split.test, trained.subject_mouths(split.test))
  print('| lips | psnr dB | conf0 | acc5 | ±1 % | motion |\n|---|---|---|---|---|---|')
  spread = lambda lips: np.mean([lips[rows].astype(np.float32).std(0).mean() for rows in runs])
  for name, lips in rows.items():
    scores = score_lips(judge, subject, test, lips, activity).metrics()
    error = np.square(lips.astype(np.float32) - true).mean((1, 2, 3))
    psnr = np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-6)))
    print(f'| {name} | {psnr:.2f} | {scores["sync_conf0"]:.3f} | {scores["sync_acc5"]:.3f} | '
          f'{100 * scores["sync_within_one"]:.0f} | {spread(lips) / spread(true):.2f} |')


if __name__ == '__main__':
  main()
