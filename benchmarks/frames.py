"""Twenty held-out mouths of a run beside those of another: what is still wrong, and what a change did to it.

    python benchmarks/frames.py RUN --before RUN0 --out FILE.png

Rows: the true mouth, RUN0's, RUN's, and what RUN's differs in from the true one, three times enlarged. The frames are evenly
spaced in the order of the true mouth's opening, closed ones first; a heading is the frame's number and that opening by landmarks,
in thousandths of the face's height. Both runs are of one subject and one split.
"""
import argparse

import cv2
import numpy as np

from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.metrics.opening import lip_opening
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.report.pictures import DIFFERENCE_NAME, close_up, difference, mouth_square, named_rows, stacked
from speech2lip_jax.report.scoring import Pair

NUM_FRAMES, PER_SHEET, ENLARGED = 20, 10, 3


def by_opening(opening, count):
  """Rows of `opening` [n], evenly spaced in ascending order of it: [count]."""
  return evenly_spaced(np.argsort(opening, kind='stable'), count)


def predictions(trained, rows):
  """The model's test frames `rows`: of all of them come the mouths, since their neighbours matter."""
  test = trained.split.test
  mouths = trained.subject_mouths(test)
  some = mouths._replace(audio_embedding=mouths.audio_embedding[rows], rest=mouths.rest[rows])
  return list(trained.predictor.from_mouths(test[rows], some))


def sheets(pairs, before, names, headings):
  """Pictures of `PER_SHEET` columns each.

  pairs: of the run's frames. before: the other run's pictures, [H, W, 3] uint8 each. names: the other run's, the run's.
  headings: of the columns.
  """
  size = ENLARGED * max(mouth_square(pair)[2] for pair in pairs)
  made = []
  for start in range(0, len(pairs), PER_SHEET):
    part = slice(start, start + PER_SHEET)
    shown = ([pair.true for pair in pairs[part]], before[part], [pair.rgb for pair in pairs[part]])
    true, old, new = ([close_up(*pair_and_picture, size) for pair_and_picture in zip(pairs[part], pictures, strict=True)]
                      for pictures in shown)
    differences = [difference(*both) for both in zip(new, true, strict=True)]
    made.append(named_rows([('true', true), (f'before: {names[0]}', old), (f'after: {names[1]}', new),
                            (DIFFERENCE_NAME, differences)], headings[part]))
  return made


def main():
  """Writes the picture."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('run')
  parser.add_argument('--before', required=True)
  parser.add_argument('--out', required=True)
  arguments = parser.parse_args()
  trained, before = load_trained(arguments.run), load_trained(arguments.before)
  subject, test = trained.subject, trained.split.test
  if subject.folder.resolve() != before.subject.folder.resolve() or not np.array_equal(test, before.split.test):
    parser.error(f'{arguments.run} and {arguments.before} have other test frames; give two runs of one subject and one split')
  opening = lip_opening(np.asarray(subject.landmarks[test]))
  rows = by_opening(opening, NUM_FRAMES)
  pairs = [Pair(prediction.rgb_face, np.array(subject.frames[test[row]]), prediction.mask_mouth)
           for row, prediction in zip(rows, predictions(trained, rows), strict=True)]
  others = [prediction.rgb_face for prediction in predictions(before, rows)]
  headings = [f'{test[row]}: {1000 * opening[row]:.0f}' for row in rows]
  made = sheets(pairs, others, (arguments.before, arguments.run), headings)
  cv2.imwrite(arguments.out, cv2.cvtColor(stacked(made), cv2.COLOR_RGB2BGR))


if __name__ == '__main__':
  main()
