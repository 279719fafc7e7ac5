"""How far the lips are open, by landmarks, against the true mouth. NumPy.

An opening is the gap between the inner lips over the height of the face, about 0 … 0.2. Compared are runs of consecutive frames
of a clip, each about its own mean: a still mouth has no correlation, and an average of mouths mumbles (amplitude below 1).
"""
import numpy as np
from scipy import ndimage

_UPPER_LIP, _LOWER_LIP, _FOREHEAD, _CHIN = 13, 14, 10, 152
MAX_LAG = 10  # frames
CLOSED_SHARE_OF_RANGE, OPEN_PERCENTILE = 0.1, 90
CLOSURE_MARGIN = 1  # frames by which a closure may be early or late


def lip_opening(landmarks: np.ndarray) -> np.ndarray:
  """Opening by landmarks [..., 478, ≥2] pixels: [...] float, 0 is closed."""
  distance = lambda a, b: np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1)
  return distance(_UPPER_LIP, _LOWER_LIP) / np.maximum(distance(_FOREHEAD, _CHIN), 1e-6)


def _lag(opening: np.ndarray, truth: np.ndarray) -> float:
  """Frames by which `opening` is late: the peak of the correlation, to a fraction by a parabola."""
  lags = np.arange(-MAX_LAG, MAX_LAG + 1)
  inner = slice(MAX_LAG, len(truth) - MAX_LAG)
  values = np.array([np.corrcoef(np.roll(opening, -lag)[inner], truth[inner])[0, 1] for lag in lags])
  best = int(values.argmax())
  if not 0 < best < len(lags) - 1:
    return float(lags[best])
  before, at, after = values[best - 1:best + 2]
  return lags[best] + float((after - before) / 2 / max(2 * at - before - after, 1e-12))


def agreement(opening: np.ndarray, truth: np.ndarray, runs: list[np.ndarray], fps: float) -> dict[str, float]:
  """Agreement of an opening with the true one; nan where nothing moves.

  Args:
    opening, truth: [n].
    runs: rows of consecutive frames of a clip each; those shorter than a second or without motion are left out.
    fps: frames a second.

  Returns:
    opening_corr: mean over runs of the correlation −1 … 1, higher is better. opening_lag_ms: median over runs, positive where
    the mouth is late. opening_amplitude: standard deviation within runs over the true one, best is 1.
  """
  pairs = [(opening[rows], truth[rows]) for rows in runs if len(rows) >= max(fps, 2 * MAX_LAG + 3)]
  pairs = [(a, b) for a, b in pairs if a.std() > 1e-6 and b.std() > 1e-6]
  if not pairs:
    return dict.fromkeys(('opening_corr', 'opening_lag_ms', 'opening_amplitude'), float('nan'))
  weights = [len(a) for a, _ in pairs]
  variance = [np.average([part.var() for part in side], weights=weights) for side in zip(*pairs, strict=True)]
  return {'opening_corr': float(np.average([np.corrcoef(a, b)[0, 1] for a, b in pairs], weights=weights)),
          'opening_lag_ms': float(np.median([_lag(a, b) for a, b in pairs]) * 1000 / fps),
          'opening_amplitude': float(np.sqrt(variance[0] / variance[1]))}


def closed_threshold(opening: np.ndarray, closed: np.ndarray) -> float:
  """Openings below count as closed: the mean of `closed` [k], a subject's closed mouths, and a tenth of the way from there to the
  90th percentile of all its openings [n]: about a pixel of gap in a frame of 256."""
  at_rest = closed.mean()
  return float(at_rest + CLOSED_SHARE_OF_RANGE * (np.percentile(opening, OPEN_PERCENTILE) - at_rest))


def closures(opening: np.ndarray, truth: np.ndarray, runs: list[np.ndarray], threshold: float) -> dict[str, float]:
  """How often and when the mouth shuts.

  Args:
    opening, truth: [n].
    runs: rows of consecutive frames of a clip each.
    threshold: `closed_threshold`.

  Returns:
    closed_share: of the frames, 0 … 1, best is the truth's. closed_ratio: that over the truth's, best is 1. closures_made: share of
    the truth's closures (closed frames in a row) in which ours shuts too, from `CLOSURE_MARGIN` frames before to as many after,
    higher is better. nan without frames with faces, the last two also where the truth never shuts.
  """
  shut, true, made = [np.zeros(0, bool)], [np.zeros(0, bool)], []
  for rows in runs:
    ours, theirs = (values[rows] < threshold for values in (opening, truth))
    known = np.isfinite(opening[rows]) & np.isfinite(truth[rows])
    near = ndimage.binary_dilation(ours, iterations=CLOSURE_MARGIN)
    made += [near[closure].any() for closure in ndimage.find_objects(ndimage.label(theirs)[0])]
    shut.append(ours[known])
    true.append(theirs[known])
  shares = [float(side.mean()) if len(side) else float('nan') for side in map(np.concatenate, (shut, true))]
  return {'closed_share': shares[0], 'closed_ratio': shares[0] / shares[1] if shares[1] > 0 else float('nan'),
          'closures_made': float(np.mean(made)) if made else float('nan')}
