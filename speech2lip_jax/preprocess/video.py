"""Reading video: any container, codec, size, frame rate and rotation → upright RGB frames on a 25 fps grid.

Time zero of a video is its first picture's time stamp. Grid frame g stands for time g/25 s and is the source picture
nearest to it, so a slower source repeats pictures, a faster one skips some, and a variable rate keeps its timing.
Frames are uint8 RGB [H, W, 3], upright (rotation flag applied) with square pixels. Nothing here holds more than two
decoded pictures at a time.
"""
import dataclasses
import glob as globbing
import itertools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import av
import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema

MIN_CLIP_S = 0.5  # shorter runs teach nothing and have no full speech window
MAX_MISSING_S = 0.5  # of the pictures that a file tells of, without a warning
SEEK_MARGIN_S = 0.5  # seek early: the first pictures after a seek may be incomplete
SAME_TIME_S = 1e-6
UNTAGGED_RANGE, UNTAGGED = 0, 2  # FFmpeg's numbers of a colour range, and of a matrix, primaries or a transfer, that is not told
BT709, BT601, BT2020 = 1, 5, 9
# Shares of red and blue in luma, by FFmpeg's numbers of the matrices that it can apply; and numbers that are (nearly) one of those.
MATRICES = {BT709: (0.2126, 0.0722), 4: (0.3, 0.11), BT601: (0.299, 0.114), 7: (0.212, 0.087), BT2020: (0.2627, 0.0593)}
SAME_MATRIX = {6: BT601, 10: BT2020}
HD_LINES = 720  # a picture of that many, whose matrix is not told, is taken for BT.709, a smaller one for BT.601: as players do


@dataclasses.dataclass(frozen=True)
class VideoInfo(schema.Source):
  """What probing found. num_frames: at 25 fps; has_timestamps: every packet has one."""
  num_frames: int
  has_timestamps: bool
  mtime_ns: int

  @property
  def name(self) -> str:
    return pathlib.Path(self.path).stem

  @property
  def identity(self) -> tuple[str, int, int]:
    """What says that a file is still the same one."""
    return os.path.abspath(self.path), self.file_size, self.mtime_ns

  @property
  def source(self) -> schema.Source:
    """What a subject keeps of it."""
    return schema.Source(**{field.name: getattr(self, field.name) for field in dataclasses.fields(schema.Source)})


class Upright(Protocol):
  """How pictures are shown: width and height in square pixels after the turn by `rotation`, as `VideoInfo` has them."""
  @property
  def width(self) -> int:
    """Pixels."""
  @property
  def height(self) -> int:
    """Pixels."""
  @property
  def rotation(self) -> int:
    """0, 90, 180, 270 degrees counter-clockwise."""


class Shown(NamedTuple):
  """A grid frame and the source picture that it shows. image: [H, W, 3] uint8 RGB, the same array where a picture is repeated.
  time_s: seconds since the source's first picture. order: pictures that this reading decoded before it."""
  grid: int
  image: np.ndarray
  time_s: float
  order: int


def expand_inputs(patterns: list[str], flag: str = '--video') -> list[str]:
  """File paths of the values of `flag`, in the order given, each pattern's matches sorted, none twice.

  Raises:
    InputError: a path does not exist, or a pattern matches nothing.
  """
  paths: list[str] = []
  for pattern in patterns:
    if os.path.exists(pattern):
      matches = [pattern]
    elif globbing.has_magic(pattern):
      matches = sorted(path for path in globbing.glob(pattern, recursive=True) if os.path.isfile(path))
      if not matches:
        raise InputError(f'{flag} {pattern}: no file matches this pattern (looked from {os.getcwd()})')
    else:
      raise InputError(f'{flag} {pattern}: no such file (looked from {os.getcwd()})')
    paths.extend(path for path in matches if path not in paths)
  if not paths:
    raise InputError('--video: no video given; pass --video a.mp4,b.mp4 or a quoted pattern such as "clips/*.mp4"')
  return paths


def open_container(path: str) -> 'av.container.InputContainer':
  """`media.open_container` of a video.

  Raises:
    InputError: it is a folder, unreadable, or no media file.
  """
  return media.open_container(path, 'video file, such as mp4, mov, mkv or mpg')


