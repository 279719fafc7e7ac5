"""Speech features behind one interface: windows [n, T, C] float32 centred on video frames, of a subject or of any sound.

`config.audio.features` names their source:

    mel                 log-mel, 80 bands, 80 steps a second
    whisper             hidden states of the package's own speech encoder (data/whisper_speech.py), `NUM_WHISPER` main components of
                        them over the subject's training sound, 50 steps a second
    mel+whisper         both, 80 steps a second
    FILE.npy            computed elsewhere: windows [N, T, C], one a frame, or steps [M, C] at config.audio.features_rate
    hf:FOLDER_OR_NAME   hidden states of another speech encoder

An encoder's states of the subject are kept in SUBJECT/features, so that they are computed once. A window never reaches into another
clip. Beyond the ends of a sound, mel reads silence; other features repeat their last step, since what silence looks like is not
known and zeros were never seen. With `config.audio.normalise` mel loses the mean spectrum of its recording, and features of files
and other encoders are scaled to mean 0 and standard deviation 1 over the subject's sound, channel by channel, so that
`config.audio.noise_std` means the same for all.
"""
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic, write_text
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema, whisper_speech
from speech2lip_jax.data.dataset import SILENCE_MEL, Subject, window_begins
from speech2lip_jax.data.mel import log_mel, mean_spectrum
from speech2lip_jax.data.speech_encoder import Encoder, encoder_digest, open_encoder

VERSION = 2  # of what is kept in SUBJECT/features; part of its mark
MAX_DRIFT_S = 0.1  # between the length of a file's features and of the sound they are for
MAX_EXTRA_FRAMES = 2  # programs round the length of a sound differently
_CHUNK = 2048  # rows read at once
PRIOR_STEPS = schema.MEL_STEPS_PER_SECOND  # of speech that the subject's mean spectrum counts for beside a new sound's
NUM_WHISPER = 80  # components
WHISPER_SCALE = 0.5  # of the components: noise of std config.audio.noise_std then is twice as much to them as to mel
OWN_SOURCES = ('mel', 'whisper', 'mel+whisper')
PCA_STEPS = 40_000  # of the training sound, evenly spaced


class FeatureWindows:
  """Windows of N frames, made when rows are asked for: `windows[rows]` → [b, T, C] float32. shape: (N, T, C)."""

  def __init__(self, make: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int]):
    self._make, self.shape = make, shape

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    return self._make(np.asarray(rows))


