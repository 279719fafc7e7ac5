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

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video

MAX_SHORTER, MAX_LONGER = 2160, 4096  # pixels of an upright picture
FAR_AHEAD = 250  # pictures: one further ahead is sought, not decoded up to
HELD = 48  # pictures decoded at once where a video is played backwards
# Pixel formats whose planes can be changed: bits a sample, and by how much a row and a column of chroma are halved; None: RGB.
FORMATS: dict[str, tuple[int, tuple[int, int] | None]] = {
    'yuv420p': (8, (1, 1)), 'yuvj420p': (8, (1, 1)), 'nv12': (8, (1, 1)), 'yuv422p': (8, (0, 1)), 'yuvj422p': (8, (0, 1)),
    'yuv444p': (8, (0, 0)), 'yuvj444p': (8, (0, 0)), 'yuv420p10le': (10, (1, 1)), 'yuv422p10le': (10, (0, 1)),
    'yuv444p10le': (10, (0, 0)), 'rgb24': (8, None), 'gbrp': (8, None)}
FULL_RANGE, UNTAGGED = 2, 2  # FFmpeg's numbers
HDR_TRANSFERS = {16: 'PQ', 18: 'HLG'}
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}  # red, blue


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
  def last_duration_s(self) -> float:
    """Of the last picture."""
    return max(self.duration_s - float(self.times_s[-1]), 0.5 / float(self.rate))

  @property
  def is_full_range(self) -> bool:
    """Whether its samples go from 0 to their largest value."""
    return self.colour_range == FULL_RANGE or self.pix_fmt.startswith('yuvj') or FORMATS[self.pix_fmt][1] is None

  @property
  def red_blue(self) -> tuple[float, float]:
    """The shares of red and blue in its luma."""
    return MATRICES.get(self.matrix, MATRICES[6])  # untagged: as `crop_rgb` takes it


class Source:
  """An opened source video."""

  def __init__(self, facts: SourceFacts, stamps: list[int] | None):
    """stamps: time stamp of each picture, or None where the file has none and pictures are counted."""
    self.facts, self._stamps = facts, stamps

  def read(self, picture_ids: Sequence[int] | np.ndarray) -> Iterator[av.VideoFrame]:
    """Yields pictures in the order asked for: forwards, backwards or leaping. A damaged one is the one before it.

    At most `HELD` are held at a time.

    Raises:
      InputError: the file cannot be read on.
    """
    ids = [int(i) for i in picture_ids]
    held: dict[int, av.VideoFrame] = {}
    with video.open_container(self.facts.path) as container:
      stream = video.video_stream(container, self.facts.path)
      stream.thread_type = 'AUTO'
      following: Iterator[av.VideoFrame] = iter(())
      at = len(self.facts.times_s) + FAR_AHEAD
      for place, wanted in enumerate(ids):
        if wanted not in held:
          goes_back = ids[place + 1:place + 2] == [wanted - 1]
          first, held = max(0, wanted - HELD + 1) if goes_back else wanted, {}
          if not at <= first <= at + FAR_AHEAD:
            following, at = self._from(container, stream, first), first
          for number, picture in zip(range(at, wanted + 1), following):
            if number >= first:
              held[number] = picture
          at = wanted + 1
        yield held[wanted] if place + 1 < len(ids) and ids[place + 1] == wanted else held.pop(wanted)

  def _from(self, container: 'av.container.InputContainer', stream: 'av.video.stream.VideoStream', first: int
            ) -> Iterator[av.VideoFrame]:
    """The pictures from number `first` on."""
    expected, previous = first, None
    for number, picture in self._numbered(container, stream, first):
      if number >= expected:
        yield from itertools.repeat(previous or picture, number - expected)
        yield picture
        expected = number + 1
      previous = picture
    if previous is None:
      raise InputError(f'{self.facts.path}: picture {first} does not decode; re-encode it, for example to H.264 mp4')
    yield from itertools.repeat(previous, len(self.facts.times_s) - expected)

  def _numbered(self, container: 'av.container.InputContainer', stream: 'av.video.stream.VideoStream', first: int
                ) -> Iterator[tuple[int, av.VideoFrame]]:
    """Pictures with their numbers, from one at or before `first` on."""
    if self._stamps is None:
      container.seek(0)
      yield from enumerate(video.decode(container, stream))
      return
    numbers = {stamp: number for number, stamp in enumerate(self._stamps)}
    container.seek(self._stamps[first], stream=stream, backward=True)
    pictures = video.decode(container, stream)
    begin = next(pictures, None)
    if begin is None or begin.pts is None or begin.pts > self._stamps[first]:  # the index of this file is poor
      container.seek(0)
      pictures = video.decode(container, stream)
    else:
      pictures = itertools.chain([begin], pictures)
    yield from ((numbers[picture.pts], picture) for picture in pictures if picture.pts in numbers)