def video_stream(container: 'av.container.InputContainer', path: str) -> 'av.video.stream.VideoStream':
  """The first moving-picture stream (an album cover is none), which decodes no picture of more than `media.MAX_PIXELS`.

  Raises:
    InputError: there is none, its codec is unknown, its pictures have no size or a larger one, or it says that it lasts longer than
      `media.MAX_S`.
  """
  for stream in container.streams.video:
    if stream.disposition & av.stream.Disposition.attached_pic:
      continue
    codec = stream.codec_context
    if codec is None:
      raise InputError(f'{path}: its pictures are of a kind that FFmpeg does not know; re-encode it, for example to H.264 mp4')
    if not 0 < codec.width * codec.height <= media.MAX_PIXELS:
      raise InputError(f'{path}: its pictures are {codec.width}×{codec.height} pixels, or do not tell how many; '
                       f'up to {media.MAX_PIXELS // 10**6} million can be read, shrink or re-encode it')
    check_length(path, float((stream.duration or 0) * (stream.time_base or 0)))
    codec.options = {'max_pixels': str(media.MAX_PIXELS)}  # a later picture may be another
    return stream
  raise InputError(f'{path}: has no video stream; pass a video file with a face and its sound')


def check_length(path: str, seconds: float) -> None:
  """Raises InputError for a video that lasts longer than `media.MAX_S`, or says so."""
  if seconds > media.MAX_S:
    raise InputError(f'{path}: lasts {seconds / 3600:.4g} h by its time stamps; up to {media.MAX_S // 3600} h can be read, '
                     'cut it or re-encode it')


def probe(path: str, needs_sound: bool = True) -> VideoInfo:
  """Size, timing and rotation of a video, from its packets and its first picture.

  Raises:
    InputError: not a video, no pictures, no sound where that is needed, or shorter than `MIN_CLIP_S`.
  """
  with open_container(path) as container:
    stream = video_stream(container, path)
    if needs_sound:
      if not container.streams.audio:
        raise InputError(f'{path}: has no sound; a subject needs the speech that belongs to its pictures')
      media.sound_stream(container, path)
    last_end, num_packets, has_timestamps = None, 0, True
    for packet in media.packets(container, stream):
      if packet.size == 0:
        continue
      num_packets += 1
      if packet.pts is None:
        has_timestamps = False
      elif not packet.is_discard:
        end = packet.pts + (packet.duration or 0)
        last_end = end if last_end is None else max(last_end, end)
  with open_container(path) as container:
    stream = video_stream(container, path)
    first = next(decode(container, stream), None)
    if first is None:
      raise InputError(
          f'{path}: none of its {num_packets} video packets decodes; re-encode it, for example to H.264 mp4')
    fps = float(stream.average_rate or stream.guessed_rate or schema.FPS)
    if has_timestamps and first.pts is not None and last_end is not None and stream.time_base is not None:
      start_s = float(first.pts * stream.time_base)
      duration_s = float(last_end * stream.time_base) - start_s
      if duration_s < num_packets * 0.5 / fps:  # packets without durations, or a broken clock
        duration_s = max(duration_s, 0.0) + 1 / fps
    else:
      has_timestamps, start_s, duration_s = False, 0.0, num_packets / fps
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if 0.2 < aspect < 5 else 1.0
    height, width = first.height, round(first.width * aspect)
    codec = stream.codec_context
    colour_range, colour_space, primaries, transfer = (None if value == untagged else value for value, untagged in (
        (codec.color_range, UNTAGGED_RANGE), (codec.colorspace, UNTAGGED), (codec.color_primaries, UNTAGGED),
        (codec.color_trc, UNTAGGED)))
    pix_fmt = codec.pix_fmt
    rotation = round(first.rotation / 90) % 4 * 90
    height, width = (width, height) if rotation % 180 else (height, width)
    told_s = _told_length(stream, start_s)
  check_length(path, duration_s)
  if told_s - duration_s > MAX_MISSING_S:
    media.warn_once(f'{path}: its pictures end after {duration_s:.2f} s of {told_s:.2f} s; the file is damaged, or only a part '
                    'of one')
  if duration_s < MIN_CLIP_S:
    raise InputError(f'{path}: only {duration_s:.2f} s long; a clip needs at least {MIN_CLIP_S} s, leave it out')
  status = os.stat(path)
  return VideoInfo(path, width, height, rotation, fps, start_s, duration_s, status.st_size, aspect, pix_fmt,
                   colour_range=colour_range, colour_matrix=colour_space, colour_primaries=primaries, colour_transfer=transfer,
                   num_frames=max(1, round(duration_s * schema.FPS)), has_timestamps=has_timestamps, mtime_ns=status.st_mtime_ns)


