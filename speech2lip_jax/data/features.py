"""Speech features behind one interface: windows [n, T, C] float32 centred on video frames, of a subject or of any sound.

`config.audio.features` names their source:

    mel                 the subject's log-mel, 80 bands, 80 steps a second
    FILE.npy            computed elsewhere: windows [N, T, C], one a frame, or steps [M, C] at config.audio.features_rate
    hf:FOLDER_OR_NAME   hidden states of a speech encoder; kept in SUBJECT/features, so that they are computed once

A window never reaches into another clip. Beyond the ends of a sound, mel reads silence; other features repeat their last
step, since what silence looks like is not known and zeros were never seen. With `config.audio.normalise` mel loses the mean
spectrum of its recording, and other features are scaled to mean 0 and standard deviation 1 over the subject's sound, channel by
channel, so that `config.audio.noise_std` means the same for all.
"""
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic, write_text
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, centred_windows, mel_windows, subject_mel_windows
from speech2lip_jax.data.mel import log_mel, mean_spectrum
from speech2lip_jax.data.speech_encoder import SpeechEncoder, encoder_digest

VERSION = 1  # of what is kept in SUBJECT/features; part of its mark
MAX_DRIFT_S = 0.1  # between the length of a file's features and of the sound they are for
MAX_EXTRA_FRAMES = 2  # programs round the length of a sound differently
_CHUNK = 2048  # rows read at once
PRIOR_STEPS = schema.MEL_STEPS_PER_SECOND  # of speech that the subject's mean spectrum counts for beside a new sound's


class FeatureWindows:
  """Windows of N frames, made when rows are asked for: `windows[rows]` → [b, T, C] float32. shape: (N, T, C)."""

  def __init__(self, make: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int]):
    self._make, self.shape = make, shape

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    return self._make(np.asarray(rows))


class MelFeatures:
  """Log-mel windows. num_steps: T. num_channels: C. (The interface of all the classes here.)

  normalise: less the mean spectrum of the recording (`mel.mean_spectrum`): of the subject's whole sound, or of the new one.
  """
  num_channels = schema.NUM_MEL_BANDS

  def __init__(self, subject: Subject, num_steps: int, normalise: bool = False):
    self._subject, self.num_steps, self._normalise = subject, num_steps, normalise
    self._subject_mean: np.ndarray = np.zeros(self.num_channels, np.float32)
    if normalise:
      self._subject_mean, _ = mean_spectrum(np.asarray(subject.mel))

  def _mean(self, mel: np.ndarray) -> np.ndarray:
    """The mean spectrum to take off a new sound: its own, averaged with the subject's.

    The less speech the sound holds, the more the subject's counts: a pause does not tell how a recording colours speech.
    """
    if not self._normalise:
      return self._subject_mean
    mean, count = mean_spectrum(mel)
    return (count * mean + PRIOR_STEPS * self._subject_mean) / (count + PRIOR_STEPS)

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    return subject_mel_windows(self._subject, frame_ids, self.num_steps) - self._subject_mean

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """Windows of the frames 0 … num_frames − 1 of a new sound.

    Args:
      mono: [m] int16, 16 kHz.
      num_frames: as long as the sound lasts at 25 fps.
      features_file: the .npy of the new sound's features, where they come from files.

    Raises:
      InputError: a file is missing, does not fit, or is not wanted.
    """
    _no_file(features_file, 'mel')
    mel = log_mel(mono.astype(np.float32) / 32768)
    mean = self._mean(mel)
    shape = (num_frames, self.num_steps, self.num_channels)
    return FeatureWindows(lambda rows: mel_windows(mel, rows, self.num_steps) - mean, shape)


