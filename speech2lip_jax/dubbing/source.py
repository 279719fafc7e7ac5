"""A source video at its own pictures: their instants, colours and pixels, forwards and backwards.

Pixels of a picture are meant upright and square, as `preprocess.video` has them; how they are stored is told by `SourceFacts`.
"""
import dataclasses
import itertools
import shlex
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video

MAX_SHORTER, MAX_LONGER = 2160, 4096  # pixels of an upright picture
FAR_AHEAD = 250  # pictures: one further ahead is sought, not decoded up to
HELD = 48  # pictures decoded at once, at most, where a video is played backwards
HELD_BYTES = 600_000_000  # and what they may take
BACK_S = (0, 1, 4, 16)  # how far before a picture its key picture is sought, one after another, before the file is read whole
MARGIN = 8  # stored pixels around a part: FFmpeg's filters see as much as in the whole picture, so the part's colours are the same
# Pixel formats whose planes can be changed: bits a sample, and by how much a row and a column of chroma are halved; None: RGB.
FORMATS: dict[str, tuple[int, tuple[int, int] | None]] = {
    'yuv420p': (8, (1, 1)), 'yuvj420p': (8, (1, 1)), 'nv12': (8, (1, 1)), 'yuv422p': (8, (0, 1)), 'yuvj422p': (8, (0, 1)),
    'yuv444p': (8, (0, 0)), 'yuvj444p': (8, (0, 0)), 'yuv420p10le': (10, (1, 1)), 'yuv422p10le': (10, (0, 1)),
    'yuv444p10le': (10, (0, 0)), 'yuv420p12le': (12, (1, 1)), 'yuv422p12le': (12, (0, 1)), 'yuv444p12le': (12, (0, 0)),
    'rgb24': (8, None), 'gbrp': (8, None)}
LIMITED_RANGE, FULL_RANGE, PROGRESSIVE = 1, 2, 1  # FFmpeg's numbers
HDR_TRANSFERS = {16: 'PQ', 18: 'HLG'}


@dataclasses.dataclass(frozen=True)
class SourceFacts:
  """What is known of a source.

  width, height: upright, square pixels; stored_width, stored_height: of its planes. rotation: 0, 90, 180, 270 degrees
  counter-clockwise that bring a stored picture upright. pixel_aspect: width over height of a stored pixel. pix_fmt:
  one of `FORMATS`. colour_range, matrix, primaries, transfer: FFmpeg's numbers. rate: pictures a second on average. time_base:
  seconds of a tick. times_s: [M] float64, each picture's instant since the first. duration_s: to the last one's end.
  """
  path: str
  width: int
  height: int
  stored_width: int
  stored_height: int
  rotation: int
  pixel_aspect: Fraction
  pix_fmt: str
  colour_range: int
  matrix: int
  primaries: int
  transfer: int
  rate: Fraction
  time_base: Fraction
  times_s: np.ndarray
  duration_s: float
  file_size: int

  @property
  def durations_s(self) -> np.ndarray:
    """[M] float64: how long each picture is shown."""
    return np.diff(np.append(self.times_s, max(self.duration_s, float(self.times_s[-1]) + 0.5 / float(self.rate))))

  @property
  def bit_depth(self) -> int:
    """Of a sample."""
    return FORMATS[self.pix_fmt][0]

  @property
  def is_full_range(self) -> bool:
    """Whether its samples go from 0 to their largest value."""
    return self.colour_range == FULL_RANGE or self.pix_fmt.startswith('yuvj') or FORMATS[self.pix_fmt][1] is None

  @property
  def applied_matrix(self) -> int:
    """Number of the matrix that its colours are read with: where `matrix` is not told, what players assume."""
    return video.matrix_of(self.matrix, self.stored_height)


