"""Media files opened and their sound read, through PyAV; `common.film_file` writes."""
import collections
import functools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from absl import logging

from speech2lip_jax.common.errors import InputError, one_line

if TYPE_CHECKING:
  pass

MIN_RATE, MAX_RATE = 1_000, 1_000_000  # samples a second; outside of them a file's header is taken for damaged
MAX_CHANNELS = 64  # that FFmpeg resamples
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # that an mp4 can hold
MAX_S = 6 * 3600  # of a sound, which is held as it is heard (4 GB at 48 kHz stereo), and of a video; more is a header's lie
MAX_PIXELS = 2**26  # of a picture: twice 8K, .2 GB as RGB; FFmpeg itself would take 2 GB for a file of 1 MB
MAX_STREAMS = 64  # of a file
MAX_LOST_S = 0.25  # what encoders pad, so that a file may be shorter than it says
MAX_LOST_SHARE = 0.75  # of a sound that may be damaged or missing; with less than a quarter left nothing useful is said
MAX_CLOCK_SLIP_S = 0.03  # a time stamp further than this from the running sample count is a hole or an overlap
MAX_HOLE_S = 600.0  # a time stamp further ahead is a clock that was set anew, not a hole
BLOCK = 2**20  # samples
MAX_TOLD = 5  # gaps in a warning
SLIP_AFTER_DAMAGE_S = 0.002
COUNTED = ('mp3', 'aac')  # formats whose files hold no time stamps
PACKET_ERRORS = (av.FFmpegError, ValueError, IndexError, MemoryError)  # of PyAV and FFmpeg at damaged places


def check_file(path: str, wanted: str = 'video or sound file') -> None:
  """What can be told before a file is opened: that it is a file and not empty. Looking at a pipe or a device would never end.

  Raises:
    InputError: it is not.
  """
  try:
    status = os.stat(path)
  except FileNotFoundError as error:
    raise InputError(f'{path}: no such file; give a {wanted}') from error
  except (OSError, ValueError) as error:  # a loop of links, a name too long, no permission
    raise InputError(f'{path}: cannot be looked at ({getattr(error, "strerror", error)}); give a {wanted}') from error
  if stat.S_ISDIR(status.st_mode):
    raise InputError(f'{path}: is a folder; give a {wanted}')
  if not stat.S_ISREG(status.st_mode):
    raise InputError(f'{path}: is a device or a pipe, not a file; give a {wanted}')
  if not status.st_size:
    raise InputError(f'{path}: is empty; give a {wanted}')


