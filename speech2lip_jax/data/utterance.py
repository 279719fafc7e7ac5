"""What is to be said: a sound as its file has it, and as the program hears it."""
from typing import NamedTuple

import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema

LOUDEST = 2.0  # of float samples: beyond ±1 they are clipped, beyond this they are taken for samples of another scale


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
  def of(cls, samples: np.ndarray, rate: int) -> 'Utterance':
    """Of a sound that is in no file, [n] or [channels, n], one or two channels, float in −1 … 1 or int16, at any rate.

    Raises:
      InputError: it is none such.
    """
    sound = _as_int16(np.atleast_2d(samples))
    if not media.MIN_RATE <= rate <= media.MAX_RATE:
      raise InputError(f'a sound of {rate} samples a second; give 8000 ... 192000')
    mono, _ = media.resample(sound, rate, schema.SAMPLE_RATE, mono=True)
    return cls(*media.resample(sound, rate, rate), mono[0])


def _as_int16(samples: np.ndarray) -> np.ndarray:
  if samples.ndim != 2 or len(samples) not in (1, 2) or not samples.size:
    raise InputError(f'a sound of shape {samples.shape}; give samples [n] or [channels, n], one or two channels')
  if samples.dtype == np.int16:
    return samples
  if not np.issubdtype(samples.dtype, np.floating):
    raise InputError(f'a sound of {samples.dtype} samples; give float in -1 ... 1, or int16')
  if not np.isfinite(samples).all():
    raise InputError('a sound with samples that are not finite numbers; write it without NaN and infinity')
  if np.abs(samples).max() > LOUDEST:
    raise InputError(f'a sound with float samples up to {np.abs(samples).max():g}; divide them so that they lie in -1 ... 1')
  return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def read_utterance(path: str) -> Utterance:
  """Decodes a sound or video file.

  Raises:
    InputError: it cannot be read.
  """
  mono, _ = media.read_sound(path, schema.SAMPLE_RATE, mono=True)
  return Utterance(*media.read_sound(path), mono[0])
