"""The changed film: pictures of a source of which a window is changed, written as the source was: size, instants, colours."""
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import av
import cv2
import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import errors_named
from speech2lip_jax.common.film_file import FilmFile, Soundtrack
from speech2lip_jax.dubbing.layer import PictureFolder, stored
from speech2lip_jax.dubbing.source import FORMATS, FULL_RANGE, LIMITED_RANGE, SourceFacts, planes_of, stored_part
from speech2lip_jax.preprocess.video import BT709, MATRICES

if TYPE_CHECKING:
  from speech2lip_jax.provenance.origin import Origin

# Of each --codec: the encoder, its options and the container. Processor time to decode, change and encode a 1080p picture: H.264
# veryfast 36 ms (superfast 30 for twice the size, faster 58 for 0.8 dB), HEVC superfast 60 (veryfast 90 for 1.6 dB, ultrafast 51
# for 1.1 dB less), ProRes by prores_aw 60 (prores_ks 163, and 2.7 dB less).
CODECS = {
    'h264': ('libx264', {'preset': 'veryfast'}, 'mp4'),
    'hevc': ('libx265', {'preset': 'superfast', 'x265-params': 'log-level=error'}, 'mp4'),
    'prores': ('prores_aw', {}, 'mov')}
PICTURES = 'png'  # the --codec of a folder of pictures
WITH_ALPHA = ('prores', PICTURES)
Writer: TypeAlias = 'FilmWriter | PictureFolder'


ALPHA_FORMAT = 'yuva444p10le'