@dataclasses.dataclass(frozen=True)
class _Track:
  """Features of one sound. steps: [M, C]. rate: steps a second. first: centre of step 0, in steps after the sound's start."""
  steps: np.ndarray
  rate: float
  first: float

  def windows(self, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
    return np.asarray(centred_windows(self.steps, local_frames, num_steps, self.rate, self.first), np.float32)


@dataclasses.dataclass(frozen=True)
class _Scale:
  """Mean and inverse standard deviation of each channel, [C] float32."""
  mean: np.ndarray
  inverse: np.ndarray

  @classmethod
  def of(cls, steps: np.ndarray, normalise: bool) -> '_Scale':
    """Of [..., C], read in pieces; nothing is changed without `normalise`. A constant channel keeps its size."""
    if not normalise:
      return cls(np.zeros(steps.shape[-1], np.float32), np.ones(steps.shape[-1], np.float32))
    count, total, square = 0, np.zeros(steps.shape[-1]), np.zeros(steps.shape[-1])
    for start in range(0, len(steps), _CHUNK):
      rows = np.asarray(steps[start:start + _CHUNK], np.float64).reshape(-1, steps.shape[-1])
      count, total, square = count + len(rows), total + rows.sum(0), square + np.square(rows).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return cls(mean.astype(np.float32), (1 / np.where(std > 1e-5 * (1 + np.abs(mean)), std, 1)).astype(np.float32))

  def __call__(self, windows: np.ndarray) -> np.ndarray:
    return (windows - self.mean) * self.inverse


class _StepFeatures:
  """What features in steps have in common: `tracks`, one for each clip of the subject."""

  def __init__(self, subject: Subject, num_steps: int, tracks: list[_Track], scale: _Scale):
    self._subject, self._scale = subject, scale
    self._tracks = dict(zip(subject.meta.clips, tracks, strict=True))
    self.num_steps, self.num_channels = num_steps, len(scale.mean)

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    frame_ids = np.asarray(frame_ids)
    windows = np.empty((len(frame_ids), self.num_steps, self.num_channels), np.float32)
    for clip, rows in self._subject.by_clip(frame_ids):
      windows[rows] = self._tracks[clip].windows(frame_ids[rows] - clip.start, self.num_steps)
    return self._scale(windows)

  def _windows_of(self, track: _Track, num_frames: int) -> FeatureWindows:
    return FeatureWindows(lambda rows: self._scale(track.windows(rows, self.num_steps)),
                   (num_frames, self.num_steps, self.num_channels))


class FileSteps(_StepFeatures):
  """Steps [M, C] at a known rate from a .npy over the subject's concatenated sound; step k is centred at (k + ½) / rate."""

  def __init__(self, subject: Subject, path: str, steps: np.ndarray, rate: float, num_steps: int, normalise: bool):
    self._rate = rate
    _check_rate(path, len(steps), rate, subject.meta.num_frames)
    tracks = []
    for clip in subject.meta.clips:
      low, high = (round(frame / schema.FPS * rate) for frame in (clip.start, clip.start + clip.num_frames))
      low = min(low, len(steps) - 1)
      tracks.append(_Track(steps[low:max(high, low + 1)], rate, low + 0.5 - clip.start / schema.FPS * rate))
    super().__init__(subject, num_steps, tracks, _Scale.of(steps, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `MelFeatures.sound_windows`; features_file: [M, C] of the new sound at the same rate."""
    steps = _open_new_file(features_file, ('M', self.num_channels))
    _check_rate(str(features_file), len(steps), self._rate, num_frames)
    return self._windows_of(_Track(steps, self._rate, 0.5), num_frames)


class FileWindows:
  """Windows [N, T, C] from a .npy, one for each frame of the subject."""

  def __init__(self, subject: Subject, path: str, windows: np.ndarray, normalise: bool):
    if len(windows) != subject.meta.num_frames:
      raise InputError(f'{path}: holds windows of {len(windows)} frames, {subject.folder} has {subject.meta.num_frames}; '
                       'give one window for each frame of the subject, clips one after another')
    self._windows, self._scale = windows, _Scale.of(windows, normalise)
    self.num_steps, self.num_channels = windows.shape[1:]

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    return self._scale(np.asarray(self._windows[np.asarray(frame_ids)], np.float32))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `MelFeatures.sound_windows`; features_file: [N, T, C] of the new sound."""
    windows = _open_new_file(features_file, ('N', self.num_steps, self.num_channels))
    if abs(len(windows) - num_frames) > MAX_EXTRA_FRAMES:
      raise InputError(f'{features_file}: holds windows of {len(windows)} frames, the sound lasts {num_frames} at '
                       f'{schema.FPS} a second; give one window a frame')
    last = len(windows) - 1
    return FeatureWindows(lambda rows: self._scale(np.asarray(windows[np.minimum(rows, last)], np.float32)),
                   (num_frames, self.num_steps, self.num_channels))


class EncoderFeatures(_StepFeatures):
  """Hidden states of a speech encoder, each clip on its own; the encoder is loaded when there is something to encode."""

  def __init__(self, subject: Subject, name: str, num_steps: int, normalise: bool):
    self._name = name
    self._encoder: SpeechEncoder | None = None
    steps, record = self._kept(subject)
    starts = np.cumsum([0, *record['steps_of_clips']])
    tracks = [_Track(steps[low:high], record['rate'], record['first_step']) for low, high in zip(starts[:-1], starts[1:])]
    super().__init__(subject, num_steps, tracks, _Scale.of(steps, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `MelFeatures.sound_windows`."""
    _no_file(features_file, f'hf:{self._name}')
    encoder = self._load()
    return self._windows_of(_Track(encoder(mono.astype(np.float32) / 32768), encoder.rate, encoder.first_step), num_frames)

  def _load(self) -> SpeechEncoder:
    if not self._encoder:
      with stage('loading the speech encoder'):
        self._encoder = SpeechEncoder(self._name)
    return self._encoder

  def _kept(self, subject: Subject) -> tuple[np.ndarray, dict[str, Any]]:
    """The subject's features and what made them, from SUBJECT/features or computed and put there."""
    mark = {'version': VERSION, 'encoder_sha256': encoder_digest(self._name), 'sound_sha256': _sound_digest(subject)}
    stem = re.sub(r'[^A-Za-z0-9_.-]+', '_', pathlib.PurePath(self._name).name)
    key = hashlib.sha256(json.dumps(mark, sort_keys=True).encode()).hexdigest()[:12]
    array_path = subject.folder / 'features' / f'{stem}-{key}.npy'
    record_path = array_path.with_suffix('.json')
    try:
      record = json.loads(record_path.read_text())
      steps = np.load(array_path, mmap_mode='r', allow_pickle=False)
      if all(record[name] == value for name, value in mark.items()) and list(steps.shape) == record['shape'] and (
          steps.dtype == np.float32 and sum(record['steps_of_clips']) == len(steps)):
        return steps, record
    except (OSError, ValueError, KeyError, TypeError, EOFError):
      pass  # not there, half written by an older kind of program, or of something else: made again
    steps, lengths = self._encode(subject)
    encoder = self._load()
    record = mark | {'source': stem, 'library': encoder.library, 'rate': encoder.rate, 'first_step': encoder.first_step,
                     'shape': list(steps.shape), 'steps_of_clips': lengths}
    # Several processes may do this at once: each writes its own file and puts the same content under the name.
    try:
      array_path.parent.mkdir(exist_ok=True)
      with open_atomic(array_path) as file:
        np.save(file, steps)
      write_text(record_path, json.dumps(record, indent=1) + '\n')
    except OSError as error:
      raise InputError(f'{array_path}: cannot be written ({error.strerror}); make the subject folder writable') from error
    return steps, record

  def _encode(self, subject: Subject) -> tuple[np.ndarray, list[int]]:
    encoder = self._load()
    parts = []
    for clip in Bar(subject.meta.clips, total=len(subject.meta.clips), title='speech features', unit='clip'):
      parts.append(encoder(subject.sound[clip.start:clip.stop].reshape(-1).astype(np.float32) / 32768))
    return np.concatenate(parts), [len(part) for part in parts]


SpeechFeatures = MelFeatures | FileSteps | FileWindows | EncoderFeatures


def open_features(subject: Subject, audio_config: ConfigDict) -> SpeechFeatures:
  """The features of a subject that `config.audio` asks for.

  Raises:
    InputError: the source is unknown, missing or damaged, or does not fit the subject or the config.
  """
  source, num_steps, rate = audio_config.features, audio_config.window_steps, audio_config.features_rate
  normalise = audio_config.normalise
  if rate < 0 or not np.isfinite(rate):
    raise InputError(f'config.audio.features_rate={rate}: must be a number of steps a second, or 0 for a file of windows')
  if rate and not source.endswith('.npy'):
    raise InputError(f"config.audio.features_rate={rate}: is for a .npy file of steps, not for config.audio.features={source!r}; "
                     'leave it 0')
  if source == 'mel':
    return MelFeatures(subject, num_steps, normalise)
  if source.startswith('hf:') and source != 'hf:':
    return EncoderFeatures(subject, source.removeprefix('hf:'), num_steps, normalise)
  if not source.endswith('.npy'):
    raise InputError(f"config.audio.features={source!r}: must be 'mel', the path of a .npy file, or 'hf:FOLDER_OR_NAME'")
  array = _open_array(source, 'give the features of the whole subject as --config.audio.features=FILE.npy')
  if array.ndim == 2:
    if not rate:
      raise InputError(f'{source}: holds steps {array.shape}; give their number a second as --config.audio.features_rate')
    return FileSteps(subject, source, array, rate, num_steps, normalise)
  if array.ndim != 3:
    raise InputError(f'{source}: has {array.ndim} dimensions {array.shape}; '
                     'must be windows [N, T, C], one a frame, or steps [M, C]')
  if rate:
    raise InputError(f'{source}: holds windows {array.shape}, which need no rate; leave config.audio.features_rate=0')
  if array.shape[1] not in (16, 32, 64):
    raise InputError(f'{source}: its windows have {array.shape[1]} steps; must be 16, 32 or 64')
  if array.shape[1] != num_steps:
    raise InputError(f'{source}: its windows have {array.shape[1]} steps, config.audio.window_steps={num_steps}; '
                     f'give --config.audio.window_steps={array.shape[1]}')
  return FileWindows(subject, source, array, normalise)


def _open_array(path: str, remedy: str) -> np.ndarray:
  """Memory-maps floats that are all finite."""
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; {remedy}')
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, OSError, EOFError) as error:
    raise InputError(f'{path}: cannot be read as .npy ({error}); write it with numpy.save') from error
  if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
    raise InputError(f'{path}: holds {getattr(array, "dtype", "several arrays")}; must be one array of floats')
  if array.size == 0:
    raise InputError(f'{path}: is empty {array.shape}; {remedy}')
  for start in range(0, len(array), _CHUNK):
    finite = np.isfinite(array[start:start + _CHUNK])
    if not finite.all():
      row = start + int(np.argwhere(~finite)[0][0])
      raise InputError(f'{path}: row {row} holds NaN or infinity; compute the features again')
  return array


def _open_new_file(path: str | None, shape: tuple[str | int, ...]) -> np.ndarray:
  layout = '[' + ', '.join(str(size) for size in shape) + ']'
  if not path:
    raise InputError('--features: this model was trained on features from a .npy file; give those of the new sound '
                     f'with --features FILE.npy, {layout}')
  array = _open_array(path, f'give the features of the new sound, {layout}')
  if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
    raise InputError(f'{path}: holds {array.shape}; the model was trained on {layout}')
  return array


def _no_file(path: str | None, source: str) -> None:
  if path:
    raise InputError(f'--features={path}: this model computes its own features (config.audio.features={source!r}); leave it out')


def _check_rate(path: str | None, num_steps: int, rate: float, num_frames: int) -> None:
  seconds = num_frames / schema.FPS
  if abs(num_steps / rate - seconds) > MAX_DRIFT_S:
    raise InputError(f'{path}: {num_steps} steps at {rate:g} a second are {num_steps / rate:.2f} s, the sound lasts '
                     f'{seconds:.2f} s; at that length the rate would be {num_steps / seconds:.2f}')


def _sound_digest(subject: Subject) -> str:
  """Of the subject's sound and where its clips begin."""
  with open(subject.folder / 'audio.wav', 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256')
  digest.update(repr([(clip.start, clip.num_frames) for clip in subject.meta.clips]).encode())
  return digest.hexdigest()
