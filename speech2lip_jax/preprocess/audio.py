"""Sound of a video: any codec, rate and channels → 16 kHz mono on the video's clock.

Sample 640·g belongs to the start of grid frame g (see `video`): sound that starts later or has holes is padded with
zeros, sound before the first picture is cut.
"""
from collections.abc import Iterator

import av
import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video


def read_sound(info: video.VideoInfo) -> np.ndarray:
  """[num_frames · 640] float32 in −1..1, 16 kHz mono: the mean of the channels, aligned to the first picture.

  Raises:
    InputError: the sound cannot be decoded, or `media.decode` refuses it.
  """
  length = info.num_frames * schema.SAMPLES_PER_FRAME
  sound = np.zeros(length, np.float32)
  with video.open_container(info.path) as container:
    stream = container.streams.audio[0]
    num_placed = 0
    for start_s, run in _runs(container, stream, info.path):
      begin = round((start_s - info.start_s) * schema.SAMPLE_RATE)
      first, last = max(begin, 0), min(begin + len(run), length)
      if last > first:
        sound[first:last] = run[first - begin:last - begin]
        num_placed += last - first
  if not num_placed:
    raise InputError(f'{info.path}: its sound does not overlap its pictures or cannot be decoded; re-encode the sound, '
                     'for example to AAC')
  return sound


def check(info: video.VideoInfo) -> None:
  """Decodes the sound once.

  Raises:
    InputError: it is damaged, as `media.decode` finds.
  """
  with video.open_container(info.path) as container:
    for _ in media.decode(container, container.streams.audio[0], info.path, may_have_holes=True):
      pass


def _runs(container, stream, path: str) -> Iterator[tuple[float, np.ndarray]]:
  """Yields (start in seconds of the file's clock, [n] float32 at 16 kHz) for each stretch without a hole."""
  resampler, start_s, next_s = None, 0.0, 0.0
  chunks: list[np.ndarray] = []
  for frame in media.decode(container, stream, path, may_have_holes=True):
    time_s = next_s if frame.time is None else frame.time
    if resampler is None or abs(time_s - next_s) > media.MAX_CLOCK_SLIP_S:
      if resampler is not None:
        yield start_s, _finish(resampler, chunks)
      resampler = av.AudioResampler(format='fltp', layout=frame.layout, rate=schema.SAMPLE_RATE)
      chunks, start_s, next_s = [], time_s, time_s
    next_s += frame.samples / frame.sample_rate
    frame.pts = None  # the run's own sample count is its clock
    chunks.extend(_mono(out) for out in resampler.resample(frame))
  if resampler is not None:
    yield start_s, _finish(resampler, chunks)


def _finish(resampler, chunks: list[np.ndarray]) -> np.ndarray:
  chunks.extend(_mono(out) for out in resampler.resample(None))
  return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _mono(frame) -> np.ndarray:
  return frame.to_ndarray().mean(axis=0, dtype=np.float32)
