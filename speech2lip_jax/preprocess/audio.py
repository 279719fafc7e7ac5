"""Sound of a video: any codec, rate and channels → 16 kHz mono on the video's clock.

Sample 640·g belongs to the start of grid frame g (see `video`): sound that starts later or has holes is padded with
zeros, sound before the first picture is cut.
"""
from collections.abc import Iterator

import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video


def read_sound(info: video.VideoInfo) -> np.ndarray:
  """[num_frames · 640] float32 in −1..1, 16 kHz mono: the mean of the channels, aligned to the first picture.

  Raises:
    InputError: the sound cannot be decoded, or `media.Heard` refuses it.
  """
  length = info.num_frames * schema.SAMPLES_PER_FRAME
  sound = np.zeros(length, np.float32)
  num_placed = 0
  for begin, samples in _heard(info):
    first, last = max(begin, 0), min(begin + samples.shape[1], length)
    if last > first:
      sound[first:last] = samples[0, first - begin:last - begin]
      num_placed += last - first
  if not num_placed:
    raise InputError(f'{info.path}: its sound does not overlap its pictures or cannot be decoded; re-encode the sound, '
                     'for example to AAC')
  return sound


def check(info: video.VideoInfo) -> None:
  """Decodes the sound once.

  Raises:
    InputError: it is damaged, as `media.Heard` finds.
  """
  for _ in _heard(info):
    pass


def _heard(info: video.VideoInfo) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (begin, [1, n] float32) in samples of 16 kHz since the first picture."""
  with media.open_container(info.path) as container:
    heard = media.Heard(container, media.sound_stream(container, info.path), info.path, schema.SAMPLE_RATE, 'fltp', 'mono',
                        origin_s=info.start_s)
    yield from heard
    heard.finish()