class Speech(NamedTuple):
  """The features of all of a subject's frames, without the windows' overlap.

  steps: [K, M, C] float32, K renditions that training may hear; the first is what rendering hears. first: [N] int32; the window of
  frame n is steps[k, first[n]:first[n] + T].
  """
  steps: np.ndarray
  first: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Track:
  """Features of one sound. steps: [M, C]; the first and the last go on for ever. rate: steps a second. first: centre of step 0, in
  steps after the sound's start."""
  steps: np.ndarray
  rate: float
  first: float

  def begins(self, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
    """[n] int64: the first step of the windows centred on frames [n]."""
    return window_begins(local_frames, num_steps, self.rate, self.first)

  def read(self, places: np.ndarray) -> np.ndarray:
    """[..., C] float32: the steps of places [...]."""
    return np.asarray(self.steps[np.clip(places, 0, len(self.steps) - 1)], np.float32)

  def windows(self, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
    """[n, num_steps, C]."""
    return self.read(self.begins(local_frames, num_steps)[:, None] + np.arange(num_steps))

  def at(self, rate: float, first: float, count: int) -> np.ndarray:
    """[count, C] interpolated at `rate` steps a second, the first of them centred at first / rate s."""
    place = np.clip((first + np.arange(count)) * (self.rate / rate) - self.first, 0, len(self.steps) - 1)
    low = np.minimum(place.astype(np.int64), max(len(self.steps) - 2, 0))
    share = (place - low)[:, None].astype(np.float32)
    return (1 - share) * self.read(low) + share * self.read(low + 1)


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
  """What features in steps have in common. num_steps: T. num_channels: C. (With `sound_windows` the interface of all the classes
  here.)

  renditions: K lists of tracks, one for each clip of the subject. scale: what becomes of the steps when they are read.
  """

  def __init__(self, subject: Subject, num_steps: int, renditions: Sequence[list[_Track]],
               scale: Callable[[np.ndarray], np.ndarray] = lambda steps: steps):
    self._subject, self._scale, self._renditions = subject, scale, renditions
    self._tracks = dict(zip(subject.meta.clips, renditions[0], strict=True))
    self.num_steps, self.num_channels = num_steps, renditions[0][0].steps.shape[-1]

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    frame_ids = np.asarray(frame_ids)
    windows = np.empty((len(frame_ids), self.num_steps, self.num_channels), np.float32)
    for clip, rows in self._subject.by_clip(frame_ids):
      windows[rows] = self._tracks[clip].windows(frame_ids[rows] - clip.start, self.num_steps)
    return self._scale(windows)

  def subject_speech(self) -> Speech:
    """Of all frames of the subject."""
    clips, first = self._subject.meta.clips, np.empty(self._subject.meta.num_frames, np.int32)
    parts: list[list[np.ndarray]] = [[] for _ in self._renditions]
    offset = 0
    for i, clip in enumerate(clips):
      begins = self._renditions[0][i].begins(np.arange(clip.num_frames), self.num_steps)
      first[clip.start:clip.stop] = offset + begins - begins[0]
      places = np.arange(begins[0], begins[-1] + self.num_steps)
      for part, rendition in zip(parts, self._renditions):
        part.append(self._scale(rendition[i].read(places)))
      offset += len(places)
    return Speech(np.stack([np.concatenate(part) for part in parts]), first)

  def _windows_of(self, track: _Track, num_frames: int) -> FeatureWindows:
    return FeatureWindows(lambda rows: self._scale(track.windows(rows, self.num_steps)),
                          (num_frames, self.num_steps, self.num_channels))


class _Mel:
  """Log-mel tracks. normalise: less the mean spectrum of the recording, of the subject's whole sound or of the new one."""

  def __init__(self, subject: Subject, normalise: bool):
    self._normalise = normalise
    self._subject_mean = mean_spectrum(np.asarray(subject.mel))[0] if normalise else np.zeros(schema.NUM_MEL_BANDS, np.float32)
    self.renditions = [[self._track(subject.mel[clip.mel_start:clip.mel_start + clip.num_mel], self._subject_mean)
                        for clip in subject.meta.clips]]

  @staticmethod
  def _track(mel: np.ndarray, mean: np.ndarray) -> _Track:
    """Silence before and behind, which goes on for ever: two steps, since windows half way between steps begin at an even one."""
    return _Track(np.pad(mel, ((2, 2), (0, 0)), constant_values=SILENCE_MEL) - mean, schema.MEL_STEPS_PER_SECOND, -2.0)

  def sound_track(self, mono: np.ndarray) -> _Track:
    """Of a new sound [m] int16. The less speech it holds, the more the subject's mean counts: a pause does not tell how a recording
    colours speech."""
    mel, mean = log_mel(mono), self._subject_mean
    if self._normalise:
      own, count = mean_spectrum(mel)
      mean = (count * own + PRIOR_STEPS * mean) / (count + PRIOR_STEPS)
    return self._track(mel, mean)


def _encode(encoder: whisper_speech.WhisperSpeech, sound: np.ndarray, level: float, rendition: int) -> np.ndarray:
  return encoder(sound, level, rendition)


class _Whisper:
  """Tracks of the main components of the package's speech encoder, over the sound of the training frames."""

  def __init__(self, subject: Subject, train_ids: np.ndarray):
    level = whisper_speech.speech_level(subject.sound.reshape(-1))
    kept = [kept_states(subject, f'whisper_{rendition}', f'{whisper_speech.own_digest()} {rendition}', whisper_speech.own_encoder,
                        functools.partial(_encode, level=level, rendition=rendition))
            for rendition in range(whisper_speech.RENDITIONS)]
    ranges = _ranges(kept[0][1]['steps_of_clips'])
    rows = self._rows_of(subject, train_ids, ranges)
    self._mean, self._basis = main_components(np.concatenate([np.asarray(states[rows], np.float64) for states, _ in kept]),
                                              NUM_WHISPER)
    self.renditions = [[self._track(states[low:high]) for low, high in ranges] for states, _ in kept]

  @staticmethod
  def _rows_of(subject: Subject, train_ids: np.ndarray, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Rows of the states that were heard during the training frames, evenly spaced."""
    per_frame = round(whisper_speech.RATE / schema.FPS)
    rows = [low + (train_ids[(train_ids >= clip.start) & (train_ids < clip.stop)] - clip.start) * per_frame
            for clip, (low, _) in zip(subject.meta.clips, ranges)]
    found = np.concatenate(rows)
    return found[::-(-len(found) // PCA_STEPS)]

  def _track(self, states: np.ndarray) -> _Track:
    steps = np.concatenate([(np.asarray(states[i:i + _CHUNK], np.float32) - self._mean) @ self._basis
                            for i in range(0, len(states), _CHUNK)])
    return _Track(WHISPER_SCALE * steps, whisper_speech.RATE, 0.0)

  def sound_track(self, mono: np.ndarray) -> _Track:
    """Of a new sound [m] int16."""
    return self._track(whisper_speech.own_encoder()(mono, whisper_speech.speech_level(mono)))


def main_components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Mean [C] and the `count` main axes [C, count] of rows [n, C], the largest entry of each axis positive, float32."""
  mean = rows.mean(0)
  _, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False, bias=True))
  axes = axes[:, ::-1][:, :count]
  axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
  return mean.astype(np.float32), axes.astype(np.float32)


def _ranges(lengths: list[int]) -> list[tuple[int, int]]:
  ends = np.cumsum([0, *lengths]).tolist()
  return list(zip(ends[:-1], ends[1:]))


class OwnFeatures(_StepFeatures):
  """What the package makes of sound itself: 'mel', 'whisper', or 'mel+whisper', whose steps are mel's."""

  def __init__(self, subject: Subject, source: str, num_steps: int, normalise: bool, train_ids: np.ndarray):
    self.source = source
    self._parts: list[_Mel | _Whisper] = []
    if 'mel' in source.split('+'):
      self._parts.append(_Mel(subject, normalise))
    if 'whisper' in source.split('+'):
      self._parts.append(_Whisper(subject, train_ids))
    count = max(len(part.renditions) for part in self._parts)
    renditions = [[self._joined(tracks) for tracks in zip(*(part.renditions[k % len(part.renditions)] for part in self._parts))]
                  for k in range(count)]
    super().__init__(subject, num_steps, renditions)

  @staticmethod
  def _joined(tracks: Sequence[_Track]) -> _Track:
    """One track of all channels, at the steps of the first."""
    main, *others = tracks
    return dataclasses.replace(main, steps=np.concatenate(
        [main.steps, *(other.at(main.rate, main.first, len(main.steps)) for other in others)], axis=1))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """Windows of the frames 0 … num_frames − 1 of a new sound.

    Args:
      mono: [m] int16, 16 kHz.
      num_frames: as long as the sound lasts at 25 fps.
      features_file: the .npy of the new sound's features, where they come from files.

    Raises:
      InputError: a file is missing, does not fit, or is not wanted.
    """
    _no_file(features_file, self.source)
    return self._windows_of(self._joined([part.sound_track(mono) for part in self._parts]), num_frames)


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
    super().__init__(subject, num_steps, [tracks], _Scale.of(steps, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `OwnFeatures.sound_windows`; features_file: [M, C] of the new sound at the same rate."""
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

  def subject_speech(self) -> Speech:
    """Of all frames of the subject."""
    count = len(self._windows)
    return Speech(self.subject_windows(np.arange(count)).reshape(1, count * self.num_steps, self.num_channels),
                  np.arange(count, dtype=np.int32) * self.num_steps)

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `OwnFeatures.sound_windows`; features_file: [N, T, C] of the new sound."""
    windows = _open_new_file(features_file, ('N', self.num_steps, self.num_channels))
    if abs(len(windows) - num_frames) > MAX_EXTRA_FRAMES:
      raise InputError(f'{features_file}: holds windows of {len(windows)} frames, the sound lasts {num_frames} at '
                       f'{schema.FPS} a second; give one window a frame')
    last = len(windows) - 1
    return FeatureWindows(lambda rows: self._scale(np.asarray(windows[np.minimum(rows, last)], np.float32)),
                          (num_frames, self.num_steps, self.num_channels))


class EncoderFeatures(_StepFeatures):
  """Hidden states of another speech encoder; it is loaded when there is something to encode."""

  def __init__(self, subject: Subject, name: str, num_steps: int, normalise: bool):
    self._name = name
    self._encoder: Encoder | None = None
    level = whisper_speech.speech_level(subject.sound.reshape(-1))
    states, record = kept_states(subject, pathlib.PurePath(name).name, encoder_digest(name), self._load,
                                 lambda encoder, sound: encoder(sound, level))
    tracks = [_Track(states[low:high], record['rate'], record['first_step']) for low, high in _ranges(record['steps_of_clips'])]
    super().__init__(subject, num_steps, [tracks], _Scale.of(states, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `OwnFeatures.sound_windows`."""
    _no_file(features_file, f'hf:{self._name}')
    encoder = self._load()
    states = encoder(mono, whisper_speech.speech_level(mono))
    return self._windows_of(_Track(states, encoder.rate, encoder.first_step), num_frames)

  def _load(self) -> Encoder:
    if not self._encoder:
      with stage('loading the speech encoder'):
        self._encoder = open_encoder(self._name)
    return self._encoder


def kept_states(subject: Subject, name: str, digest: str, load: Callable[[], Any],
                encode: Callable[[Any, np.ndarray], np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
  """A speech encoder's states of a subject's sound, each clip on its own, from SUBJECT/features or computed and put there.

  Args:
    subject: whose sound it is.
    name: begins the files' names.
    digest: tells the weights, and whatever else the states follow from.
    load: gives the encoder, an `Encoder`.
    encode: (encoder, [n] int16) → [M, C].

  Returns:
    states: [M, C] float16, clips one after another; a memory map where they were there.
    record: 'rate', 'first_step', 'steps_of_clips' and what made them.
  """
  mark = {'version': VERSION, 'encoder_sha256': digest, 'sound_sha256': _sound_digest(subject)}
  stem = re.sub(r'[^A-Za-z0-9_.-]+', '_', name)
  key = hashlib.sha256(json.dumps(mark, sort_keys=True).encode()).hexdigest()[:12]
  array_path = subject.folder / 'features' / f'{stem}-{key}.npy'
  record_path = array_path.with_suffix('.json')
  try:
    record = json.loads(record_path.read_text())
    states = np.load(array_path, mmap_mode='r', allow_pickle=False)
    if all(record[name] == value for name, value in mark.items()) and list(states.shape) == record['shape'] and (
        states.dtype == np.float16 and sum(record['steps_of_clips']) == len(states)):
      return states, record
  except (OSError, ValueError, KeyError, TypeError, EOFError):
    pass  # not there, half written by an older kind of program, or of something else: made again
  encoder, clips = load(), subject.meta.clips
  parts = [encode(encoder, subject.sound[clip.start:clip.stop].reshape(-1)).astype(np.float16)
           for clip in Bar(clips, total=len(clips), title='speech features', unit='clip')]
  states = np.concatenate(parts)
  record = mark | {'source': stem, 'library': encoder.library, 'rate': encoder.rate, 'first_step': encoder.first_step,
                   'shape': list(states.shape), 'steps_of_clips': [len(part) for part in parts]}
  # Several processes may do this at once: each writes its own file and puts the same content under the name.
  try:
    array_path.parent.mkdir(exist_ok=True)
    with open_atomic(array_path) as file:
      np.save(file, states)
    write_text(record_path, json.dumps(record, indent=1) + '\n')
  except OSError as error:
    print(f'{array_path}: cannot be kept ({error.strerror}); speech features are computed again each time', file=sys.stderr)
  return states, record


SpeechFeatures = OwnFeatures | FileSteps | FileWindows | EncoderFeatures


def open_features(subject: Subject, audio_config: ConfigDict, train_ids: np.ndarray) -> SpeechFeatures:
  """The features of a subject that `config.audio` asks for.

  Args:
    subject: whose speech it is.
    audio_config: `config.audio`.
    train_ids: training frames; what is fitted to the subject's sound is fitted to theirs.

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
  if source in OWN_SOURCES:
    return OwnFeatures(subject, source, num_steps, normalise, train_ids)
  if source.startswith('hf:') and source != 'hf:':
    return EncoderFeatures(subject, source.removeprefix('hf:'), num_steps, normalise)
  if not source.endswith('.npy'):
    raise InputError(f"config.audio.features={source!r}: must be one of {', '.join(map(repr, OWN_SOURCES))}, the path of a "
                     ".npy file, or 'hf:FOLDER_OR_NAME'")
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
