"""What is to be said: a sound as its file has it, and as the program hears it."""
from typing import NamedTuple

import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.data import schema


class Utterance(NamedTuple):
  """sound: [channels, n] int16 at `rate`, which an mp4 can hold; mono: [m] int16, 16 kHz."""
  sound: np.ndarray
  rate: int
  mono: np.ndarray

  @property
  def seconds(self) -> float:
    """How long it lasts."""
    return self.sound.shape[1] / self.rate

  @classmethod
  def of(cls, mono: np.ndarray, rate: int) -> 'Utterance':
    """Of a sound that is in no file, [n] int16 at any rate."""
    return cls(*media.resample(mono[None], rate, rate), media.resample(mono[None], rate, schema.SAMPLE_RATE)[0][0])


def read_utterance(path: str) -> Utterance:
  """Decodes a sound or video file.

  Raises:
    InputError: it cannot be read.
  """
  mono, _ = media.read_sound(path, schema.SAMPLE_RATE, mono=True)
  return Utterance(*media.read_sound(path), mono[0])
