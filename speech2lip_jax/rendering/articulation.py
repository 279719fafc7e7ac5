"""How far the mouth moves in speech: as far as the subject's own.

Lips that are learned by least squares lie between those that the sound leaves possible, and move less than true ones: less the less
a voice is known, and a mouth that another voice leaves half open all the time never closes. Both show on the openings of a whole
sound. Validation frames, whose truth is known, tell what share of the true movement is learned; rendered lips are widened to
`config.linear.amplitude` of it. The openings of a new sound are brought to the mean and the standard deviation that the subject's
own speech then has: the more speech it holds, the closer. Matching quantiles too measured no better.
"""
from typing import NamedTuple

import numpy as np

PRIOR_FRAMES = 75  # of speech as in the subject's own that count beside those of a new sound
MOST = 2.5  # times as far as learned
RANGE = (0.5, 99.5)  # percentiles of the subject's true openings in speech; lips are closed and opened no further
_LEAST = 1e-6


class Articulation(NamedTuple):
  """Openings in speech, in units of `LipOpening`.

  mean, std: of the subject's true ones. learned: std of learned over true ones, on the subject's own sound. amplitude: that of
  rendered ones. low, high: the ends of the true ones' range.
  """
  mean: float
  std: float
  learned: float
  amplitude: float
  low: float
  high: float

  @classmethod
  def of(cls, spoken: np.ndarray, true: np.ndarray, learned: np.ndarray, amplitude: float) -> 'Articulation':
    """spoken: [n] true openings of training frames in speech. true, learned: [m] of validation frames."""
    low, high = np.percentile(spoken, RANGE)
    return cls(float(spoken.mean()), float(spoken.std()), float(learned.std() / max(true.std(), _LEAST)), amplitude,
               float(low), float(high))

  def widening(self, opening: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """How much further the lips of a sound are to open than was learned: [n] float32.

    Args:
      opening: [n] learned openings of all frames.
      spoken: those of them [k] from which the sound is known; none for the subject's own sound.
    """
    variance, mean = (self.learned * self.std) ** 2, self.mean
    if len(spoken):
      weight = len(spoken) / (len(spoken) + PRIOR_FRAMES)
      mean = weight * spoken.mean() + (1 - weight) * mean
      variance = weight * spoken.var() + (1 - weight) * variance
    if variance < _LEAST:
      return np.zeros(len(opening), np.float32)
    gain = np.clip(self.amplitude * self.std / np.sqrt(variance), 1, MOST)
    widened = self.mean + gain * (opening - mean)
    return (np.clip(widened, np.minimum(self.low, opening), np.maximum(self.high, opening)) - opening).astype(np.float32)
