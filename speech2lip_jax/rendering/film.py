"""A trained subject on film: background frames, audio embeddings and poses → an mp4."""
import numpy as np
from absl import logging

from speech2lip_jax.common import media
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, back_and_forth
from speech2lip_jax.data.utterance import Utterance
from speech2lip_jax.rendering import pose, silence
from speech2lip_jax.rendering.trained import Trained


def background_frames(subject: Subject, count: int, clip_name: str | None) -> np.ndarray:
  """The frames to paint on, [count]: one clip (the longest by default) back and forth, or all clips one after another.

  Raises:
    InputError: no clip has that name.
  """
  if clip_name == 'all':
    ids = np.arange(subject.meta.num_frames)
  else:
    clip = subject.find_clip(clip_name, f'--clip={clip_name}')
    ids = np.arange(clip.start, clip.stop)
  return ids[back_and_forth(len(ids), count)]


def render_audio(trained: Trained, speech: Utterance, out: str, clip_name: str | None = None,
                 wanted: pose.PoseSpec | None = None, features_file: str | None = None) -> int:
  """Writes `out`, an mp4 as long as the sound, the head at the wanted poses; returns its number of frames.

  features_file: the .npy of the sound's features, for a model that was trained on features from a file.
  """
  count = max(1, round(speech.seconds * schema.FPS))
  frame_ids = background_frames(trained.subject, count, clip_name)
  with stage('audio embeddings'):
    mouths = trained.sound_mouths(speech.mono, count, features_file)
  write_video(trained, frame_ids, mouths, out, speech.sound, speech.rate, wanted)
  return count


def render_test(trained: Trained, out: str, wanted: pose.PoseSpec | None = None) -> int:
  """Writes the held-out frames with their own sound, the head at the wanted poses; returns their number."""
  frame_ids = trained.split.test
  sound = trained.subject.sound[frame_ids].reshape(1, -1)
  with stage('audio embeddings'):
    mouths = trained.subject_mouths(frame_ids)
  write_video(trained, frame_ids, mouths, out, sound, schema.SAMPLE_RATE, wanted)
  return len(frame_ids)


def write_video(trained: Trained, frame_ids: np.ndarray, mouths: silence.Mouths, out: str, sound: np.ndarray, rate: int,
                wanted: pose.PoseSpec | None = None) -> None:
  """Writes `out`: the frames [n] saying mouths [n], with the sound [channels, m] int16 at `rate`; heads at the wanted poses."""
  meta = trained.subject.meta
  if wanted is None:
    predictions = trained.predictor.from_mouths(frame_ids, mouths)
  else:
    targets = pose.target_poses(wanted, trained.subject, frame_ids)
    if warning := pose.warning(trained.subject, frame_ids, targets):
      logging.warning(warning)
    predictions = trained.predictor.from_mouths_at_poses(frame_ids, mouths, targets)
  with media.Mp4Writer(out, meta.height, meta.width, schema.FPS, sound, rate) as writer:
    for prediction in Bar(predictions, total=len(frame_ids), compiles=True):
      writer.write(prediction.rgb_face)
