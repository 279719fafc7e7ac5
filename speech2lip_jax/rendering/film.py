"""A trained subject on film: background frames, audio embeddings and poses → an mp4."""
import pathlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
  from speech2lip_jax.provenance.origin import Origin


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
                 wanted: pose.PoseSpec | None = None, features_file: str | None = None, origin: 'Origin | None' = None) -> int:
  """Writes `out`, an mp4 as long as the sound, the head at the wanted poses; returns its number of frames.

  features_file: the .npy of the sound's features, for a model that was trained on features from a file. origin: what `out` says of
  itself.
  """
  count = max(1, round(speech.seconds * schema.FPS))
  frame_ids = background_frames(trained.subject, count, clip_name)
  with stage('audio embeddings', show=jax.process_index() == 0):
    mouths = trained.sound_mouths(speech.mono, count, features_file)
  write_video(trained, frame_ids, mouths, out, speech.sound, speech.rate, wanted, origin)
  return count


def render_test(trained: Trained, out: str, wanted: pose.PoseSpec | None = None, origin: 'Origin | None' = None) -> int:
  """Writes the held-out frames with their own sound, the head at the wanted poses; returns their number."""
  frame_ids = trained.split.test
  sound = trained.subject.sound[frame_ids].reshape(1, -1)
  with stage('audio embeddings', show=jax.process_index() == 0):
    mouths = trained.subject_mouths(frame_ids)
  write_video(trained, frame_ids, mouths, out, sound, schema.SAMPLE_RATE, wanted, origin)
  return len(frame_ids)


def write_video(trained: Trained, frame_ids: np.ndarray, mouths: silence.Mouths, out: str, sound: np.ndarray, rate: int,
                wanted: pose.PoseSpec | None = None, origin: 'Origin | None' = None) -> None:
  """Writes `out`: the frames [n] saying mouths [n], with the sound [channels, m] int16 at `rate`; heads at the wanted poses.

  Of several processes each writes a segment beside `out`, and the first joins them: all must see one disk.
  origin: what `out` says of itself in tags, manifest, mark and label; None for the pictures alone.
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
  pictures = _disclosed(bar, rows.start, origin, is_moved=wanted is not None)
  if jax.process_count() == 1:
    _write(pictures, media.Mp4Writer(out, meta.height, meta.width, schema.FPS, sound, rate, origin=origin))
    return
  segments = [_segment(out, i) for i in range(jax.process_count())]
  if len(some_ids):
    _write(pictures, media.Mp4Writer(segments[jax.process_index()], meta.height, meta.width, schema.FPS))
  processes.meet('segments')
  if is_main:
    media.join_segments([segment for segment in segments if segment.is_file()], out, schema.FPS, sound, rate, origin)
    for segment in segments:
      segment.unlink(missing_ok=True)


def _segment(out: str, process: int) -> pathlib.Path:
  path = pathlib.Path(out)
  return path.with_name(f'.{path.stem}.segment{process}{path.suffix}')


def _disclosed(predictions: Iterable[Prediction], first: int, origin: 'Origin | None', is_moved: bool) -> Iterator[np.ndarray]:
  """The pictures [H, W, 3] with the mark and the words of `origin`; `first` is the number of the first one in the video."""
  mark, words = (origin.mark(), origin.words()) if origin else (None, None)
  for number, prediction in enumerate(predictions, first):
    rgb, time_s = prediction.rgb_face, number / schema.FPS
    if mark:
      rgb = mark.add(rgb, painted_part(prediction, is_moved), time_s)
    yield words.add(rgb, time_s) if words else rgb


def _write(pictures: Iterable[np.ndarray], writer: media.Mp4Writer) -> None:
  with writer:
    for rgb in pictures:
      writer.write(rgb)


def painted_part(prediction: Prediction, is_moved: bool = False) -> tuple[int, int, int, int]:
  """(top, left, height, width) of what was painted or moved with the jaw; of a moved head, as much around where its mouth is."""
  parts = np.array([part for part in (prediction.window, prediction.jaw) if part is not None])
  (top, left), (bottom, right) = parts[:, :2].min(0).tolist(), (parts[:, :2] + parts[:, 2:]).max(0).tolist()
  if is_moved and prediction.mask_mouth.any():
    rows, columns = (np.flatnonzero(prediction.mask_mouth.any(axis)) for axis in (1, 0))
    height, width = prediction.window[2:]
    top, left = (int(places[0] + places[-1] + 1 - side) // 2 for places, side in ((rows, height), (columns, width)))
    bottom, right = top + height, left + width
  return top, left, bottom - top, right - left
