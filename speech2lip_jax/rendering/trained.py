"""A trained workdir, opened: speech → audio embeddings of all frames, smoothed, widened, and closed in silence.

The mouths of all frames come first, since they are small and their neighbours and silence matter.
"""
import hashlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter1d

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema, voice_activity
from speech2lip_jax.data.dataset import Split, Subject
from speech2lip_jax.data.features import SpeechFeatures
from speech2lip_jax.rendering import silence
from speech2lip_jax.rendering.articulation import Articulation
from speech2lip_jax.rendering.jaw import open_jaw
from speech2lip_jax.rendering.predictor import Predictor
from speech2lip_jax.rendering.real_detail import open_detail
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir import state as workdir_state
from speech2lip_jax.workdir.run import open_run

SPEECH_HEARD = 1500  # training frames, the first, in which it is looked for
HEARD_AROUND = 75  # frames of a clip around those wanted, for the detector of speech to hear as well


class Trained(NamedTuple):
  """A finished or running training: its config, subject, split, speech features and a predictor with its best weights.

  digest: SHA-256 of these weights, hexadecimal, which names the model in what it paints.
  """
  config: ConfigDict
  subject: Subject
  split: Split
  features: SpeechFeatures
  predictor: Predictor
  step: int
  articulation: Articulation | None = None
  digest: str = ''

  def subject_mouths(self, frame_ids: np.ndarray) -> silence.Mouths:
    """Mouths of frames of the subject that say their own sound, smoothed and closed in silence as the config wants it."""
    audio_embedding = self._widened(self._subject_embeddings(frame_ids), np.zeros(len(frame_ids), bool))
    if not self.config.silence.close:
      return self._closed(audio_embedding, np.ones(len(frame_ids), np.float32))
    activity = np.empty(len(frame_ids), np.float32)
    for clip, rows in self.subject.by_clip(frame_ids):
      start = max(clip.start, frame_ids[rows[0]] - HEARD_AROUND)
      stop = min(clip.stop, frame_ids[rows[-1]] + 1 + HEARD_AROUND)
      activity[rows] = self._activity(self.subject.sound[start:stop].reshape(-1), stop - start)[frame_ids[rows] - start]
    return self._closed(audio_embedding, activity)

  def sound_mouths(self, mono: np.ndarray, num_frames: int, features_file: str | None = None) -> silence.Mouths:
    """Mouths of a new sound, smoothed and closed in silence as the config wants it.

    Args:
      mono: [m] int16, 16 kHz.
      num_frames: as long as the sound lasts at 25 fps.
      features_file: the .npy of the sound's features, where the model was trained on features from a file.

    Raises:
      InputError: the file of features is missing, does not fit, or is not wanted.
    """
    spoken = voice_activity.speech_frames(mono, num_frames)
    return self._closed(self._sound_embeddings(mono, spoken, features_file), self._eased(spoken))

  def sound_mouths_at(self, mono: np.ndarray, times_s: np.ndarray, features_file: str | None = None) -> silence.Mouths:
    """Mouths of a new sound in pictures of any instants, as `sound_mouths` gives them for those of 25 a second.

    The embeddings of every 20 ms are joined by a cubic spline: the features that they hear come in steps of 12 or 20 ms.

    Args:
      mono: [m] int16, 16 kHz.
      times_s: [n] seconds of the sound; beyond its ends, what is heard there.
      features_file: the .npy of the sound's features, where the model was trained on features from a file; it has those of 25
        pictures a second only.

    Raises:
      InputError: the file of features is missing, does not fit, or is not wanted.
    """
    num_frames = max(2, round(len(mono) / schema.SAMPLES_PER_FRAME))
    spoken = voice_activity.speech_frames(mono, num_frames)
    known = np.arange(num_frames) / schema.FPS
    audio_embedding = self._sound_embeddings(mono, spoken, features_file)
    if not features_file:
      half = schema.SAMPLES_PER_FRAME // 2
      between = self._sound_embeddings(np.append(mono[half:], np.zeros(half, mono.dtype)), spoken, None)
      audio_embedding = np.stack([audio_embedding, between], 1).reshape(2 * num_frames, -1)
      known = np.arange(2 * num_frames) / (2 * schema.FPS)
    spline = make_interp_spline(known, audio_embedding, k=min(3, len(known) - 1))
    activity = np.interp(times_s, np.arange(num_frames) / schema.FPS, self._eased(spoken)).astype(np.float32)
    return self._closed(spline(np.clip(times_s, 0, known[-1])).astype(np.float32), activity)

  def _sound_embeddings(self, mono: np.ndarray, spoken: np.ndarray, features_file: str | None) -> np.ndarray:
    """[n, A], one for each of `spoken` [n]."""
    windows = self.features.sound_windows(mono, len(spoken), features_file)
    return self._widened(self._smooth(self.predictor.audio_embeddings(windows), []), spoken)

  def _eased(self, spoken: np.ndarray) -> np.ndarray:
    config = self.config.silence
    return voice_activity.eased(spoken, config.lead, config.hold, config.ramp)

  def _closed(self, audio_embedding: np.ndarray, activity: np.ndarray) -> silence.Mouths:
    if not self.config.silence.close:
      return self.predictor.mouths_of(audio_embedding)
    return silence.close_mouth(audio_embedding, activity, self._resting_mouth())

  def with_articulation(self) -> 'Trained':
    """With what is known of the subject's own openings, where there is speech to know them from."""
    amplitude, val = self.config.linear.amplitude, self.split.val
    spoken = self._spoken_frames(self.split.train[:SPEECH_HEARD]) if amplitude else val[:0]
    if not len(spoken):
      return self
    true, learned = self.predictor.true_openings, self.predictor.openings(self._subject_embeddings(val))
    return self._replace(articulation=Articulation.of(true(spoken), true(val), learned, amplitude))

  def _spoken_frames(self, frame_ids: np.ndarray) -> np.ndarray:
    spoken = [frame_ids[:0]]
    for _, rows in self.subject.by_clip(frame_ids):
      ids = frame_ids[rows]
      heard = voice_activity.speech_frames(self.subject.sound[ids[0]:ids[-1] + 1].reshape(-1), ids[-1] + 1 - ids[0])
      spoken.append(ids[heard[ids - ids[0]]])
    return np.concatenate(spoken)

  def _subject_embeddings(self, frame_ids: np.ndarray) -> np.ndarray:
    breaks = np.flatnonzero((np.diff(frame_ids) != 1) | np.diff(self.subject.clip_of_frames(frame_ids))) + 1
    return self._smooth(self.predictor.audio_embeddings(self.features.subject_windows(frame_ids)), breaks)

  def _widened(self, audio_embedding: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """With the last channel set to what is to be widened. spoken: [n] bool, frames from which a new sound is known."""
    if self.articulation is None:
      return audio_embedding
    opening = self.predictor.openings(audio_embedding)
    return np.column_stack([audio_embedding[:, :-1], self.articulation.widening(opening, opening[spoken])])

  def _smooth(self, audio_embedding: np.ndarray, breaks: np.ndarray | list[int]) -> np.ndarray:
    std = self.config.audio.smoothing
    if not std:
      return audio_embedding
    return np.concatenate([gaussian_filter1d(run, std, axis=0, mode='nearest') for run in np.split(audio_embedding, breaks)])

  def _activity(self, mono: np.ndarray, num_frames: int) -> np.ndarray:
    config = self.config.silence
    return voice_activity.speech_activity(mono, num_frames, config.lead, config.hold, config.ramp)

  def _resting_mouth(self) -> silence.RestingMouth:
    return self.predictor.resting_mouth(self.split.train, self.features.subject_windows)


def load_trained(workdir: str, batch_size: int = 8) -> Trained:
  """Opens a workdir of `speech2lip train` with the checkpoint that was best on the validation part.

  Says so where Blend-Net was not trained yet at that checkpoint.

  Raises:
    InputError: no workdir, no checkpoint in it yet, or its subject folder is gone or changed.
  """
  config = config_file.read_config(workdir)
  config_file.check_subject(workdir, config.data.path)
  run = open_run(config)
  with checkpoint.Checkpoints(workdir) as checkpoints:
    step = checkpoints.best_step()
    if step is None:
      raise InputError(f'{workdir}/checkpoints: no checkpoint yet; let speech2lip train run to its first one '
                       f'({config.train.eval_every} steps)')
    create = lambda constants: workdir_state.create_variables(run.model, constants, config, run.features.num_channels)
    shapes = jax.eval_shape(create, run.constants)
    weights = checkpoints.restore_weights(step, {'ema_params': shapes['params'], 'batch_stats': shapes['batch_stats']})
  has_blend_net = step > config.train.blend_start_step
  if jax.process_index() == 0 and not has_blend_net and config.train.blend_start_step < config.train.num_steps:
    print(f'{workdir}: in the checkpoint of step {step} Blend-Net is untrained (it begins at step '
          f'{config.train.blend_start_step}); pictures are as without it', file=sys.stderr)
  variables = {'params': weights['ema_params'], 'batch_stats': weights['batch_stats']}
  jaw = open_jaw(run.subject, run.split.train) if config.compose.jaw else None
  real = config.field.real_detail
  detail = open_detail(run.subject, run.split.train, real) if real else None
  predictor = Predictor(run.model, variables, run.constants, run.subject, batch_size, has_blend_net, jaw, detail)
  return Trained(config, run.subject, run.split, run.features, predictor, step, digest=digest_of(variables)).with_articulation()


def digest_of(variables: Any) -> str:
  """SHA-256 of weights: of their names, shapes and values, whatever the file that they lie in."""
  found = hashlib.sha256()
  for path, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)):
    array = np.asarray(leaf)
    found.update(f'{path} {array.dtype} {array.shape}'.encode())
    found.update(np.ascontiguousarray(array).tobytes())
  return found.hexdigest()
