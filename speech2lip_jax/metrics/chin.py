"""Whose speech the jaw follows, by landmarks: the new one, or the old one of the frame that the lips were put into. NumPy.

The chin's distance is that from the nose's base, which stands on the skull, in pixels: over a width or height of the face the same
movement correlates less, since that trembles too. Lips open by `metrics.opening`. Compared are runs of consecutive frames of a
clip, each about its own mean, so that neither the size of the head nor a chin that is found too low counts.
"""
import numpy as np

_NOSE_BASE, _CHIN = 2, 152
_STILL = 1e-6


def chin_distance(landmarks: np.ndarray) -> np.ndarray:
  """From the nose's base to the chin by landmarks [..., 478, ≥2] pixels: [...] pixels."""
  return np.linalg.norm(landmarks[..., _NOSE_BASE, :2] - landmarks[..., _CHIN, :2], axis=-1)


def chin_follows(chin: np.ndarray, openings: dict[str, np.ndarray], runs: list[np.ndarray], fps: float
                 ) -> dict[str, tuple[float, float]]:
  """How far the chin follows each of some openings: of true frames their own, of dubbed ones {'new': …, 'old': …}.

  Args:
    chin: [n] `chin_distance` of the finished frames; nan where no face is found.
    openings: by name, [n] each: `opening.lip_opening` of the true frames whose speech it is; nan where no face is found.
    runs: rows of consecutive frames; those with less than a second of faces, or in which an opening does not move, are left out.
    fps: frames a second.

  Returns:
    By name (correlation, slope), nan without a run. The correlation, −1 … 1, is the mean over runs by their length. The slope is
    pixels of the chin for an opening of 1, by least squares on all openings at once: two openings that are alike by chance lend
    each other a correlation, not a slope. Dubbed, the new one is best as the true frames', the old one 0.
  """
  sides = np.stack([chin, *openings.values()]).astype(np.float64)
  parts = [part[:, np.isfinite(part).all(0)] for part in (sides[:, rows] for rows in runs)]
  parts = [part - part.mean(1, keepdims=True) for part in parts if part.shape[1] >= fps]
  parts = [part for part in parts if (part[1:].std(1) > _STILL).all()]
  if not parts:
    return dict.fromkeys(openings, (float('nan'), float('nan')))
  together = np.concatenate(parts, 1)
  slopes = np.linalg.lstsq(together[1:].T, together[0], rcond=None)[0]
  correlations = np.average([_correlations(part) for part in parts], axis=0, weights=[part.shape[1] for part in parts])
  return {name: (float(corr), float(slope)) for name, corr, slope in zip(openings, correlations, slopes, strict=True)}


def _correlations(part: np.ndarray) -> np.ndarray:
  """Of row 0 of [1 + k, n], whose means are taken off, with each other row: [k]; 0 where the chin stands still."""
  chin, openings = part[0], part[1:]
  sizes = np.sqrt(np.square(openings).sum(1) * np.square(chin).sum())
  return openings @ chin / sizes if chin.std() > _STILL else np.zeros(len(openings))
