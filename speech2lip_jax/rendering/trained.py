"""A trained workdir, opened: speech → speech codes of all frames, smoothed, and closed in silence.

The codes of all frames come first, since they are small and their neighbours and silence matter.
"""
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.io import wavfile
from scipy.ndimage import gaussian_filter1d

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema, voice_activity
from speech2lip_jax.data.dataset import Split, Subject, load_subject, split_frames
from speech2lip_jax.data.features import SpeechFeatures, open_features
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.rendering import silence
from speech2lip_jax.rendering.predictor import Predictor
from speech2lip_jax.training import checkpoint
from speech2lip_jax.training import state as train_state

HEARD_AROUND = 75  # frames of a clip around those wanted, for the detector of speech to hear as well


class Trained(NamedTuple):
  """A finished or running training: its config, subject, split, speech features and a predictor with its best weights."""
  config: ConfigDict
  subject: Subject
  split: Split
  features: SpeechFeatures
  predictor: Predictor
  step: int

  def subject_codes(self, frame_ids: np.ndarray) -> silence.Codes:
    """Mouths of frames of the subject that say their own sound, smoothed and closed in silence as the config wants it."""
    clip_ids = self.subject.clip_of_frames(frame_ids)
    breaks = np.flatnonzero((np.diff(frame_ids) != 1) | np.diff(clip_ids)) + 1
    speech = self._smooth(self.predictor.codes(self.features.subject_windows(frame_ids)), breaks)
    if not self.config.silence.close:
      return self.predictor.speech_only(speech)
    _, sound = wavfile.read(self.subject.folder / 'audio.wav', mmap=True)
    activity = np.empty(len(frame_ids), np.float32)
    for clip_id in np.unique(clip_ids):
      rows = np.flatnonzero(clip_ids == clip_id)
      clip = self.subject.meta.clips[clip_id]
      start = max(clip.start, frame_ids[rows[0]] - HEARD_AROUND)
      stop = min(clip.start + clip.num_frames, frame_ids[rows[-1]] + 1 + HEARD_AROUND)
      heard = sound[start * schema.SAMPLES_PER_FRAME:stop * schema.SAMPLES_PER_FRAME]
      activity[rows] = self._activity(heard, stop - start)[frame_ids[rows] - start]
    return silence.close_mouth(speech, activity, self._resting_mouth())

  def sound_codes(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> silence.Codes:
    """Mouths of a new sound, smoothed and closed in silence as the config wants it.

    Args:
      mono: [m] int16, 16 kHz.
      num_frames: as long as the sound lasts at 25 fps.
      features_file: the .npy of the sound's features, where the model was trained on features from a file.

    Raises:
      InputError: the file of features is missing, does not fit, or is not wanted.
    """
    speech = self._smooth(self.predictor.codes(self.features.sound_windows(mono, num_frames, features_file)), [])
    if not self.config.silence.close:
      return self.predictor.speech_only(speech)
    return silence.close_mouth(speech, self._activity(mono, num_frames), self._resting_mouth())

  def _smooth(self, speech: np.ndarray, breaks: np.ndarray | list[int]) -> np.ndarray:
    std = self.config.audio.smoothing
    if not std:
      return speech
    return np.concatenate([gaussian_filter1d(run, std, axis=0, mode='nearest') for run in np.split(speech, breaks)])

  def _activity(self, mono: np.ndarray, num_frames: int) -> np.ndarray:
    config = self.config.silence
    return voice_activity.speech_activity(mono, num_frames, config.lead, config.hold, config.ramp)

  def _resting_mouth(self) -> silence.RestingMouth:
    return self.predictor.resting_mouth(self.split.train, self.features.subject_windows)


def validate_config(config: ConfigDict) -> None:
  """Checks `config.audio.smoothing` and `config.silence`.

  Raises:
    InputError: a value is out of range.
  """
  for name, value, largest in (('audio.smoothing', config.audio.smoothing, 10), *(
      (f'silence.{name}', config.silence[name], 5) for name in ('lead', 'hold', 'ramp'))):
    if not 0 <= value <= largest:
      raise InputError(f'config.{name}={value}: must be 0 … {largest}')


def load_trained(workdir: str, batch_size: int = 8) -> Trained:
  """Opens a workdir of `speech2lip train` with the checkpoint that was best on the validation part.

  Raises:
    InputError: no workdir, no checkpoint in it yet, or its subject folder is gone or changed.
  """
  config = checkpoint.read_config(workdir)
  validate_config(config)
  subject = load_subject(config.data.path)
  split = split_frames(subject, config.data)
  features = open_features(subject, config.audio)
  model = build_model(subject, config)
  constants = subject_constants(subject, split.train)
  with checkpoint.Checkpoints(workdir) as checkpoints:
    step = checkpoints.best_step()
    if step is None:
      raise InputError(f'{workdir}/checkpoints: no checkpoint yet; let speech2lip train run to its first one '
                       f'({config.train.eval_every} steps)')
    shapes = jax.eval_shape(lambda constants: train_state.create_variables(model, constants, config, features.num_channels),
                            constants)
    weights = checkpoints.restore_weights(step, {'ema_params': shapes['params'], 'batch_stats': shapes['batch_stats']})
  variables = {'params': weights['ema_params'], 'batch_stats': weights['batch_stats']}
  return Trained(config, subject, split, features, Predictor(model, variables, constants, subject, batch_size), step)
