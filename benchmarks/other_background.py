"""Does a mouth follow its speech, or the jaw of the frame that it is painted into?

    python benchmarks/other_background.py --judge JUDGE RUN [RUN ...]

Held-out speech is put on its own frames and on those of the next held-out clip (of one clip: its other half), without and
with Blend-Net. Read back out of the finished frames, the canonical lips are held against the lips and the speech that they
belong to, and against those of the frames that they were put on. A network that looks at the true frame around the mouth can
learn to read the mouth off the jaw: on its own frames that scores better than speech allows, on others it is wrong.

psnr: dB, of canonical lips; conf0, acc5: see `speech2lip_jax/metrics/sync.py`. JUDGE: of `speech2lip expert`.
"""
import argparse

import numpy as np

from speech2lip_jax.data.dataset import runs_of
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.sync.expert import open_expert
from speech2lip_jax.sync.judge import LipJudge
from speech2lip_jax.sync.scores import score_lips, subject_activity


def pairs_of_rows(runs, shift):
  """Rows of speech and of the frames that they are put on: runs against the runs `shift` places on, cut to the shorter."""
  pairs = []
  for i, rows in enumerate(runs):
    others = runs[(i + shift) % len(runs)]
    count = min(len(rows), len(others))
    pairs.append((rows[:count], others[:count]))
  return [np.concatenate(side) for side in zip(*pairs, strict=True)]


def psnr(lips, true):
  error = np.square(lips.astype(np.float32) - true).mean((1, 2, 3))
  return np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-6)))


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--judge', required=True)
  parser.add_argument('runs', nargs='+')
  arguments = parser.parse_args()
  print('| run | frames | Blend-Net | conf0, own speech | acc5 | psnr, own lips | conf0, the frames\' speech | psnr, their lips |')
  print('|---|---|---|---|---|---|---|---|')
  for run in arguments.runs:
    trained = load_trained(run)
    subject, test, predictor = trained.subject, trained.split.test, trained.predictor
    expert, runs = open_expert(arguments.judge, subject), runs_of(subject, test)
    if len(runs) == 1:
      half = len(runs[0]) // 2
      runs = [runs[0][:half], runs[0][half:2 * half]]
    audio_embedding = trained.subject_mouths(test).audio_embedding
    for shift, name in ((0, 'own'), (1, 'other')):
      speech, frames = pairs_of_rows(runs, shift)
      for with_blend_net in (False, True):
        judge = LipJudge(expert, subject, test[frames])
        predictions = predictor.from_mouths(test[frames], predictor.mouths_of(audio_embedding[speech]), with_blend_net)
        lips = np.stack([judge.view(row, prediction.rgb_face) for row, prediction in enumerate(predictions)])
        own, theirs = (score_lips(expert, subject, test[rows], lips, subject_activity(subject, test[rows])).metrics()
                       for rows in (speech, frames))
        near = [psnr(lips, np.asarray(subject.rgb_lip_canonical[test[rows]])) for rows in (speech, frames)]
        print(f'| {run} | {name} | {"with" if with_blend_net else "without"} | {own["sync_conf0"]:.3f} | {own["sync_acc5"]:.3f} | '
              f'{near[0]:.2f} | {theirs["sync_conf0"]:.3f} | {near[1]:.2f} |', flush=True)


if __name__ == '__main__':
  main()
