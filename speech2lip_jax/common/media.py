"""Sound in and mp4 out, through PyAV."""
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from absl import logging

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import temporary_beside

MIN_RATE, MAX_RATE = 1_000, 1_000_000  # samples a second; outside of them a file's header is taken for damaged
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # that an mp4 can hold
BT601, LIMITED_RANGE = 5, 1  # FFmpeg's numbers
REORDERED = 2  # pictures that H.264 with B-frames of B-frames is ahead in decoding
MAX_LOST_S = 0.25  # sound that may be missing: one damaged packet, not a word
MAX_CLOCK_SLIP_S = 0.03  # a time stamp further than this from the running sample count is a hole or an overlap


def read_sound(path: os.PathLike | str, rate: int | None = None, mono: bool = False) -> tuple[np.ndarray, int]:
  """Decodes the first sound stream of any sound or video file.

  Args:
    path: the file.
    rate: samples a second wanted; None keeps the file's own, or takes the nearest that an mp4 can hold.
    mono: one channel, the mean of all; otherwise one or two as in the file (more are mixed down to two).

  Returns:
    [channels, n] int16 samples, and their rate.

  Raises:
    InputError: no such file, nothing that can be decoded, no sound stream, no samples in it, or what `decode` refuses.
  """
  path = str(path)
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; give a sound or video file with --audio')
  try:
    container = av.open(path)
  except (av.FFmpegError, OSError) as error:
    raise InputError(f'{path}: not a sound file, or only the beginning of one ({error.strerror}); give the whole of a wav, '
                     'mp3, m4a, ogg, flac or video with sound') from error
  with container:
    if not container.streams.audio:
      raise InputError(f'{path}: has no sound stream; give a file with sound')
    stream = container.streams.audio[0]
    rate = rate or min(AAC_RATES, key=lambda known: abs(known - stream.rate))
    layout = 'mono' if mono or stream.channels == 1 else 'stereo'
    resampler = av.AudioResampler(format='s16p', layout=layout, rate=rate)
    chunks = []
    for frame in decode(container, stream, path):
      frame.pts = None  # the sample count is the clock
      chunks += [out.to_ndarray() for out in resampler.resample(frame)]
    chunks += [out.to_ndarray() for out in resampler.resample(None)] if chunks else []
  sound = np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0), np.int16)
  if sound.shape[1] == 0:
    raise InputError(f'{path}: holds no sound (0 samples); give a longer recording')
  return sound, rate


def resample(sound: np.ndarray, rate: int, wanted: int) -> tuple[np.ndarray, int]:
  """A sound [channels, n] int16 at `rate` → at the rate wanted or the nearest that an mp4 can hold: [channels, m] int16, and it."""
  wanted = min(AAC_RATES, key=lambda known: abs(known - wanted))
  layout = 'mono' if len(sound) == 1 else 'stereo'
  resampler = av.AudioResampler(format='s16p', layout=layout, rate=wanted)
  frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format='s16p', layout=layout)
  frame.sample_rate = rate
  chunks = [out.to_ndarray() for piece in (frame, None) for out in resampler.resample(piece)]
  return np.concatenate(chunks, axis=1), wanted


def decode(container: 'av.container.InputContainer', stream: 'av.AudioStream', path: str,
           may_have_holes: bool = False) -> Iterator[av.AudioFrame]:
  """Yields the sound that can be decoded, in order, and goes on after packets that cannot.

  Less than `MAX_LOST_S` of damaged sound is told in a warning. What a format does not tell cannot be missed: the end of an ogg, of
  an aac, or of an mp3 without a header that gives its length.

  Args:
    container, stream: the open file and its sound.
    path: for messages.
    may_have_holes: whether time that no packet covers is silence, as in a recording with pauses, and not damage.

  Raises:
    InputError: at the end, more than `MAX_LOST_S` of the sound is damaged or missing; at once, a sample is not a finite number or
      the rate is absurd.
  """
  if not MIN_RATE <= stream.rate <= MAX_RATE:
    raise InputError(f'{path}: its sound has {stream.rate} samples a second; give 8000 ... 192000')
  seconds, hole_s, first_s, next_s, damage_s = 0.0, 0.0, 0.0, 0.0, None
  num_good, num_bad, bad_s = 0, 0, 0.0  # bytes, bytes, seconds
  for packet in _packets(container, stream):
    try:
      frames = stream.decode(packet)
    except av.FFmpegError:
      num_bad += packet.size
      bad_s += float((packet.duration or 0) * (packet.time_base or 0))
      damage_s = seconds if damage_s is None else damage_s
      continue
    num_good += packet.size
    for frame in frames:
      time_s = next_s if frame.time is None else frame.time
      first_s = time_s if not seconds else first_s
      if seconds and time_s - next_s > MAX_CLOCK_SLIP_S and not may_have_holes:
        hole_s += time_s - next_s
        damage_s = seconds if damage_s is None else damage_s
      if frame.format.name.startswith(('flt', 'dbl')):
        samples = frame.to_ndarray()  # [channels, n], or [1, n · channels]
        bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
        if len(bad):
          at_s = seconds + bad[0] / samples.shape[1] * frame.samples / frame.sample_rate
          raise InputError(f'{path}: a sample at {at_s:.2f} s is not a finite number; write the sound without NaN and infinity')
      seconds += frame.samples / frame.sample_rate
      next_s = time_s + frame.samples / frame.sample_rate
      yield frame
  s_per_byte = seconds / max(num_good, 1)
  if container.format.name in ('mp3', 'aac'):  # without a table, what looks like one damaged packet may have swallowed others
    bad_s = num_bad * s_per_byte
  lost_s = max(hole_s, bad_s)
  missing_s = _missing(container, stream, path, next_s - first_s if may_have_holes else seconds, s_per_byte)
  if missing_s > MAX_LOST_S:  # less is what encoders pad
    lost_s = max(lost_s, missing_s)
    damage_s = seconds if damage_s is None else damage_s
  if num_bad and not seconds:
    raise InputError(f'{path}: its sound cannot be decoded; convert it to wav')
  if damage_s is None or lost_s <= MAX_CLOCK_SLIP_S:
    return
  told = f'{path}: about {lost_s:.2f} s of {seconds + lost_s:.2f} s of its sound are damaged or missing, from {damage_s:.2f} s on'
  if lost_s > MAX_LOST_S:
    raise InputError(f'{told}; fetch or record it again, or keep what is left: ffmpeg -i FILE -af aresample=async=1 NEW.wav')
  logging.warning('%s; they are left out', told)


