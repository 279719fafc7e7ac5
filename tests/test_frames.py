"""The picture of twenty held-out mouths beside another run's."""
import numpy as np

from benchmarks import frames
from speech2lip_jax.report import pictures
from speech2lip_jax.report.scoring import Pair


def test_frames_go_from_the_most_closed_to_the_most_open():
  opening = np.random.default_rng(0).permutation(200) / 1000
  rows = frames.by_opening(opening, 20)
  np.testing.assert_allclose(opening[rows], np.arange(20) / 100 + 0.005)
  assert len(frames.by_opening(opening[:7], 20)) == 7, 'fewer frames are all shown'


def test_the_same_place_of_true_before_and_after_stands_one_below_another():
  mask = np.zeros((96, 96), bool)
  mask[50:70, 30:60] = True
  true, before, after = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3), np.uint8)
  sheets = frames.sheets([Pair(after, true, mask)] * 12, [before] * 12, ['run 0', 'run 1'], [f'{i}' for i in range(12)])
  assert len(sheets) == 2, 'ten beside each other'
  top, left, side = pictures.mouth_square(Pair(after, true, mask))
  size, line = 3 * side, pictures.LINE
  rows = [sheets[0][2 * line + y * (line + size):][:size, :size] for y in range(4)]
  shown = [pictures.close_up(Pair(after, true, mask), picture, size) for picture in (true, before, after)]
  for row, expected in zip(rows, [*shown, pictures.difference(shown[2], shown[0])], strict=True):
    np.testing.assert_array_equal(row, expected)