def open_source(path: str) -> Source:
  """Opens a video that is to be changed.

  Raises:
    InputError: it is none, or one of a kind whose pictures cannot be changed and written back faithfully.
  """
  info = video.probe(path, needs_sound=False)
  with video.open_container(path) as container:
    stream = video.video_stream(container, path)
    stamps = {packet.pts or 0 for packet in container.demux(stream) if packet.size and not packet.is_discard}
    time_base, rate = stream.time_base or Fraction(1, 90_000), stream.average_rate or stream.guessed_rate or Fraction(schema.FPS)
  with video.open_container(path) as container:
    stream = video.video_stream(container, path)
    first, codec = next(video.decode(container, stream)), stream.codec_context
    primaries, transfer = int(codec.color_primaries), int(codec.color_trc)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
  _check(path, first, transfer, info)
  times = sorted(stamp for stamp in stamps if stamp >= (first.pts or 0)) if info.has_timestamps else None
  times_s = (np.array(times) - times[0]) * float(time_base) if times else np.arange(round(info.duration_s * info.fps)) / info.fps
  return Source(SourceFacts(
      path=path, width=info.width, height=info.height, stored_width=first.width, stored_height=first.height, rotation=info.rotation,
      pixel_aspect=aspect if 0.2 < aspect < 5 else Fraction(1), pix_fmt=first.format.name, colour_range=int(first.color_range),
      matrix=int(first.colorspace), primaries=primaries, transfer=transfer, rate=Fraction(rate), time_base=time_base,
      times_s=times_s, duration_s=info.duration_s, file_size=info.file_size), times)


def _check(path: str, first: av.VideoFrame, transfer: int, info: video.VideoInfo) -> None:
  """Raises InputError for a kind of video that is not taken, with the command that makes it one that is."""
  remedy = None
  if transfer in HDR_TRANSFERS:
    what = f'is HDR ({HDR_TRANSFERS[transfer]})'
    remedy = ('-vf zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv,'
              'format=yuv420p -crf 14')
  elif first.interlaced_frame:
    what, remedy = 'is interlaced', '-vf bwdif -crf 14'
  elif any(component.is_alpha for component in first.format.components):
    what, remedy = f'has an alpha channel ({first.format.name})', '-vf format=yuv420p -crf 14'
  elif first.format.name not in FORMATS:
    what, remedy = f'has pixels of the format {first.format.name}', '-pix_fmt yuv420p -crf 14'
  elif min(info.width, info.height) > MAX_SHORTER or max(info.width, info.height) > MAX_LONGER:
    what = f'has {info.width}×{info.height} pixels, more than {MAX_LONGER}×{MAX_SHORTER}'
    remedy = f"-vf scale='if(gt(iw,ih),-2,{MAX_SHORTER})':'if(gt(iw,ih),{MAX_SHORTER},-2)' -crf 14"
  if remedy:
    raise InputError(f'{path}: {what}; convert it first: ffmpeg -i {shlex.quote(path)} {remedy} -c:a copy NEW.mp4')


def crop_rgb(picture: av.VideoFrame, facts: SourceFacts, top: int, left: int, height: int, width: int) -> np.ndarray:
  """A part of the upright picture: [height, width, 3] uint8."""
  if facts.pixel_aspect != 1 or not picture.format.name.startswith('yuv'):
    return np.ascontiguousarray(video.to_rgb(picture, facts)[top:top + height, left:left + width])
  turns = facts.rotation // 90
  rows, columns = stored_part(facts, top, left, height, width)
  halved = FORMATS[picture.format.name][1] or (0, 0)
  # Whole blocks of chroma, and one more on each side for its interpolation.
  begin_row, begin_column = (max(0, (span.start & ~1) - 2) for span in (rows, columns))
  end_row, end_column = min(facts.stored_height, rows.stop + 3 & ~1), min(facts.stored_width, columns.stop + 3 & ~1)
  part = av.VideoFrame(end_column - begin_column, end_row - begin_row, picture.format.name)
  part.colorspace, part.color_range = picture.colorspace, picture.color_range
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