def change_window(picture: av.VideoFrame, facts: SourceFacts, before: np.ndarray, after: np.ndarray, top: int, left: int
                  ) -> av.VideoFrame:
  """A picture in which the colours of a window differ as `after` does from `before`; all samples elsewhere are the picture's own.

  Only the difference of colours is carried into the planes, with the picture's own matrix, range and depth, and chroma as the mean
  of what it stands for; so what rounding loses between planes and RGB is lost nowhere. A changed sample does not leave the legal
  range; one that lies outside of it in the source goes no further.

  Args:
    picture: a source's, as decoded. It stays as it is.
    facts: of the source.
    before, after: [h, w, 3] uint8, the window as it is and as it shall be.
    top, left: of the window in the upright picture, pixels.
  """
  changed = _copy(picture)
  turned = np.ascontiguousarray(np.rot90(cv2.subtract(after, before, dtype=cv2.CV_32F), -(facts.rotation // 90)))
  rows, columns = stored_part(facts, top, left, *before.shape[:2])
  if facts.pixel_aspect != 1:
    turned, columns = _stored_pixels(turned, columns, facts)
  bits, halved = FORMATS[picture.format.name]
  planes = planes_of(changed)
  if halved is None:  # gbrp: green, blue, red
    order = (1, 2, 0)
    targets = planes if len(planes) == 3 else [planes[0].reshape(planes[0].shape[0], -1, 3)[..., channel] for channel in order]
    for plane, channel in zip(targets, order):
      _add(plane[rows, columns], turned[..., channel], (0, 255))
    return changed
  is_full, unit = facts.is_full_range, 1 << (bits - 8)
  legal = [(0, (1 << bits) - 1)] * 2 if is_full else [(16 * unit, 235 * unit), (16 * unit, 240 * unit)]
  luma, *chroma = cv2.split(cv2.transform(turned, _samples_from_rgb(facts, bits)))
  _add(planes[0][rows, columns], luma, legal[0])
  down, across = (1 << shift for shift in halved)
  above, beside = rows.start % down, columns.start % across
  chroma_rows = slice(rows.start // down, -(-rows.stop // down))
  chroma_columns = slice(columns.start // across, -(-columns.stop // across))
  pads = ((above, -(luma.shape[0] + above) % down), (beside, -(luma.shape[1] + beside) % across))
  targets = planes[1:] if len(planes) == 3 else [planes[1][:, 0::2], planes[1][:, 1::2]]
  for plane, component in zip(targets, chroma):
    blocks = np.pad(component, pads)
    height, width = blocks.shape
    mean = cv2.resize(blocks, (width // across, height // down), interpolation=cv2.INTER_AREA)
    _add(plane[chroma_rows, chroma_columns], mean, legal[1])
  return changed


def _samples_from_rgb(facts: SourceFacts, bits: int) -> np.ndarray:
  """[3, 3]: differences of red, green, blue, of 255 → of luma, blue and red chroma, in samples."""
  red, blue = MATRICES[facts.applied_matrix]
  luma = np.array([red, 1 - red - blue, blue])
  chroma = [(np.eye(3)[channel] - luma) / (2 - 2 * share) for channel, share in ((2, blue), (0, red))]
  if facts.is_full_range:
    return np.stack([luma, *chroma]) * ((1 << bits) - 1) / 255
  return np.stack([luma * 219, *(row * 224 for row in chroma)]) * (1 << (bits - 8)) / 255


def _add(part: np.ndarray, change: np.ndarray, legal: tuple[int, int]) -> None:
  """Adds to samples, a view of a plane, in place."""
  least, most = np.minimum(part, legal[0]), np.maximum(part, legal[1])
  part[:] = np.clip(np.rint(part + change[:part.shape[0], :part.shape[1]]), least, most)


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
  copied.color_primaries, copied.color_trc = picture.color_primaries, picture.color_trc  # ProRes tells those of its pictures
  return copied


class FilmWriter(FilmFile):
  """Writes pictures of a source with its size, rotation, pixels' shape and colours, and sound.

  Use as a context manager; the file appears under its name when it is complete. Instants are kept to the source's ticks.
  What the codec cannot take is converted once, to the nearest that it can, and told so in the file: ten bits stay ten, twelve only
  for hevc; RGB becomes BT.709 with all its chroma; for ProRes, samples get the limited range, and chroma in each row.
  With alpha, ProRes is 4444.
  """

  def __init__(self, path: os.PathLike | str, facts: SourceFacts, sound: np.ndarray | None, rate: int, crf: int = 17,
               codec: str = 'h264', origin: 'Origin | None' = None, with_alpha: bool = False):
    """sound: [channels, n] int16 at `rate`, or None. crf: the constant rate factor, 0 … 51, lower is better; prores has none.
    codec: of `CODECS`. origin: what the file says of itself, in tags and a signed manifest. with_alpha: for prores; pictures
    then have it.

    Raises:
      InputError: the codec cannot hold pictures of that size.
    """
    encoder, options, container = CODECS[codec]
    _, halved = FORMATS[facts.pix_fmt]
    width, height = facts.stored_width, facts.stored_height
    if codec != 'prores' and halved and any(size % (1 << shift) for size, shift in zip((height, width), halved)):
      raise InputError(f'{facts.path}: {width}×{height} pixels, an odd number, which {codec} cannot hold; give --codec prores')
    super().__init__(path, container, origin)
    self._facts = facts
    if codec == 'prores':
      encoder = 'prores_ks' if width % 2 or with_alpha else encoder  # the slower one takes odd widths, and alpha
      options = {'profile': '4' if halved in (None, (0, 0)) or with_alpha else '3'}  # 4444, HQ
    else:
      options = options | {'crf': str(crf)}
    video = cast('av.VideoStream', self._container.add_stream(encoder, rate=facts.rate, options=options))
    self._conversion, matrix = _conversion(facts, codec, with_alpha)
    video.width, video.height, video.pix_fmt = width, height, self._conversion.get('format', facts.pix_fmt)
    if with_alpha:
      video.pix_fmt = ALPHA_FORMAT
    video.codec_context.time_base = video.time_base = facts.time_base
    video.codec_context.sample_aspect_ratio = facts.pixel_aspect
    video.codec_context.color_range = self._conversion.get('dst_color_range', facts.colour_range)
    video.codec_context.colorspace, video.codec_context.color_primaries = matrix, facts.primaries
    video.codec_context.color_trc = facts.transfer
    if codec == 'hevc':
      video.codec_context.codec_tag = 'hvc1'
    if facts.rotation:
      video.set_display_rotation(facts.rotation)
    self._video, self._rate, self._last_tick = video, rate, -1
    self._soundtrack = None if sound is None else Soundtrack(self._container, sound, rate,
                                                             'pcm_s16le' if codec == 'prores' else 'aac')

  def write(self, picture: av.VideoFrame, time_s: float, alpha: np.ndarray | None = None) -> None:
    """Appends a picture of the source, shown from `time_s` on, and the sound until then. Sets the picture's time stamp.

    alpha: [H, W] uint8 of the upright picture, for a film that has it.
    """
    if self._conversion:
      picture = picture.reformat(**self._conversion)
    if alpha is not None:
      picture = _with_alpha(picture, stored(alpha, self._facts))
    tick = max(self._last_tick + 1, round(Fraction(time_s) / self._facts.time_base))
    picture.pts, picture.time_base, picture.pict_type = tick, self._facts.time_base, 0
    self._last_tick = tick
    with errors_named(self._path):
      self._container.mux(self._video.encode(picture))
      if self._soundtrack:
        self._soundtrack.write_until(round(time_s * self._rate))


def _with_alpha(picture: av.VideoFrame, alpha: np.ndarray) -> av.VideoFrame:
  """A picture of yuv444p10le with alpha [rows, columns] uint8, as `ALPHA_FORMAT`."""
  layered = av.VideoFrame(picture.width, picture.height, ALPHA_FORMAT)
  samples = alpha.astype('<u2') << 2 | alpha >> 6
  views = [np.frombuffer(memoryview(plane), '<u2').reshape(-1, plane.line_size // 2)[:, :plane.width] for plane in layered.planes]
  for there, here in zip(views, [*planes_of(picture), samples], strict=True):
    there[:] = here
  layered.colorspace, layered.color_range = picture.colorspace, picture.color_range
  layered.color_primaries, layered.color_trc = picture.color_primaries, picture.color_trc
  return layered


def open_writer(path: os.PathLike | str, facts: SourceFacts, sound: np.ndarray, rate: int, crf: int, codec: str,
                origin: 'Origin | None', with_alpha: bool) -> Writer:
  """What a --codec is written with. See `FilmWriter` and `PictureFolder`."""
  if codec == PICTURES:
    return PictureFolder(path, facts, sound, rate, origin)
  return FilmWriter(path, facts, sound, rate, crf, codec, origin, with_alpha)


def _conversion(facts: SourceFacts, codec: str, with_alpha: bool = False) -> tuple[dict[str, Any], int]:
  """What `VideoFrame.reformat` is told so that a codec takes the source's pictures, nothing where it does, and the matrix that the
  film tells."""
  _, halved = FORMATS[facts.pix_fmt]
  if codec == 'prores':
    kept = 'yuv444p10le' if halved in (None, (0, 0)) or with_alpha else 'yuv422p10le'
  else:
    kept = {'nv12': 'yuv420p', 'rgb24': 'yuv444p', 'gbrp': 'yuv444p'}.get(facts.pix_fmt, facts.pix_fmt)
    kept = kept.replace('12le', '10le') if codec == 'h264' else kept
  if kept == facts.pix_fmt and not (codec == 'prores' and facts.is_full_range):
    return {}, facts.matrix
  applied = BT709 if halved is None else facts.applied_matrix
  stays_full = facts.is_full_range and halved is not None and codec != 'prores'
  has, gets = (FULL_RANGE if full else LIMITED_RANGE for full in (facts.is_full_range, stays_full))
  return {'format': kept, 'src_colorspace': applied, 'dst_colorspace': applied, 'src_color_range': has, 'dst_color_range': gets
          }, applied if halved is None else facts.matrix
