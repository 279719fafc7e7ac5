"""How well mouths keep time with speech, by the embeddings of an expert. NumPy; cosine distance 0 … 2, lower is nearer.

Embeddings [n, E] float32 are of the 5-frame windows of one clip, one a frame: row i begins with frame i. Report these beside
the truth's and beside pictures' PSNR: averages of mouths can score above the truth.
"""
import numpy as np

MAX_OFFSET = 15  # frames
SECOND = 21  # 5-frame windows within a second of video


def offset_distances(mouth: np.ndarray, speech: np.ndarray) -> np.ndarray:
  """Mean distance between mouth and speech at every offset, for every 1 s window of a clip: [windows, 31] float32.

  Column MAX_OFFSET is offset 0; column MAX_OFFSET + d compares the mouth with speech d frames later. Windows whose speech
  would reach over the clip's ends at some offset are left out; a short clip has none.
  """
  num_windows = len(mouth) - SECOND + 1 - 2 * MAX_OFFSET
  if num_windows <= 0:
    return np.zeros((0, 2 * MAX_OFFSET + 1), np.float32)
  middle = slice(MAX_OFFSET, len(mouth) - MAX_OFFSET)
  columns = []
  for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
    distance = 1 - np.sum(mouth[middle] * speech[MAX_OFFSET + offset:len(speech) - MAX_OFFSET + offset], -1)
    columns.append(np.convolve(distance, np.full(SECOND, 1 / SECOND), 'valid'))
  return np.stack(columns, -1).astype(np.float32)


def best_offsets(distances: np.ndarray) -> np.ndarray:
  """Offset in frames at which each 1 s window fits best, [windows] int: `distances` from `offset_distances`."""
  return distances.argmin(-1) - MAX_OFFSET


def best_offset(distances: np.ndarray) -> float:
  """The same of one row [31] to a fraction of a frame, by a parabola through the minimum and its neighbours."""
  least = int(distances.argmin())
  if not 0 < least < len(distances) - 1:
    return float(least - MAX_OFFSET)
  before, at, after = distances[least - 1:least + 2].astype(np.float64)
  return least - MAX_OFFSET + float((before - after) / 2 / max(before - 2 * at + after, 1e-12))


def within_one(distances: np.ndarray) -> float:
  """Share of 1 s windows that fit best at 0 ± 1 frame, 0 … 1, higher is better; nan without windows."""
  return float(np.mean(np.abs(best_offsets(distances)) <= 1)) if len(distances) else float('nan')


def confidences(distances: np.ndarray) -> dict[str, float]:
  """Means over 1 s windows; nan without windows.

  sync_conf: the field's LSE-C, median over offsets less the minimum, higher is better; it forgives a mouth that is late, and a
  still mouth can fool it. sync_dist: the field's LSE-D, the minimum, lower is better. sync_conf0: LSE-C read at offset 0, median
  less the distance in time, higher is better; a late mouth loses it. Papers' values of LSE-C and LSE-D are by the original SyncNet.
  """
  if not len(distances):
    return dict.fromkeys(('sync_conf', 'sync_dist', 'sync_conf0'), float('nan'))
  median, least = np.median(distances, -1), distances.min(-1)
  return {'sync_conf': float(np.mean(median - least)), 'sync_dist': float(np.mean(least)),
          'sync_conf0': float(np.mean(median - distances[:, MAX_OFFSET]))}


def window_accuracy(mouth: np.ndarray, speech: np.ndarray, apart: int = 5) -> tuple[float, int]:
  """How often a 5-frame window is nearer to its own speech than to another of its clip (acc5).

  Over all pairs of windows that share no frame (`apart` frames or more); chance is 0.5, higher is better.

  Returns:
    Share 0 … 1 (nan without pairs) and the number of windows that were asked (0 without pairs).
  """
  cosines = mouth @ speech.T
  ids = np.arange(len(mouth))
  others = np.abs(ids[:, None] - ids) >= apart
  wins = (np.diagonal(cosines)[:, None] > cosines) & others
  return (float(wins.sum() / others.sum()), len(mouth)) if others.any() else (float('nan'), 0)
