"""What gives away that a mouth was put into a picture. Images [H, W, 3] uint8 RGB; regions [H, W] bool; grey levels 0 … 255.

The reference is the true frame that the mouth was put into. Of this project; no paper's metric.
"""
import cv2
import numpy as np


def edge_steps(image: np.ndarray, region: np.ndarray) -> np.ndarray:
  """Signed steps from outside to inside across the region's edge, one row a pair of neighbouring pixels: [P, 3] float64."""
  steps = []
  for next_row, next_column in ((1, 0), (0, 1)):
    here, there = region[:region.shape[0] - next_row, :region.shape[1] - next_column], region[next_row:, next_column:]
    rows, columns = np.nonzero(here != there)
    sign = np.where(there[rows, columns], 1.0, -1.0)[:, None]
    steps.append(sign * (image[rows + next_row, columns + next_column].astype(np.float64) - image[rows, columns]))
  return np.concatenate(steps)


def seam(image: np.ndarray, reference: np.ndarray, region: np.ndarray) -> tuple[float, float]:
  """How far the region's edge stands out.

  Returns:
    levels: mean size of the step across the edge that the true frame has not, grey levels, 0 is best.
    ratio: mean size of the steps over that of the true frame's, 1 is best; above it the edge shows, below it is washed out.
    Both nan where the region has no edge in the picture.
  """
  around = tuple(slice(max(places[0] - 1, 0), places[-1] + 2) if len(places) else slice(0)
                 for places in (np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))))
  ours, true = (edge_steps(picture[around], region[around]) for picture in (image, reference))
  if not len(ours):
    return float('nan'), float('nan')
  true_size = np.abs(true).mean()
  return float(np.abs(ours - true).mean()), float(np.abs(ours).mean() / true_size) if true_size else float('nan')


def largest_change(image: np.ndarray, reference: np.ndarray, outside: np.ndarray) -> int:
  """Largest difference of any channel over the pixels in `outside`, grey levels; 0 where nothing was touched."""
  return int(cv2.norm(image, reference, cv2.NORM_INF, outside.astype(np.uint8)))
