"""The changed film: pictures of a source of which a window is changed, written as the source was: size, instants, colours."""
import os
import pathlib
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import temporary_beside
from speech2lip_jax.dubbing.source import FORMATS, SourceFacts, planes_of, stored_part

# Of each --codec: the encoder, its options, the container, and the pixel formats that it takes by bits and halving of chroma.
CODECS = {
    'h264': ('libx264', {'preset': 'veryfast'}, 'mp4'),
    'hevc': ('libx265', {'preset': 'veryfast', 'x265-params': 'log-level=error'}, 'mp4'),
    'prores': ('prores_ks', {'profile': '3'}, 'mov')}
PRORES = {(0, 0): 'yuv444p10le'}  # by halving of chroma; any other is yuv422p10le


def change_window(picture: av.VideoFrame, facts: SourceFacts, before: np.ndarray, after: np.ndarray, top: int, left: int
                  ) -> av.VideoFrame:
  """A picture in which the colours of a window differ as `after` does from `before`; all samples elsewhere are the picture's own.

  Only the difference of colours is carried into the planes, with the picture's own matrix, range and depth, and chroma as the mean
  of what it stands for; so what rounding loses between planes and RGB is lost nowhere.

  Args:
    picture: a source's, as decoded. It stays as it is.
    facts: of the source.
    before, after: [h, w, 3] uint8, the window as it is and as it shall be.
    top, left: of the window in the upright picture, pixels.
  """
  changed = _copy(picture)
  turned = np.rot90(after.astype(np.float32) - before, -(facts.rotation // 90))
  rows, columns = stored_part(facts, top, left, *before.shape[:2])
  if facts.pixel_aspect != 1:
    turned, columns = _stored_pixels(turned, columns, facts)
  bits, halved = FORMATS[picture.format.name]
  largest = (1 << bits) - 1
  planes = planes_of(changed)
  if halved is None:  # gbrp: green, blue, red
    order = (1, 2, 0)
    targets = planes if len(planes) == 3 else [planes[0].reshape(planes[0].shape[0], -1, 3)[..., channel] for channel in order]
    for plane, channel in zip(targets, order):
      _add(plane[rows, columns], turned[..., channel], largest)
    return changed
  luma, blue, red = _components(turned, facts, largest)
  _add(planes[0][rows, columns], luma, largest)
  down, across = (1 << shift for shift in halved)
  above, beside = rows.start % down, columns.start % across
  chroma_rows = slice(rows.start // down, -(-rows.stop // down))
  chroma_columns = slice(columns.start // across, -(-columns.stop // across))
  pads = ((above, -(luma.shape[0] + above) % down), (beside, -(luma.shape[1] + beside) % across))
  targets = planes[1:] if len(planes) == 3 else [planes[1][:, 0::2], planes[1][:, 1::2]]
  for plane, component in zip(targets, (blue, red)):
    blocks = np.pad(component, pads)
    height, width = blocks.shape
    mean = blocks.reshape(height // down, down, width // across, across).mean((1, 3))
    _add(plane[chroma_rows, chroma_columns], mean, largest)
  return changed


def _components(rgb: np.ndarray, facts: SourceFacts, largest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Differences of luma, blue and red chroma, in samples, of differences of colour [h, w, 3] of 255."""
  red_share, blue_share = facts.red_blue
  luma = rgb @ np.array([red_share, 1 - red_share - blue_share, blue_share], np.float32)
  blue, red = (rgb[..., 2] - luma) / (2 - 2 * blue_share), (rgb[..., 0] - luma) / (2 - 2 * red_share)
  if facts.is_full_range:
    unit = largest / 255
    return luma * unit, blue * unit, red * unit
  unit = (largest + 1) / 256  # of the depth against 8 bits
  return luma * (219 / 255 * unit), blue * (224 / 255 * unit), red * (224 / 255 * unit)


def _add(part: np.ndarray, change: np.ndarray, largest: int) -> None:
  """Adds to samples, a view of a plane, in place."""
  part[:] = np.clip(part + np.rint(change[:part.shape[0], :part.shape[1]]), 0, largest).astype(part.dtype)


def _stored_pixels(change: np.ndarray, columns: slice, facts: SourceFacts) -> tuple[np.ndarray, slice]:
  """Square pixels' differences [h, w, 3] → the stored, wider or narrower pixels', and their columns."""
  scale = facts.stored_width / (facts.height if facts.rotation % 180 else facts.width)
  begin, end = int(np.floor(columns.start * scale)), int(np.ceil(columns.stop * scale))
  centres = (np.arange(begin, end, dtype=np.float32) + 0.5) / scale - 0.5 - columns.start
  rows = np.arange(change.shape[0], dtype=np.float32)
  xs, ys = np.meshgrid(centres, rows)
  blurred = cv2.blur(change, (max(1, round(1 / scale)), 1))
  return cv2.remap(blurred, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), slice(begin, end)


def _copy(picture: av.VideoFrame) -> av.VideoFrame:
  copied = av.VideoFrame(picture.width, picture.height, picture.format.name)
  for there, here in zip(planes_of(copied), planes_of(picture)):
    there[:] = here
  copied.colorspace, copied.color_range = picture.colorspace, picture.color_range
  return copied


class FilmWriter:
  """Writes pictures of a source with its size, rotation, pixels' shape and colours, and sound.

  Use as a context manager; the file appears under its name when it is complete. Instants are kept to the source's ticks.
  What the codec cannot take is converted once, to the nearest that it can: ten bits stay ten.
  """

  def __init__(self, path: os.PathLike | str, facts: SourceFacts, sound: np.ndarray, rate: int, crf: int = 17,
               codec: str = 'h264'):
    """sound: [channels, n] int16 at `rate`. crf: the constant rate factor, 0 … 51, lower is better; prores has none. codec: of
    `CODECS`.

    Raises:
      InputError: the codec cannot hold pictures of that size.
    """
    encoder, options, container = CODECS[codec]
    bits, halved = FORMATS[facts.pix_fmt]
    width, height = facts.stored_width, facts.stored_height
    if codec != 'prores' and halved == (1, 1) and (width % 2 or height % 2):
      raise InputError(f'{facts.path}: {width}×{height} pixels, an odd number, which {codec} cannot hold; give --codec prores')
    self._path, self._facts = pathlib.Path(path), facts
    self._temporary = temporary_beside(self._path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._container = av.open(str(self._temporary), 'w', format=container, options={'movflags': 'faststart'})
    quality = {} if codec == 'prores' else {'crf': str(crf)}
    video = cast('av.VideoStream', self._container.add_stream(encoder, rate=facts.rate, options=options | quality))
    self._format = PRORES.get(halved or (0, 0), 'yuv422p10le') if codec == 'prores' else self._kept_format(bits, halved)
    video.width, video.height, video.pix_fmt = width, height, self._format
    video.codec_context.time_base = video.time_base = facts.time_base
    video.codec_context.sample_aspect_ratio = facts.pixel_aspect
    video.codec_context.color_range = facts.colour_range
    video.codec_context.colorspace, video.codec_context.color_primaries = facts.matrix, facts.primaries
    video.codec_context.color_trc = facts.transfer
    if codec == 'hevc':
      video.codec_context.codec_tag = 'hvc1'
    if facts.rotation:
      video.set_display_rotation(facts.rotation)
    self._video, self._layout = video, 'mono' if len(sound) == 1 else 'stereo'
    self._audio = self._container.add_stream('pcm_s16le' if codec == 'prores' else 'aac', rate=rate, layout=self._layout)
    self._is_planar = self._audio.codec_context.format.is_planar
    self._sound, self._rate, self._sounded, self._last_tick = sound, rate, 0, -1

  @staticmethod
  def _kept_format(bits: int, halved: tuple[int, int] | None) -> str:
    chroma = {(1, 1): '420', (0, 1): '422', (0, 0): '444', None: '444'}[halved]
    return f'yuv{chroma}p' + ('10le' if bits == 10 else '')

  def __enter__(self) -> 'FilmWriter':
    return self

  def write(self, picture: av.VideoFrame, time_s: float) -> None:
    """Appends a picture of the source, shown from `time_s` on, and the sound until then."""
    if picture.format.name != self._format:
      picture = picture.reformat(format=self._format)
    tick = max(self._last_tick + 1, round(Fraction(time_s) / self._facts.time_base))
    picture.pts, picture.time_base, picture.pict_type = tick, self._facts.time_base, 0
    self._last_tick = tick
    self._container.mux(self._video.encode(picture))
    self._write_sound_until(round(time_s * self._rate))

  def _write_sound_until(self, end: int) -> None:
    piece = np.ascontiguousarray(self._sound[:, self._sounded:end])
    if piece.shape[1]:
      samples, kind = (piece, 's16p') if self._is_planar else (np.ascontiguousarray(piece.T).reshape(1, -1), 's16')
      frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=self._layout)
      frame.sample_rate, frame.pts = self._rate, self._sounded
      self._container.mux(self._audio.encode(frame))
      self._sounded += piece.shape[1]

  def __exit__(self, kind, *_) -> None:
    if kind is None:
      self._write_sound_until(self._sound.shape[1])
      self._container.mux(self._video.encode())
      self._container.mux(self._audio.encode())
    self._container.close()
    if kind is None:
      os.replace(self._temporary, self._path)
    else:
      self._temporary.unlink(missing_ok=True)