def open_container(path: str, wanted: str = 'video or sound file') -> 'av.container.InputContainer':
  """An opened media file. It may refer to files beside it, never to the network; its tags may be in any encoding.

  Raises:
    InputError: it is no file, unreadable, no media file, or has more than `MAX_STREAMS` streams.
  """
  check_file(path, wanted)
  try:
    return av.open(f'file:{path}', metadata_errors='replace', options={
        'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS), 'max_streams': str(MAX_STREAMS)})
  except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
    raise InputError(f'{path}: not a readable {wanted}, or only the beginning of one '
                     f'({getattr(error, "strerror", None) or error}); give the whole of a {wanted}') from error


def packets(container: 'av.container.InputContainer', stream: 'av.stream.Stream') -> Iterator[av.Packet]:
  """The packets of a stream up to where the file cannot be read on."""
  try:
    yield from container.demux(stream)
  except PACKET_ERRORS:
    return


def read_sound(path: os.PathLike | str, rate: int | None = None, mono: bool = False) -> tuple[np.ndarray, int]:
  """Decodes the first sound stream of any sound or video file. What is damaged or missing in it is silence, and a warning tells it.

  Args:
    path: the file.
    rate: samples a second wanted; None keeps the file's own, or takes the nearest that an mp4 can hold.
    mono: one channel, the mean of all; otherwise one or two as in the file (more are mixed down to two).

  Returns:
    [channels, n] int16 samples, and their rate.

  Raises:
    InputError: no such file, nothing that can be decoded, no sound stream, no samples in it, or what `Heard` refuses.
  """
  path = str(path)
  with open_container(path, 'sound file, such as wav, mp3, m4a, ogg or flac, or a video with sound') as container:
    stream = sound_stream(container, path)
    rate = rate or min(AAC_RATES, key=lambda known: abs(known - stream.rate))
    heard = Heard(container, stream, path, rate, 's16p', 'mono' if mono or stream.channels == 1 else 'stereo')
    pieces = collections.deque(_in_blocks(heard))
    length = heard.finish()
  sound = np.zeros((pieces[0][1].shape[0], length), np.int16)
  while pieces:  # each is let go of when it has been copied
    begin, samples = pieces.popleft()
    begin = heard.refitted(begin)
    samples = samples[:, :length - begin]
    sound[:, begin:begin + samples.shape[1]] = samples
  return sound, rate


def sound_stream(container: 'av.container.InputContainer', path: str) -> 'av.AudioStream':
  """The first sound stream.

  Raises:
    InputError: there is none, its codec is unknown, its rate is absurd, or it says that it lasts longer than `MAX_S`.
  """
  if not container.streams.audio:
    raise InputError(f'{path}: has no sound stream; give a file with sound')
  stream = container.streams.audio[0]
  if stream.codec_context is None:
    raise InputError(f'{path}: its sound is of a kind that FFmpeg does not know; convert it to wav')
  if not MIN_RATE <= (stream.rate or 0) <= MAX_RATE:
    raise InputError(f'{path}: its sound has {stream.rate or 0} samples a second; give 8000 ... 192000')
  if not 1 <= stream.channels <= MAX_CHANNELS:
    raise InputError(f'{path}: its sound has {stream.channels} channels; give 1 ... {MAX_CHANNELS}')
  if stream.codec_context.name == 'flac':  # whose frames have checksums: a damaged one is lost, and is not noise
    stream.codec_context.options = {'err_detect': 'crccheck+explode'}
  declared_s = float((stream.duration or 0) * (stream.time_base or 0))
  if declared_s > MAX_S and container.format.name not in COUNTED:
    raise InputError(f'{path}: says that it lasts {declared_s / 3600:.1f} h; up to {MAX_S // 3600} h can be read, cut it')
  return stream


def _in_blocks(pieces: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
  """Pieces that adjoin each other joined, up to about `BLOCK` samples: the memory of large arrays is given back."""
  first, block, count = 0, list[np.ndarray](), 0
  for begin, samples in pieces:
    if block and (begin != first + count or count >= BLOCK):
      yield first, np.concatenate(block, axis=1)
      block, count = [], 0
    if not block:
      first = begin
    block.append(samples)
    count += samples.shape[1]
  if block:
    yield first, np.concatenate(block, axis=1)


class Heard:
  """The sound that can be decoded, past packets that cannot be. Iterate it to its end, then ask `finish`.

  Yields (begin, [channels, n] samples) in order, `begin` counted in samples of the wanted rate. Where sound is damaged or missing,
  nothing is yielded, so that it is silence. What a format does not tell cannot be missed: the end of an ogg, of an aac, or of an
  mp3 without a header that gives its length; and in mp3 and aac, which have no time stamps, how much damaged bytes have held is a
  guess that `refitted` mends where the whole length is known.

  lost: (from, to) of each damaged or missing part, seconds.
  """

  def __init__(self, container: 'av.container.InputContainer', stream: 'av.AudioStream', path: str, rate: int,
               sample_format: Literal['s16p', 'fltp'], layout: str, origin_s: float | None = None):
    """container, stream: the open file and its sound. path: for messages. rate, sample_format, layout: of the samples wanted.
    origin_s: of the file's clock, which sample 0 belongs to, with a time that no packet covers being a pause and not damage; None:
    the samples are counted from the first on."""
    self._container, self._stream, self._path = container, stream, path
    self._rate, self._format, self._layout, self._origin_s = rate, sample_format, layout, origin_s
    self._begin, self._end = 0, 0  # samples, so far
    self._stretch, self._is_set_anew = 1.0, False  # of guessed gaps; the clock
    self._heard_s, self._good_bytes, self.lost = 0.0, 0, list[tuple[float, float]]()

  def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
    resampler, setup, mixes = None, None, False
    stamp_s: float | None = None  # that the next frame should have
    bad_bytes, bad_s = 0, 0.0  # since the last frame
    for packet in packets(self._container, self._stream):
      try:
        frames = self._stream.decode(packet)
      except PACKET_ERRORS:
        bad_bytes += packet.size
        bad_s += float((packet.duration or 0) * (packet.time_base or 0))
        continue
      self._good_bytes += packet.size
      for frame in frames:
        if not frame.samples or not frame.sample_rate:
          continue
        gap_s, time_s = self._gap(frame, stamp_s, bad_bytes)
        is_damage = bad_bytes > 0 or self._origin_s is None
        bad_bytes, bad_s = 0, 0.0
        self._check(frame)
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or gap_s or found != setup:
          yield from self._placed(resampler, None, mixes)
          setup, (resampler, mixes) = found, self._resampler(frame)
          if gap_s > 0 and is_damage:
            self._lose(gap_s)
          self._end = (round((time_s - self._origin_s) * self._rate) if self._origin_s is not None and (gap_s or stamp_s is None)
                       else self._end + round(gap_s * self._rate))
          self._begin = self._begin if self._heard_s else self._end
        duration_s = frame.samples / frame.sample_rate
        # By the pictures' clock a slow drift is followed; in a sound alone the samples are the clock.
        stamp_s = (time_s if self._origin_s is None or gap_s or stamp_s is None else stamp_s) + duration_s
        self._heard_s += duration_s
        if self._heard_s > MAX_S:
          raise InputError(f'{self._path}: lasts more than {MAX_S // 3600} h; cut it')
        frame.pts = None
        yield from self._placed(resampler, frame, mixes)
    yield from self._placed(resampler, None, mixes)
    if bad_bytes:
      rest_s = self._guess(bad_bytes) if self._container.format.name in COUNTED else bad_s
      self._lose(rest_s)
      self._end += round(rest_s * self._rate)
    if bad_bytes and not self._heard_s:
      raise InputError(f'{self._path}: its sound cannot be decoded; convert it to wav')

  def finish(self) -> int:
    """Tells in a warning what was lost; how many samples the sound lasts, with silence where its end is missing.

    Raises:
      InputError: there is no sound, or more than `MAX_LOST_SHARE` of it is damaged or missing.
    """
    if not self._heard_s or not self._end:
      if self._origin_s is not None:
        return self._end
      raise InputError(f'{self._path}: holds no sound (0 samples); give a longer recording')
    gaps_s = sum(end - begin for begin, end in self.lost)
    missing_s = None if self._is_set_anew else _missing(
        self._container, self._stream, self._path, (self._end - self._begin) / self._rate,
        self._heard_s / max(self._good_bytes, 1))
    if self._container.format.name in COUNTED and gaps_s and missing_s is not None:
      self._stretch, missing_s = min(1.0, max(0.0, 1 + missing_s / gaps_s)), max(0.0, missing_s)
    end = self.refitted(self._end)
    sides_s = [[self.refitted(round(side * self._rate)) / self._rate for side in span] for span in self.lost]
    if missing_s is not None and missing_s > MAX_LOST_S:
      sides_s.append([end / self._rate, end / self._rate + missing_s])
      end += round(missing_s * self._rate)
    self.lost = _joined(sides_s)
    self._tell()
    return end

  def refitted(self, sample: int) -> int:
    """Where a sample lies after a look at the whole length."""
    if self._stretch == 1:
      return sample
    before_s = sum(min(end, sample / self._rate) - begin for begin, end in self.lost if begin * self._rate < sample)
    return sample - round(before_s * (1 - self._stretch) * self._rate)

  def _tell(self) -> None:
    lost_s = sum(end - begin for begin, end in self.lost)
    spans = ', '.join(f'{begin:.2f}–{end:.2f} s' for begin, end in self.lost[:MAX_TOLD])
    more = f' and {len(self.lost) - MAX_TOLD} parts more' if len(self.lost) > MAX_TOLD else ''
    told = f'{self._path}: {lost_s:.2f} s of {self._heard_s + lost_s:.2f} s of its sound are damaged or missing'
    if lost_s > MAX_LOST_SHARE * (self._heard_s + lost_s):
      raise InputError(f'{told}; fetch or record it again')
    if lost_s > MAX_CLOCK_SLIP_S:
      warn_once(f'{told} and become silence: {spans}{more}')

  def _gap(self, frame: av.AudioFrame, stamp_s: float | None, bad_bytes: int) -> tuple[float, float]:
    """Seconds without sound before a frame, and its time."""
    if self._container.format.name in COUNTED or frame.time is None:
      return self._guess(bad_bytes), stamp_s or 0.0
    if stamp_s is None:
      return 0.0, frame.time
    slip_s = frame.time - stamp_s
    if abs(slip_s) <= (SLIP_AFTER_DAMAGE_S if bad_bytes else MAX_CLOCK_SLIP_S):
      return 0.0, frame.time
    if self._origin_s is None and not 0 < slip_s < MAX_HOLE_S:  # the clock was set anew
      self._is_set_anew = True
      return 0.0, frame.time
    return slip_s, frame.time

  def _lose(self, seconds: float) -> None:
    begin_s = self._end / self._rate
    self.lost.append((begin_s, begin_s + seconds))
    lost_s = sum(end - begin for begin, end in self.lost[-1000:])
    if lost_s > MAX_HOLE_S + self._heard_s * MAX_LOST_SHARE / (1 - MAX_LOST_SHARE):
      self._tell()

  def _guess(self, size: int) -> float:
    """Seconds of sound in bytes that could not be decoded, by those that could."""
    return size * self._heard_s / self._good_bytes if size and self._good_bytes else 0.0

  def _check(self, frame: av.AudioFrame) -> None:
    if frame.format.name.startswith(('flt', 'dbl')):
      samples = frame.to_ndarray()  # [channels, n], or [1, n · channels]
      bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
      if len(bad):
        at_s = self._heard_s + bad[0] / samples.shape[1] * frame.samples / frame.sample_rate
        raise InputError(f'{self._path}: a sample at {at_s:.2f} s is not a finite number; write the sound without NaN and infinity')

  def _resampler(self, frame: av.AudioFrame) -> tuple[av.AudioResampler, bool]:
    """For frames like this one, and whether their channels are mixed after it: FFmpeg does not mix what has no known places."""
    is_unknown = frame.layout.name.endswith('channels') and frame.layout.nb_channels > 8
    if not is_unknown and self._format == 's16p':
      return av.AudioResampler(format='s16p', layout=self._layout, rate=self._rate), False
    return av.AudioResampler(format='flt', layout=frame.layout, rate=self._rate), True  # planes beyond 8 would crash PyAV

  def _placed(self, resampler: av.AudioResampler | None, frame: av.AudioFrame | None, mixes: bool
              ) -> Iterator[tuple[int, np.ndarray]]:
    """What a resampler makes of a frame, or of its rest; with its place."""
    try:
      found = resampler.resample(frame) if resampler else []
    except PACKET_ERRORS as error:
      what = f' of {frame.layout.nb_channels} channels at {frame.sample_rate} Hz' if frame else ''
      raise InputError(f'{self._path}: its sound{what} cannot be resampled; convert it to wav') from error
    for out in found:
      samples = out.to_ndarray()
      if mixes:
        samples = samples.reshape(-1, out.layout.nb_channels).mean(axis=1, dtype=np.float32)
        samples = np.broadcast_to(samples, (1 if self._layout == 'mono' else 2, len(samples)))
        if self._format == 's16p':
          samples = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
      if samples.shape[1]:
        yield self._end, samples
        self._end += samples.shape[1]


def _joined(spans: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
  """(from, to) in order, those that adjoin each other as one."""
  joined: list[tuple[float, float]] = []
  for begin, end in spans:
    if joined and begin - joined[-1][1] <= MAX_CLOCK_SLIP_S:
      joined[-1] = joined[-1][0], end
    else:
      joined.append((begin, end))
  return joined


@functools.cache
def warn_once(message: str) -> None:
  """A warning, once however often a file is read."""
  logging.warning('%s', one_line(message))


def resample(sound: np.ndarray, rate: int, wanted: int, mono: bool = False) -> tuple[np.ndarray, int]:
  """A sound [channels, n] int16 at `rate` → at the rate wanted or the nearest that an mp4 can hold: [channels, m] int16, and it.

  mono: one channel comes out, the mean of all.
  """
  wanted = min(AAC_RATES, key=lambda known: abs(known - wanted))
  layout = 'mono' if len(sound) == 1 else 'stereo'
  resampler = av.AudioResampler(format='s16p', layout='mono' if mono else layout, rate=wanted)
  frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format='s16p', layout=layout)
  frame.sample_rate = rate
  chunks = [out.to_ndarray() for piece in (frame, None) for out in resampler.resample(piece)]
  return np.concatenate(chunks, axis=1), wanted


def _missing(container: 'av.container.InputContainer', stream: 'av.AudioStream', path: str, heard_s: float,
             s_per_byte: float) -> float | None:
  """Seconds of sound that a file says it holds beyond the `heard_s` that were found; None where it does not say.

  s_per_byte: seconds of sound in a byte of it.
  """
  kind = container.format.name
  if kind == 'wav':  # FFmpeg goes by the file's size
    with open(path, 'rb') as file:
      size = int.from_bytes(file.read(8)[4:], 'little') + 8
    is_known = size < 2**31  # larger: written while the length was not known
    return (size - os.path.getsize(path)) * s_per_byte if is_known else None
  if kind == 'matroska,webm' and len(container.streams) == 1 and container.duration:
    return (container.duration - (container.start_time or 0)) / av.time_base - heard_s
  if stream.duration is None or kind not in ('mp3', 'flac', 'mov,mp4,m4a,3gp,3g2,mj2'):
    return None
  declared_s = float(stream.duration * (stream.time_base or 0))
  guess_s = os.path.getsize(path) * 8 / stream.bit_rate if stream.bit_rate else 0.0
  if kind == 'mp3' and abs(declared_s - guess_s) < 0.05 * guess_s:
    return None  # FFmpeg's guess from the bit rate, for want of a header
  return declared_s - heard_s
