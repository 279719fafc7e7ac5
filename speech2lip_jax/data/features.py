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
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.progress import stage
from speech2lip_jax.configs.schema import SPEECH_SOURCES
from speech2lip_jax.data import schema, whisper_speech
from speech2lip_jax.data.dataset import SILENCE_MEL, Subject
from speech2lip_jax.data.file_features import FileSteps, FileWindows, open_array
from speech2lip_jax.data.kept_states import kept_states, ranges_of
from speech2lip_jax.data.mel import log_mel, mean_spectrum
from speech2lip_jax.data.speech_encoder import Encoder, encoder_digest, open_encoder
from speech2lip_jax.data.tracks import CHUNK, FeatureWindows, Scale, StepFeatures, Track

PRIOR_STEPS = schema.MEL_STEPS_PER_SECOND  # of speech that the subject's mean spectrum counts for beside a new sound's
NUM_WHISPER = 80  # components
WHISPER_SCALE = 0.5  # of the components: noise of std config.audio.noise_std then is twice as much to them as to mel
PCA_STEPS = 40_000  # of the training sound, evenly spaced


class _Mel:
  """Log-mel tracks. normalise: less the mean spectrum of the recording, of the subject's whole sound or of the new one."""

  def __init__(self, subject: Subject, normalise: bool):
    self._normalise = normalise
    self._subject_mean = mean_spectrum(np.asarray(subject.mel))[0] if normalise else np.zeros(schema.NUM_MEL_BANDS, np.float32)
    self.renditions = [[self._track(subject.mel[clip.mel_start:clip.mel_start + clip.num_mel], self._subject_mean)
                        for clip in subject.meta.clips]]

  @staticmethod
  def _track(mel: np.ndarray, mean: np.ndarray) -> Track:
    """Silence before and behind, which goes on for ever: two steps, since windows half way between steps begin at an even one."""
    return Track(np.pad(mel, ((2, 2), (0, 0)), constant_values=SILENCE_MEL) - mean, schema.MEL_STEPS_PER_SECOND, -2.0)

  def sound_track(self, mono: np.ndarray) -> Track:
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
    ranges = ranges_of(kept[0][1]['steps_of_clips'])
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

  def _track(self, states: np.ndarray) -> Track:
    steps = [np.asarray(states[i:i + CHUNK], np.float32) @ self._basis for i in range(0, len(states), CHUNK)]
    return self._centred(np.concatenate(steps))

  def _centred(self, components: np.ndarray) -> Track:
    """Of the states' coordinates along the main axes [M, K]."""
    return Track(WHISPER_SCALE * (components - self._mean @ self._basis), whisper_speech.RATE, 0.0)

  def sound_track(self, mono: np.ndarray) -> Track:
    """Of a new sound [m] int16."""
    return self._centred(whisper_speech.own_encoder()(mono, whisper_speech.speech_level(mono), axes=self._basis))


def main_components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Mean [C] and the `count` main axes [C, count] of rows [n, C], the largest entry of each axis positive, float32."""
  mean = rows.mean(0)
  _, axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False, bias=True))
  axes = axes[:, ::-1][:, :count]
  axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
  return mean.astype(np.float32), axes.astype(np.float32)


class OwnFeatures(StepFeatures):
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
  def _joined(tracks: Sequence[Track]) -> Track:
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
    refuse_file(features_file, self.source)
    return self.windows_of(self._joined([part.sound_track(mono) for part in self._parts]), num_frames)


class EncoderFeatures(StepFeatures):
  """Hidden states of another speech encoder; it is loaded when there is something to encode."""

  def __init__(self, subject: Subject, name: str, num_steps: int, normalise: bool):
    self._name = name
    self._encoder: Encoder | None = None
    level = whisper_speech.speech_level(subject.sound.reshape(-1))
    states, record = kept_states(subject, pathlib.PurePath(name).name, encoder_digest(name), self._load,
                                 lambda encoder, sound: encoder(sound, level))
    tracks = [Track(states[low:high], record['rate'], record['first_step']) for low, high in ranges_of(record['steps_of_clips'])]
    super().__init__(subject, num_steps, [tracks], Scale.of(states, normalise))

  def sound_windows(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> FeatureWindows:
    """As `OwnFeatures.sound_windows`."""
    refuse_file(features_file, f'hf:{self._name}')
    encoder = self._load()
    states = encoder(mono, whisper_speech.speech_level(mono))
    return self.windows_of(Track(states, encoder.rate, encoder.first_step), num_frames)

  def _load(self) -> Encoder:
    if not self._encoder:
      with stage('loading the speech encoder'):
        self._encoder = open_encoder(self._name)
    return self._encoder


SpeechFeatures = OwnFeatures | FileSteps | FileWindows | EncoderFeatures


def open_features(subject: Subject, audio_config: ConfigDict, train_ids: np.ndarray) -> SpeechFeatures:
  """The features of a subject that `config.audio` asks for.

  Args:
    subject: whose speech it is.
    audio_config: `config.audio`, of a recipe that `configs.schema.check` has let pass.
    train_ids: training frames; what is fitted to the subject's sound is fitted to theirs.

  Raises:
    InputError: the source is missing or damaged, or does not fit the subject or the config.
  """
  source, num_steps, rate = audio_config.features, audio_config.window_steps, audio_config.features_rate
  normalise = audio_config.normalise
  if source in SPEECH_SOURCES:
    return OwnFeatures(subject, source, num_steps, normalise, train_ids)
  if source.startswith('hf:'):
    return EncoderFeatures(subject, source.removeprefix('hf:'), num_steps, normalise)
  array = open_array(source, 'give the features of the whole subject as --config.audio.features=FILE.npy')
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


def refuse_file(path: str | None, source: str) -> None:
  if path:
    raise InputError(f'--features={path}: this model computes its own features (config.audio.features={source!r}); leave it out')
