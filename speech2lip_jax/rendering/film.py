"""A trained subject on film: background frames, audio embeddings and poses → an mp4."""
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import jax
import numpy as np
from absl import logging

from speech2lip_jax.common import film_file, pool, processes
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, back_and_forth
from speech2lip_jax.rendering import pose, silence
from speech2lip_jax.rendering.predictor import Prediction
from speech2lip_jax.rendering.trained import Trained

if TYPE_CHECKING:
  import av

  from speech2lip_jax.provenance.origin import Origin

_Finished = TypeVar('_Finished')


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


@dataclasses.dataclass(frozen=True)
class Film:
  """A trained person saying something: pictures, `schema.FPS` a second, painted as they are asked for, and their sound.

  Iterate it for the pictures [H, W, 3] uint8 RGB, as often as wanted, or `write` them. len: how many.

  trained: who. frame_ids: [n] frames of the subject that are painted on. mouths: [n]. sound: [channels, m] int16 at `rate`. wanted:
  where the heads are to be, None for where they are. origin: what the pictures and their file say of themselves, None for nothing.
  """
  trained: Trained
  frame_ids: np.ndarray
  mouths: silence.Mouths
  sound: np.ndarray
  rate: int
  wanted: pose.PoseSpec | None = None
  origin: 'Origin | None' = None

  @property
  def seconds(self) -> float:
    """How long it lasts."""
    return len(self) / schema.FPS

  def __len__(self) -> int:
    return len(self.frame_ids)

  def __iter__(self) -> Iterator[np.ndarray]:
    return self._disclosed(self._predictions(slice(0, len(self))), 0, lambda rgb: rgb)

  def write(self, out: os.PathLike | str) -> None:
    """Writes an mp4 of the pictures and the sound.

    Of several processes each writes a segment beside `out`, and the first joins them: all must see one disk.
    """
    meta, is_main = self.trained.subject.meta, jax.process_index() == 0
    rows = processes.share(len(self))
    count = rows.stop - rows.start
    predictions = Bar(self._predictions(rows), total=count, compiles=True, show=is_main)
    pictures = self._disclosed(predictions, rows.start, film_file.encodable)
    if jax.process_count() == 1:
      _write(pictures, film_file.Mp4Writer(out, meta.height, meta.width, schema.FPS, self.sound, self.rate, origin=self.origin))
      return
    segments = [_segment(out, i) for i in range(jax.process_count())]
    if count:
      _write(pictures, film_file.Mp4Writer(segments[jax.process_index()], meta.height, meta.width, schema.FPS))
    processes.meet('segments')
    if is_main:
      written = [segment for segment in segments if segment.is_file()]
      film_file.join_segments(written, out, schema.FPS, self.sound, self.rate, self.origin)
      for segment in segments:
        segment.unlink(missing_ok=True)

  def _predictions(self, rows: slice) -> Iterator[Prediction]:
    """Of some of the pictures."""
    ids, mouths = self.frame_ids[rows], self.mouths
    some = silence.Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)
    if self.wanted is None:
      return self.trained.predictor.from_mouths(ids, some)
    targets = pose.target_poses(self.wanted, self.trained.subject, self.frame_ids)
    if jax.process_index() == 0 and (warning := pose.warning(self.trained.subject, self.frame_ids, targets)):
      logging.warning(warning)
    return self.trained.predictor.from_mouths_at_poses(ids, some, targets[rows], self.frame_ids)

  def _disclosed(self, predictions: Iterable[Prediction], first: int, finish: Callable[[np.ndarray], _Finished]
                 ) -> Iterator[_Finished]:
    """finish(picture [H, W, 3] with the mark and the words of `origin`) of each; `first` is the first one's number in the film."""
    mark, words = (self.origin.mark(), self.origin.words()) if self.origin else (None, None)

    def disclosed(numbered):
      number, prediction = numbered
      rgb, time_s = prediction.rgb_face, number / schema.FPS
      if mark:
        rgb = mark.add(rgb, painted_part(prediction, self.wanted is not None), time_s)
      return finish(words.add(rgb, time_s) if words else rgb)
    return pool.mapped(disclosed, enumerate(predictions, first))


def _segment(out: os.PathLike | str, process: int) -> pathlib.Path:
  path = pathlib.Path(out)
  return path.with_name(f'.{path.stem}.segment{process}{path.suffix}')


def _write(pictures: Iterable['av.VideoFrame'], writer: film_file.Mp4Writer) -> None:
  with writer:
    for picture in pictures:
      writer.append(picture)


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
