"""Sound in and mp4 out, through PyAV."""
import os
import pathlib

import av
import numpy as np

from speech2lip_jax.common.errors import InputError


def read_sound(path: os.PathLike | str, rate: int | None = None, mono: bool = False) -> tuple[np.ndarray, int]:
  """Decodes the first sound stream of any sound or video file.

  Args:
    path: the file.
    rate: samples a second wanted; None keeps the file's own.
    mono: one channel, the mean of all; otherwise one or two as in the file (more are mixed down to two).

  Returns:
    [channels, n] int16 samples, and their rate.

  Raises:
    InputError: no such file, nothing that can be decoded, no sound stream, or no samples in it.
  """
  path = str(path)
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; give a sound or video file with --audio')
  try:
    container = av.open(path)
  except (av.FFmpegError, OSError) as error:
    raise InputError(f'{path}: not a sound file ({error.strerror}); give wav, mp3, m4a, ogg, flac or a video with sound') from error
  with container:
    if not container.streams.audio:
      raise InputError(f'{path}: has no sound stream; give a file with sound')
    stream = container.streams.audio[0]
    rate = rate or stream.rate
    layout = 'mono' if mono or stream.channels == 1 else 'stereo'
    resampler = av.AudioResampler(format='s16p', layout=layout, rate=rate)
    chunks = []
    try:
      for frame in container.decode(stream):
        frame.pts = None  # holes in the time stamps would stretch the sound
        chunks += [out.to_ndarray() for out in resampler.resample(frame)]
    except av.FFmpegError as error:
      if not chunks:
        raise InputError(f'{path}: its sound cannot be decoded ({error.strerror}); convert it to wav') from error
    chunks += [out.to_ndarray() for out in resampler.resample(None)] if chunks else []
  sound = np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0), np.int16)
  if sound.shape[1] == 0:
    raise InputError(f'{path}: holds no sound (0 samples); give a longer recording')
  return sound, rate


class Mp4Writer:
  """Writes an H.264 + AAC mp4 frame by frame; the file appears under its name only when complete.

  Use as a context manager. The sound is laid under the frames as they come, so that the file can be played while read.
  """

  def __init__(self, path: os.PathLike | str, height: int, width: int, fps: int, sound: np.ndarray, rate: int,
               quality: int = 17):
    """sound: [channels, n] int16 at `rate`. quality: H.264's constant rate factor, lower is better."""
    self._path = pathlib.Path(path)
    self._temporary = self._path.with_name(f'.{self._path.name}.part.mp4')
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._container = av.open(str(self._temporary), 'w', format='mp4', options={'movflags': 'faststart'})
    self._video = self._container.add_stream('libx264', rate=fps, options={'crf': str(quality), 'preset': 'veryfast'})
    self._video.height, self._video.width, self._video.pix_fmt = height, width, 'yuv420p'
    self._layout = 'mono' if len(sound) == 1 else 'stereo'
    self._audio = self._container.add_stream('aac', rate=rate, layout=self._layout)
    self._sound, self._rate, self._fps, self._num_frames, self._sounded = sound, rate, fps, 0, 0

  def __enter__(self) -> 'Mp4Writer':
    return self

  def write(self, rgb: np.ndarray) -> None:
    """Appends a frame [H, W, 3] uint8 and the sound that goes with it."""
    self._container.mux(self._video.encode(av.VideoFrame.from_ndarray(rgb, format='rgb24')))
    self._num_frames += 1
    self._write_sound_until(self._num_frames * self._rate // self._fps)

  def _write_sound_until(self, end: int) -> None:
    piece = np.ascontiguousarray(self._sound[:, self._sounded:end])
    if piece.shape[1]:
      frame = av.AudioFrame.from_ndarray(piece, format='s16p', layout=self._layout)
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
