"""Detail and movement of a mouth's pictures. Pictures [h, w, 3] uint8 RGB; grey levels 0 … 255. Measured on ours and on the truth.

Ratios to the truth are of means over all frames, not means of the frames' ratios: a frame counts by the detail or movement that
it has (teeth, an opening mouth), and one with next to none cannot blow the ratio up.
"""
import cv2
import numpy as np


def laplacian_levels(rgb: np.ndarray, mask: np.ndarray) -> float:
  """Mean size of the Laplacian (its four neighbours' sum less four times the pixel's grey) over mask [h, w] bool, grey levels.

  The energy that blur takes first. Noise and a video's grain are detail too: a painted mouth without the camera's grain stays
  below the truth's. Pixels beyond the border are mirrored ones.
  """
  rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
  around = tuple(slice(max(places[0] - 1, 0), places[-1] + 2) for places in (rows, columns))
  grey = cv2.cvtColor(np.ascontiguousarray(rgb[around]), cv2.COLOR_RGB2GRAY)
  return float(np.abs(cv2.Laplacian(grey, cv2.CV_64F))[mask[around]].mean())


def change_levels(rgb: np.ndarray, before: np.ndarray) -> float:
  """Mean absolute difference of a picture and the one before, over pixels and channels, grey levels."""
  return cv2.norm(rgb, before, cv2.NORM_L1) / rgb.size


def after_another(values: np.ndarray, runs: list[np.ndarray]) -> np.ndarray:
  """`values` [n] of frames and the frames before them, nan where there is none in the same of the runs (rows of consecutive
  frames)."""
  kept = np.full(len(values), np.nan)
  for rows in runs:
    kept[rows[1:]] = values[rows[1:]]
  return kept


def ratio_of_means(values: np.ndarray, truth: np.ndarray) -> float:
  """The mean of ours [n] over that of the truth's, of the frames that have both; nan without one, or where the truth is 0."""
  both = np.isfinite(values) & np.isfinite(truth)
  of_truth = truth[both].mean() if both.any() else 0.0
  return float(values[both].mean() / of_truth) if of_truth > 0 else float('nan')


def flicker(steps: np.ndarray, truth: np.ndarray) -> float:
  """tLP (Chu et al., TecoGAN, ACM TOG 2020): how much the perceptual distance of neighbouring frames differs from the truth's.

  Args:
    steps, truth: [n] the distance of each frame and the one before, ours and the true frames'; nan where there is none.

  Returns:
    The mean absolute difference, in the distance's own unit; 0 is best, nan without frames.
  """
  difference = np.abs(steps - truth)
  return float(np.nanmean(difference)) if np.isfinite(difference).any() else float('nan')