def _told_length(stream: 'av.video.stream.VideoStream', start_s: float) -> float:
  """Seconds that a stream that begins at `start_s` says its pictures last; 0 where it does not say."""
  if stream.duration is not None and stream.time_base is not None:
    return float(stream.duration * stream.time_base)
  found = re.fullmatch(r'(\d+):(\d\d):(\d\d(?:\.\d+)?)', stream.metadata.get('DURATION', ''))  # of Matroska
  return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) - start_s if found else 0.0


def read_frames(info: VideoInfo, start: int = 0, stop: int | None = None,
                max_side: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (g, frame) for grid frames start ≤ g < stop, in order: `grid` and `image` of `read_shown`."""
  for shown in read_shown(info, start, stop, max_side):
    yield shown.grid, shown.image


def read_shown(info: VideoInfo, start: int = 0, stop: int | None = None, max_side: int | None = None) -> Iterator[Shown]:
  """Yields grid frames start ≤ g < stop, in order; a video that ends early repeats its last picture.

  Args:
    info: from `probe`.
    start, stop: half-open range of the 25 fps grid; all frames when left out.
    max_side: shrink frames whose longer side is larger than this many pixels.
  """
  stop = info.num_frames if stop is None else stop
  with open_container(info.path) as container:
    stream = video_stream(container, info.path)
    stream.thread_type = 'AUTO'
    grid, before_time = start, 0.0
    before: av.VideoFrame | None = None
    shown: av.VideoFrame | None = None
    image: np.ndarray  # of `shown`
    for order, (time_s, picture) in enumerate(_timed_pictures(container, stream, info, start / schema.FPS)):
      while grid < stop and time_s >= grid / schema.FPS - SAME_TIME_S:
        target = grid / schema.FPS
        is_later_nearer = before is None or time_s - target < target - before_time - SAME_TIME_S
        nearest = picture if before is None or is_later_nearer else before
        if nearest is not shown:
          shown, image = nearest, to_rgb(nearest, info, max_side)
        yield Shown(grid, image, time_s, order) if is_later_nearer else Shown(grid, image, before_time, order - 1)
        grid += 1
      before, before_time = picture, time_s
      if grid >= stop:
        return
    if before is None:
      raise InputError(
          f'{info.path}: no picture decodes at {start / schema.FPS:.2f} s; re-encode it, for example to H.264 mp4')
    image = image if shown is before else to_rgb(before, info, max_side)
    for last in range(grid, stop):
      yield Shown(last, image, before_time, order)


def read_pictures(info: VideoInfo) -> Iterator[np.ndarray]:
  """Yields every picture [H, W, 3] uint8 RGB once, in order, at the video's own rate."""
  with open_container(info.path) as container:
    stream = video_stream(container, info.path)
    stream.thread_type = 'AUTO'
    for _, picture in _timed_pictures(container, stream, info, 0.0):
      yield to_rgb(picture, info)


def source_pictures(info: VideoInfo) -> tuple[np.ndarray, int]:
  """Which source picture each grid frame shows, as `read_frames` chooses, and how many pictures there are.

  Decodes the whole video: only that says which of its packets become pictures.

  Returns:
    [info.num_frames] int, and the number of pictures.
  """
  times = _picture_times(info)
  return _nearest(times, info.num_frames), len(times)


def shown_times(info: VideoInfo) -> np.ndarray:
  """Seconds since the first picture at which the pictures are meant to be seen that the grid frames show: [info.num_frames].

  By the packets' time stamps, without decoding; those of the grid itself where there are none.
  """
  if not info.has_timestamps:
    return np.arange(info.num_frames) / schema.FPS
  times = _packet_times(info)
  return times[_nearest(times, info.num_frames)]


def _nearest(times: np.ndarray, num_frames: int) -> np.ndarray:
  """Which of the pictures at `times` [n], seconds, each grid frame shows: [num_frames] int."""
  targets = np.arange(num_frames) / schema.FPS
  later = np.searchsorted(times, targets - SAME_TIME_S)
  before = np.maximum(later - 1, 0)
  after = np.minimum(later, len(times) - 1)
  is_after = (later == 0) | (later < len(times)) & (times[after] - targets < targets - times[before] - SAME_TIME_S)
  return np.where(is_after, after, before)


def picture_numbers(info: VideoInfo, parts: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
  """Which of the video's pictures, from 0, are shown, told by `time_s` [n] and `order` [n] of some calls of `read_shown`.

  The packets' time stamps number them without decoding. Where that disagrees with how the calls counted, as in a file with packets
  that become no pictures, the whole video is decoded.

  Returns:
    For each call [n] int32.
  """
  if not info.has_timestamps:  # each call read from the beginning
    return [order.astype(np.int32) for _, order in parts]
  stamps = _packet_times(info)
  numbers = [np.searchsorted(stamps, times - SAME_TIME_S) for times, _ in parts]
  if not all(rows[-1] < len(stamps) and np.allclose(stamps[rows], times, rtol=0, atol=SAME_TIME_S)
             and np.ptp(rows - order) == 0 for rows, (times, order) in zip(numbers, parts)):
    stamps = _picture_times(info)
    numbers = [np.abs(stamps - times[:, None]).argmin(axis=1) for times, _ in parts]
  return [rows.astype(np.int32) for rows in numbers]


def _picture_times(info: VideoInfo) -> np.ndarray:
  """Seconds since the first picture of every picture that decodes, ascending."""
  with open_container(info.path) as container:
    stream = video_stream(container, info.path)
    stream.thread_type = 'AUTO'
    return np.array([time_s for time_s, _ in _timed_pictures(container, stream, info, 0.0)])


def _packet_times(info: VideoInfo) -> np.ndarray:
  """The same as the packets' time stamps say."""
  with open_container(info.path) as container:
    stream = video_stream(container, info.path)
    times = np.sort([float(packet.pts * packet.time_base) - info.start_s for packet in media.packets(container, stream)
                     if packet.size and packet.pts is not None and not packet.is_discard])
  return times[times >= -SAME_TIME_S]


def _timed_pictures(container, stream, info: VideoInfo, from_s: float):
  """Yields (seconds since the first picture, av.VideoFrame) in order, the first not after `from_s` if possible."""
  seek_s = from_s - SEEK_MARGIN_S + info.start_s if info.has_timestamps and from_s > SEEK_MARGIN_S else None
  pictures = decode(container, stream, seek_s)
  first = next(pictures, None)
  if seek_s is not None and (first is None or first.pts is None
                             or float(first.pts * stream.time_base) - info.start_s > from_s):
    # The index of this file is poor: read it from the beginning.
    container.seek(0)
    pictures = decode(container, stream)
    first = next(pictures, None)
  time_s = -1 / info.fps
  for picture in itertools.chain([] if first is None else [first], pictures):
    if info.has_timestamps and picture.pts is not None:
      time_s = float(picture.pts * stream.time_base) - info.start_s
    else:
      time_s += 1 / info.fps
    if time_s >= -SAME_TIME_S:
      yield time_s, picture


def decode(container: 'av.container.InputContainer', stream: 'av.video.stream.VideoStream', seek_s: float | None = None
           ) -> Iterator[av.VideoFrame]:
  """Yields the pictures from the key picture before `seek_s` (or the beginning); skips damaged packets."""
  if seek_s is not None and stream.time_base is not None:
    try:
      container.seek(int(seek_s / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
      pass  # a file that cannot seek is read from its beginning
  for packet in media.packets(container, stream):
    try:
      yield from stream.decode(packet)
    except media.PACKET_ERRORS:
      continue


def matrix_of(told: int, lines: int) -> int:
  """One of `MATRICES`: the one that a video tells, or that players assume of stored pictures with that many lines."""
  told = SAME_MATRIX.get(told, told)
  return told if told in MATRICES else BT709 if lines >= HD_LINES else BT601


def to_rgb(picture: av.VideoFrame, info: Upright, max_side: int | None = None) -> np.ndarray:
  """[H, W, 3] uint8 RGB, upright, square pixels, at most `max_side` on the longer side."""
  height, width = (info.width, info.height) if info.rotation % 180 else (info.height, info.width)
  shrink = 1.0 if max_side is None else min(1.0, max_side / max(height, width))
  height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
  matrix = matrix_of(int(picture.colorspace), picture.height)
  if (height, width) != (picture.height, picture.width):
    picture = picture.reformat(width=width,
                               height=height,
                               format='rgb24',
                               src_colorspace=matrix,
                               interpolation='AREA' if shrink < 1.0 else 'BICUBIC')
  image = picture.to_ndarray(format='rgb24', src_colorspace=matrix)
  # The display matrix turns the stored picture counter-clockwise by `rotation` degrees, as np.rot90 does.
  return np.ascontiguousarray(np.rot90(image, info.rotation // 90))