def _packets(container: 'av.container.InputContainer', stream: 'av.AudioStream') -> Iterator[av.Packet]:
  """The packets of a stream up to where the file cannot be read on."""
  try:
    yield from container.demux(stream)
  except av.FFmpegError:
    return


def _missing(container: 'av.container.InputContainer', stream: 'av.AudioStream', path: str, heard_s: float,
             s_per_byte: float) -> float:
  """Seconds of sound that a file says it holds beyond the `heard_s` that were found; 0 where it does not say.

  s_per_byte: seconds of sound in a byte of it.
  """
  kind = container.format.name
  if kind == 'wav':  # FFmpeg goes by the file's size
    with open(path, 'rb') as file:
      size = int.from_bytes(file.read(8)[4:], 'little') + 8
    is_known = size < 2**31  # larger: written while the length was not known
    return (size - os.path.getsize(path)) * s_per_byte if is_known else 0.0
  if kind == 'matroska,webm' and len(container.streams) == 1 and container.duration:
    return (container.duration - (container.start_time or 0)) / av.time_base - heard_s
  if stream.duration is None or kind not in ('mp3', 'flac', 'mov,mp4,m4a,3gp,3g2,mj2'):
    return 0.0
  declared_s = float(stream.duration * (stream.time_base or 0))
  guess_s = os.path.getsize(path) * 8 / stream.bit_rate if stream.bit_rate else 0.0
  if kind == 'mp3' and abs(declared_s - guess_s) < 0.05 * guess_s:
    return 0.0  # FFmpeg's guess from the bit rate, for want of a header
  return declared_s - heard_s


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


class Mp4Writer:
  """Writes an H.264 + AAC mp4 frame by frame; the file appears under its name only when complete.

  Use as a context manager.
  """

  def __init__(self, path: os.PathLike | str, height: int, width: int, fps: int | Fraction, sound: np.ndarray | None = None,
               rate: int = 0, quality: int = 17, max_bits: int | None = None):
    """sound: [channels, n] int16 at `rate`, or None for pictures alone. quality: H.264's constant rate factor, lower is better.
    max_bits: of the pictures, a second; where they need more they lose quality."""
    self._path = pathlib.Path(path)
    self._temporary = temporary_beside(self._path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._container = av.open(str(self._temporary), 'w', format='mp4', options={'movflags': 'faststart'})
    options = {'crf': str(quality), 'preset': 'veryfast'}
    if max_bits:
      options |= {'maxrate': str(max_bits), 'bufsize': str(max_bits)}
    self._video = self._container.add_stream('libx264', rate=fps, options=options)
    self._video.height, self._video.width, self._video.pix_fmt = height, width, 'yuv420p'
    # What RGB is converted to; untold, a picture of many lines would be shown as BT.709.
    self._video.codec_context.colorspace, self._video.codec_context.color_range = BT601, LIMITED_RANGE
    self._soundtrack = None if sound is None else Soundtrack(self._container, sound, rate, 'aac')
    self._rate, self._fps, self._num_frames = rate, fps, 0

  def __enter__(self) -> 'Mp4Writer':
    return self

  def write(self, rgb: np.ndarray) -> None:
    """Appends a frame [H, W, 3] uint8 and the sound that goes with it."""
    self._container.mux(self._video.encode(av.VideoFrame.from_ndarray(rgb, format='rgb24')))
    self._num_frames += 1
    if self._soundtrack:
      self._soundtrack.write_until(self._num_frames * self._rate // self._fps)

  def __exit__(self, kind, *_) -> None:
    if kind is None:
      self._container.mux(self._video.encode())
      if self._soundtrack:
        self._soundtrack.finish()
    self._container.close()
    if kind is None:
      os.replace(self._temporary, self._path)
    else:
      self._temporary.unlink(missing_ok=True)


def join_segments(segments: Sequence[os.PathLike | str], path: os.PathLike | str, fps: int, sound: np.ndarray, rate: int) -> None:
  """Writes one mp4 of the pictures of several, one after another and not encoded again, with a sound under them.

  Args:
    segments: mp4 of `Mp4Writer` without sound, at least one, all of one size.
    path: appears only when complete.
    fps: their frames a second.
    sound: [channels, n] int16 at `rate`.
  """
  temporary, count = temporary_beside(path), 0
  try:
    with av.open(str(temporary), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
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
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
