"""Films written through PyAV: pictures and sound as they come; a file has its name only when it is complete."""
import os
import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Self

import av
import numpy as np

from speech2lip_jax.common.files import becoming, errors_named, temporary_beside

if TYPE_CHECKING:
  from speech2lip_jax.provenance.origin import Origin

BT601, LIMITED_RANGE = 5, 1  # FFmpeg's numbers
REORDERED = 2  # pictures that H.264 with B-frames of B-frames is ahead in decoding


class Soundtrack:
  """A sound that is laid under pictures as they come, so that the file can be played while it is read."""

  def __init__(self, container: 'av.container.OutputContainer', sound: np.ndarray, rate: int, codec: Literal['aac', 'pcm_s16le']):
    """sound: [channels, n] int16 at `rate`."""
    self._layout = 'mono' if len(sound) == 1 else 'stereo'
    self._stream = container.add_stream(codec, rate=rate, layout=self._layout)
    self._container, self._sound, self._rate, self._written = container, sound, rate, 0

  def write_until(self, end: int) -> None:
    """Writes what is left of the samples before `end`."""
    piece = np.ascontiguousarray(self._sound[:, self._written:end])
    if piece.shape[1]:
      frame = av.AudioFrame.from_ndarray(piece, format='s16p', layout=self._layout)
      frame.sample_rate, frame.pts = self._rate, self._written
      self._container.mux(self._stream.encode(frame))
      self._written += piece.shape[1]

  def finish(self) -> None:
    """Writes what is left."""
    self.write_until(self._sound.shape[1])
    self._container.mux(self._stream.encode())


def container_options(tags: dict[str, str]) -> dict[str, str]:
  """What an mp4 or mov is written with so that it holds these tags; one that FFmpeg has no place for needs keys of its own."""
  return {'movflags': 'faststart' if set(tags) <= {'comment', 'description'} else 'faststart+use_metadata_tags'}


class FilmFile:
  """A film being written: it appears under its name only when complete, with what it says of itself. Use as a context manager.

  Who inherits sets `_video`, the stream of pictures, and `_soundtrack`.
  """
  _video: 'av.VideoStream'
  _soundtrack: 'Soundtrack | None'

  def __init__(self, path: os.PathLike | str, container: str, origin: 'Origin | None'):
    """container: as FFmpeg names it. origin: what the file says of itself, in tags and a signed manifest."""
    self._path, self._origin = pathlib.Path(path), origin
    self._temporary = temporary_beside(self._path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    tags = origin.tags() if origin else {}
    self._container = av.open(str(self._temporary), 'w', format=container, options=container_options(tags))
    self._container.metadata.update(tags)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind, *_) -> None:
    try:
      with errors_named(self._path), self._container:
        if kind is None:
          self._container.mux(self._video.encode())
          if self._soundtrack:
            self._soundtrack.finish()
      if kind is None:
        if self._origin:
          self._origin.sign(self._temporary)
        os.replace(self._temporary, self._path)
    finally:
      self._temporary.unlink(missing_ok=True)


def encodable(rgb: np.ndarray) -> av.VideoFrame:
  """A picture [H, W, 3] uint8 as `Mp4Writer` encodes it, by BT.601."""
  return av.VideoFrame.from_ndarray(rgb, format='rgb24').reformat(format='yuv420p')


class Mp4Writer(FilmFile):
  """Writes an H.264 + AAC mp4 frame by frame."""

  def __init__(self, path: os.PathLike | str, height: int, width: int, fps: int | Fraction, sound: np.ndarray | None = None,
               rate: int = 0, quality: int = 17, max_bits: int | None = None, origin: 'Origin | None' = None):
    """sound: [channels, n] int16 at `rate`, or None for pictures alone. quality: H.264's constant rate factor, lower is better.
    max_bits: of the pictures, a second; where they need more they lose quality. origin: as of `FilmFile`."""
    super().__init__(path, 'mp4', origin)
    options = {'crf': str(quality), 'preset': 'veryfast'}
    if max_bits:
      options |= {'maxrate': str(max_bits), 'bufsize': str(max_bits)}
    self._video = self._container.add_stream('libx264', rate=fps, options=options)
    self._video.height, self._video.width, self._video.pix_fmt = height, width, 'yuv420p'
    # What RGB is converted to; untold, a picture of many lines would be shown as BT.709.
    self._video.codec_context.colorspace, self._video.codec_context.color_range = BT601, LIMITED_RANGE
    self._soundtrack = None if sound is None else Soundtrack(self._container, sound, rate, 'aac')
    self._rate, self._fps, self._num_frames = rate, fps, 0

  def write(self, rgb: np.ndarray) -> None:
    """Appends a frame [H, W, 3] uint8 and the sound that goes with it."""
    self.append(encodable(rgb))

  def append(self, picture: av.VideoFrame) -> None:
    """As `write`, of an `encodable` one."""
    with errors_named(self._path):
      self._container.mux(self._video.encode(picture))
      self._num_frames += 1
      if self._soundtrack:
        self._soundtrack.write_until(self._num_frames * self._rate // self._fps)


def join_segments(segments: Sequence[os.PathLike | str], path: os.PathLike | str, fps: int, sound: np.ndarray, rate: int,
                  origin: 'Origin | None' = None) -> None:
  """Writes one mp4 of the pictures of several, one after another and not encoded again, with a sound under them.

  Args:
    segments: mp4 of `Mp4Writer` without sound, at least one, all of one size.
    path: appears only when complete.
    fps: their frames a second.
    sound: [channels, n] int16 at `rate`.
    origin: what the file says of itself, in tags and a signed manifest.
  """
  count, tags = 0, origin.tags() if origin else {}
  with becoming(path) as temporary, errors_named(path):
    with av.open(str(temporary), 'w', format='mp4', options=container_options(tags)) as container:
      container.metadata.update(tags)
      with av.open(str(segments[0])) as source:
        video = container.add_stream_from_template(source.streams.video[0])
      soundtrack = Soundtrack(container, sound, rate, 'aac')
      for segment in segments:
        with av.open(str(segment)) as source:
          first = count
          for packet in source.demux(source.streams.video[0]):
            if packet.pts is None:  # the empty one at the end
              continue
            per_frame = 1 / (fps * Fraction(packet.time_base))
            packet.pts += round(first * per_frame)
            packet.dts = round((count - REORDERED) * per_frame)  # a short segment's own would run against the next one's
            packet.stream = video
            container.mux(packet)
            count += 1
            soundtrack.write_until(count * rate // fps)
      soundtrack.finish()
    if origin:
      origin.sign(temporary)
