"""Speech features that were computed elsewhere and come in .npy files: steps of the whole sound, or windows of the frames."""
import os

import numpy as np

from speech2lip_jax.common import npz
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.data.tracks import CHUNK, FeatureWindows, Scale, Speech, StepFeatures, Track

MAX_DRIFT_S = 0.1  # between the length of a file's features and of the sound they are for
MAX_EXTRA_FRAMES = 2  # programs round the length of a sound differently


class FileSteps(StepFeatures):
  """Steps [M, C] at a known rate from a .npy over the subject's concatenated sound; step k is centred at (k + ½) / rate."""

  def __init__(self, subject: Subject, path: str, steps: np.ndarray, rate: float, num_steps: int, normalise: bool):
    self._rate = rate
    _check_rate(path, len(steps), rate, subject.meta.num_frames)
    tracks = []
    for clip in subject.meta.clips:
      low, high = (round(frame / schema.FPS * rate) for frame in (clip.start, clip.start + clip.num_frames))
      low = min(low, len(steps) - 1)
      tracks.append(Track(steps[low:max(high, low + 1)], rate, low + 0.5 - clip.start / schema.FPS * rate))
    super().__init__(subject, num_steps, [tracks], Scale.of(steps, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `features.OwnFeatures.sound_windows`; features_file: [M, C] of the new sound at the same rate."""
    steps = _open_new_file(features_file, ('M', self.num_channels))
    _check_rate(str(features_file), len(steps), self._rate, num_frames)
    return self.windows_of(Track(steps, self._rate, 0.5), num_frames)


class FileWindows:
  """Windows [N, T, C] from a .npy, one for each frame of the subject."""

  def __init__(self, subject: Subject, path: str, windows: np.ndarray, normalise: bool):
    if len(windows) != subject.meta.num_frames:
      raise InputError(f'{path}: holds windows of {len(windows)} frames, {subject.folder} has {subject.meta.num_frames}; '
                       'give one window for each frame of the subject, clips one after another')
    self._windows, self._scale = windows, Scale.of(windows, normalise)
    self.num_steps, self.num_channels = windows.shape[1:]

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    return self._scale(np.asarray(self._windows[np.asarray(frame_ids)], np.float32))

  def subject_speech(self) -> Speech:
    """Of all frames of the subject."""
    count = len(self._windows)
    return Speech(self.subject_windows(np.arange(count)).reshape(1, count * self.num_steps, self.num_channels),
                  np.arange(count, dtype=np.int32) * self.num_steps)

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `features.OwnFeatures.sound_windows`; features_file: [N, T, C] of the new sound."""
    windows = _open_new_file(features_file, ('N', self.num_steps, self.num_channels))
    if abs(len(windows) - num_frames) > MAX_EXTRA_FRAMES:
      raise InputError(f'{features_file}: holds windows of {len(windows)} frames, the sound lasts {num_frames} at '
                       f'{schema.FPS} a second; give one window a frame')
    last = len(windows) - 1
    return FeatureWindows(lambda rows: self._scale(np.asarray(windows[np.minimum(rows, last)], np.float32)),
                          (num_frames, self.num_steps, self.num_channels))


def open_array(path: str, remedy: str) -> np.ndarray:
  """Memory-maps floats that are all finite."""
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; {remedy}')
  try:
    array = npz.open_npy(path)
  except ValueError as error:
    raise InputError(f'{path}: cannot be read as .npy ({error}); write it with numpy.save') from error
  if not np.issubdtype(array.dtype, np.floating) or not array.ndim:
    raise InputError(f'{path}: holds {array.dtype}{"" if array.ndim else ", one number"}; must be one array of floats')
  if array.size == 0:
    raise InputError(f'{path}: is empty {array.shape}; {remedy}')
  for start in range(0, len(array), CHUNK):
    finite = np.isfinite(array[start:start + CHUNK])
    if not finite.all():
      row = start + int(np.argwhere(~finite)[0][0])
      raise InputError(f'{path}: row {row} holds NaN or infinity; compute the features again')
  return array


def _open_new_file(path: str | None, shape: tuple[str | int, ...]) -> np.ndarray:
  layout = '[' + ', '.join(str(size) for size in shape) + ']'
  if not path:
    raise InputError('--features: this model was trained on features from a .npy file; give those of the new sound '
                     f'with --features FILE.npy, {layout}')
  array = open_array(path, f'give the features of the new sound, {layout}')
  if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
    raise InputError(f'{path}: holds {array.shape}; the model was trained on {layout}')
  return array


def _check_rate(path: str | None, num_steps: int, rate: float, num_frames: int) -> None:
  seconds = num_frames / schema.FPS
  if abs(num_steps / rate - seconds) > MAX_DRIFT_S:
    raise InputError(f'{path}: {num_steps} steps at {rate:g} a second are {num_steps / rate:.2f} s, the sound lasts '
                     f'{seconds:.2f} s; at that length the rate would be {num_steps / seconds:.2f}')
