"""A trained subject on film: background frames, audio embeddings and poses → an mp4."""
import pathlib
from collections.abc import Iterable

import jax
import numpy as np
from absl import logging

from speech2lip_jax.common import media, processes
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, back_and_forth
from speech2lip_jax.data.utterance import Utterance
from speech2lip_jax.rendering import pose, silence
from speech2lip_jax.rendering.predictor import Prediction
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
  with stage('audio embeddings', show=jax.process_index() == 0):
    mouths = trained.sound_mouths(speech.mono, count, features_file)
  write_video(trained, frame_ids, mouths, out, speech.sound, speech.rate, wanted)
  return count


def render_test(trained: Trained, out: str, wanted: pose.PoseSpec | None = None) -> int:
  """Writes the held-out frames with their own sound, the head at the wanted poses; returns their number."""
  frame_ids = trained.split.test
  sound = trained.subject.sound[frame_ids].reshape(1, -1)
  with stage('audio embeddings', show=jax.process_index() == 0):
    mouths = trained.subject_mouths(frame_ids)
  write_video(trained, frame_ids, mouths, out, sound, schema.SAMPLE_RATE, wanted)
  return len(frame_ids)


def write_video(trained: Trained, frame_ids: np.ndarray, mouths: silence.Mouths, out: str, sound: np.ndarray, rate: int,
                wanted: pose.PoseSpec | None = None) -> None:
  """Writes `out`: the frames [n] saying mouths [n], with the sound [channels, m] int16 at `rate`; heads at the wanted poses.

  Of several processes each writes a segment beside `out`, and the first joins them: all must see one disk.
  """
  meta, is_main = trained.subject.meta, jax.process_index() == 0
  rows = processes.share(len(frame_ids))
  some_ids, some = frame_ids[rows], silence.Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)
  if wanted is None:
    predictions = trained.predictor.from_mouths(some_ids, some)
  else:
    targets = pose.target_poses(wanted, trained.subject, frame_ids)
    if is_main and (warning := pose.warning(trained.subject, frame_ids, targets)):
      logging.warning(warning)
    predictions = trained.predictor.from_mouths_at_poses(some_ids, some, targets[rows], frame_ids)
  bar = Bar(predictions, total=len(some_ids), compiles=True, show=is_main)
  if jax.process_count() == 1:
    _write(bar, media.Mp4Writer(out, meta.height, meta.width, schema.FPS, sound, rate))
    return
  segments = [_segment(out, i) for i in range(jax.process_count())]
  if len(some_ids):
    _write(bar, media.Mp4Writer(segments[jax.process_index()], meta.height, meta.width, schema.FPS))
  processes.meet('segments')
  if is_main:
    media.join_segments([segment for segment in segments if segment.is_file()], out, schema.FPS, sound, rate)
    for segment in segments:
      segment.unlink(missing_ok=True)


def _segment(out: str, process: int) -> pathlib.Path:
  path = pathlib.Path(out)
  return path.with_name(f'.{path.stem}.segment{process}{path.suffix}')


def _write(predictions: Iterable[Prediction], writer: media.Mp4Writer) -> None:
  with writer:
    for prediction in predictions:
      writer.write(prediction.rgb_face)
