"""The mouth by its landmarks, points 48 – 67 of the 68-point layout (dlib, iBUG 300-W): distance and jitter, in pixels. NumPy.

`points` [n, 20, 2] float, (x, y) pixels of the frame, 12 on the outer and 8 on the inner lips; frames without a face are nan.
"""
import numpy as np

# MediaPipe's points at the places of 48 … 67: from the corner on the picture's left along the upper lip, back along the lower.
MEDIAPIPE_POINTS = np.array([61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91,
                             78, 81, 13, 311, 308, 402, 14, 178])


def mouth_points(landmarks: np.ndarray) -> np.ndarray:
  """[..., 20, 2] of MediaPipe's landmarks [..., 478, ≥2] pixels."""
  return landmarks[..., MEDIAPIPE_POINTS, :2]


def distances(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """LMD of every frame, lower is better: each set less its mean, then the mean over points of their L2 distance, [n] pixels."""
  centred = lambda points: points - points.mean(1, keepdims=True)
  return np.linalg.norm(centred(points) - centred(truth), axis=-1).mean(1)


def lmd(points: np.ndarray, truth: np.ndarray) -> float:
  """Landmark distance (Chen et al., ECCV 2018): the mean of `distances` over frames in which both have a face; else nan."""
  each = distances(points, truth)
  return float(np.nanmean(each)) if np.isfinite(each).any() else float('nan')


def jitter(points: np.ndarray, runs: list[np.ndarray]) -> float:
  """Mean size of the points' acceleration p(t + 1) − 2 p(t) + p(t − 1), pixels a frame²; nan without three frames in a row.

  Compare it with the true frames': speech accelerates too, so that 1 times theirs is best, more trembles, less is sluggish.

  Args:
    points: see above. runs: rows of consecutive frames of a clip each.
  """
  sizes = np.concatenate([np.zeros(0)] + [np.linalg.norm(np.diff(points[rows], 2, axis=0), axis=-1).mean(1)
                                          for rows in runs if len(rows) > 2])
  return float(np.nanmean(sizes)) if np.isfinite(sizes).any() else float('nan')