class Source:
  """An opened source video."""

  def __init__(self, facts: SourceFacts, stamps: list[int] | None):
    """stamps: time stamp of each picture, or None where the file has none and pictures are counted."""
    self.facts, self._stamps = facts, stamps

  def read(self, picture_ids: Sequence[int] | np.ndarray) -> Iterator[av.VideoFrame]:
    """Yields pictures in the order asked for: forwards, backwards or leaping. A damaged one is the one before it.

    Where the order runs back, a stretch of at most `HELD` pictures is decoded from the key picture before it and handed out.

    Raises:
      InputError: the file cannot be read on.
    """
    ids = [int(i) for i in picture_ids]
    held: dict[int, av.VideoFrame] = {}
    facts = self.facts
    most = max(2, min(HELD, HELD_BYTES // (facts.stored_width * facts.stored_height * 3 * -(-facts.bit_depth // 8))))
    following: Iterator[av.VideoFrame] = iter(())
    at = len(self.facts.times_s) + FAR_AHEAD
    for place, wanted in enumerate(ids):
      if wanted not in held:
        first, held = _turn(ids[place:place + 2 * most], most), {}
        if not at <= first <= at + FAR_AHEAD:
          following, at = self._from(first), first
        for number, picture in zip(range(at, wanted + 1), following):
          if number >= first:
            held[number] = picture
        at = wanted + 1
      yield held[wanted] if ids[place + 1:place + 2] == [wanted] else held.pop(wanted)

  def _from(self, first: int) -> Iterator[av.VideoFrame]:
    """The pictures from number `first` on."""
    expected, previous = first, None
    for number, picture in self._numbered(first):
      if number >= expected:
        yield from itertools.repeat(previous or picture, number - expected)
        yield picture
        expected = number + 1
      previous = picture
    if previous is None:
      raise InputError(f'{self.facts.path}: picture {first} does not decode; re-encode it, for example to H.264 mp4')
    yield from itertools.repeat(previous, len(self.facts.times_s) - expected)

  def _numbered(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Pictures with their numbers, from one at or before `first` on.

    The file is opened anew: some containers cannot be sent back to their beginning, as an MPEG program stream, which may land 12
    pictures after it.
    """
    stamps = self._stamps
    numbers = {stamp: number for number, stamp in enumerate(stamps or [])}
    for back_s in (*BACK_S, None):
      with video.open_container(self.facts.path) as container:
        stream = video.video_stream(container, self.facts.path)
        stream.thread_type = 'AUTO'
        if stamps is None:  # counted from the beginning
          yield from enumerate(video.decode(container, stream))
          return
        tick = stamps[0] if back_s is None else stamps[first] - round(back_s / self.facts.time_base)
        if tick > stamps[0]:
          container.seek(tick, stream=stream, backward=True)
        pictures = video.decode(container, stream)
        begin = next(pictures, None)
        if back_s is None or tick <= stamps[0] or begin is not None and begin.pts is not None and begin.pts <= stamps[first]:
          found = itertools.chain([] if begin is None else [begin], pictures)
          yield from ((numbers[picture.pts], picture) for picture in found if picture.pts in numbers)
          return


def _turn(ids: Sequence[int], most: int) -> int:
  """Down to which picture the order runs from its first one on, without rising above that one, and within `most` pictures."""
  return min(itertools.takewhile(lambda number: ids[0] - most < number <= ids[0], ids))


def open_source(path: str) -> Source:
  """Opens a video that is to be changed.

  Raises:
    InputError: it is none, or one of a kind whose pictures cannot be changed and written back faithfully.
  """
  info = video.probe(path, needs_sound=False)
  with video.open_container(path) as container:
    stream = video.video_stream(container, path)
    stamps = {packet.pts or 0 for packet in media.packets(container, stream) if packet.size and not packet.is_discard}
    time_base, rate = stream.time_base or Fraction(1, 90_000), stream.average_rate or stream.guessed_rate or Fraction(schema.FPS)
  with video.open_container(path) as container:
    stream = video.video_stream(container, path)
    first, codec = next(video.decode(container, stream)), stream.codec_context
    primaries, transfer, is_field_coded = int(codec.color_primaries), int(codec.color_trc), int(codec.field_order) > PROGRESSIVE
    aspect = Fraction(stream.sample_aspect_ratio or 1)
  _check(path, first, transfer, first.interlaced_frame or is_field_coded, info)
  times = sorted(stamp for stamp in stamps if stamp >= (first.pts or 0)) if info.has_timestamps else None
  times_s = (np.array(times) - times[0]) * float(time_base) if times else np.arange(round(info.duration_s * info.fps)) / info.fps
  return Source(SourceFacts(
      path=path, width=info.width, height=info.height, stored_width=first.width, stored_height=first.height, rotation=info.rotation,
      pixel_aspect=aspect if 0.2 < aspect < 5 else Fraction(1), pix_fmt=first.format.name, colour_range=int(first.color_range),
      matrix=int(first.colorspace), primaries=primaries, transfer=transfer, rate=Fraction(rate), time_base=time_base,
      times_s=times_s, duration_s=info.duration_s, file_size=info.file_size), times)


def _check(path: str, first: av.VideoFrame, transfer: int, is_interlaced: bool, info: video.VideoInfo) -> None:
  """Raises InputError for a kind of video that is not taken, with the command that makes it one that is."""
  remedy = None
  if transfer in HDR_TRANSFERS:
    what = f'is HDR ({HDR_TRANSFERS[transfer]})'
    remedy = ('-vf zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv,'
              'format=yuv420p -crf 14')  # by a build of FFmpeg with zimg, as most are
  elif is_interlaced:
    what, remedy = 'is interlaced', '-vf bwdif -crf 14'
  elif any(component.is_alpha for component in first.format.components):
    # On black: without this, what was hidden would appear.
    what, remedy = f'has an alpha channel ({first.format.name})', '-vf premultiply=inplace=1,format=yuv420p -crf 14'
  elif first.format.name not in FORMATS:
    deep = '10le' if max(component.bits for component in first.format.components) > 8 else ''
    what, remedy = f'has pixels of the format {first.format.name}', f'-pix_fmt yuv420p{deep} -crf 14'
  elif min(info.width, info.height) > MAX_SHORTER or max(info.width, info.height) > MAX_LONGER:
    what = f'has {info.width}×{info.height} pixels, more than {MAX_LONGER}×{MAX_SHORTER}'
    shrink = min(MAX_SHORTER / min(info.width, info.height), MAX_LONGER / max(info.width, info.height))
    width, height = (max(2, int(side * shrink) // 2 * 2) for side in (info.width, info.height))
    remedy = f'-vf scale={width}:{height},setsar=1 -crf 14'
  if remedy:
    raise InputError(f'{path}: {what}; convert it first: ffmpeg -i {shlex.quote(path)} {remedy} NEW.mp4')


def crop_rgb(picture: av.VideoFrame, facts: SourceFacts, top: int, left: int, height: int, width: int) -> np.ndarray:
  """A part of the upright picture: [height, width, 3] uint8."""
  if facts.pixel_aspect != 1 or not picture.format.name.startswith('yuv'):  # resampled by place, or cheap
    return np.ascontiguousarray(video.to_rgb(picture, facts)[top:top + height, left:left + width])
  turns = facts.rotation // 90
  rows, columns = stored_part(facts, top, left, height, width)
  halved = FORMATS[picture.format.name][1] or (0, 0)
  begin_row, begin_column = (max(0, (span.start & ~1) - MARGIN) for span in (rows, columns))  # whole blocks of chroma
  end_row, end_column = (min(side, span.stop + MARGIN + 1 & ~1) for side, span in (
      (facts.stored_height, rows), (facts.stored_width, columns)))
  part = av.VideoFrame(end_column - begin_column, end_row - begin_row, picture.format.name)
  part.colorspace, part.color_range = facts.applied_matrix, picture.color_range
  for index, (whole, cut) in enumerate(zip(planes_of(picture), planes_of(part))):
    down, across = halved if index else (0, 0)
    first_row, first_column = begin_row >> down, begin_column >> across
    cut[:] = whole[first_row:first_row + cut.shape[0], first_column:first_column + cut.shape[1]]
  rgb = video.to_rgb(part, dataclasses.replace(facts, rotation=0, width=part.width, height=part.height))
  rgb = rgb[rows.start - begin_row:rows.stop - begin_row, columns.start - begin_column:columns.stop - begin_column]
  return np.ascontiguousarray(np.rot90(rgb, turns))


def stored_part(facts: SourceFacts, top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
  """Rows and columns of the stored picture (with square pixels) that hold a part of the upright one."""
  bottom, right = top + height, left + width
  # np.rot90 by 90 degrees brings column c, counted from the right, to row c.
  return {0: (slice(top, bottom), slice(left, right)),
          90: (slice(left, right), slice(facts.height - bottom, facts.height - top)),
          180: (slice(facts.height - bottom, facts.height - top), slice(facts.width - right, facts.width - left)),
          270: (slice(facts.width - right, facts.width - left), slice(top, bottom))}[facts.rotation]


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
  """Views of a picture's planes: [rows, samples] uint8 or uint16 each; several channels of a plane lie interleaved in its rows."""
  bits, _ = FORMATS[picture.format.name]
  kind = np.dtype(np.uint8) if bits == 8 else np.dtype('<u2')
  channels = {'rgb24': (3,), 'nv12': (1, 2)}.get(picture.format.name, (1,) * len(picture.planes))
  views = []
  for plane, count in zip(picture.planes, channels):
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    views.append(rows[:plane.height, :plane.width * count * kind.itemsize].view(kind))
  return views
