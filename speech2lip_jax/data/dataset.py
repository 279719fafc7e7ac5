"""A subject in memory: memory-mapped arrays, the split into training, validation and test frames, mel windows.

Everything here is NumPy; frame ids are int64 arrays in ascending order.
"""
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.ops.poses import relative_pose

SILENCE_MEL = -4.0
MIN_CLIPS_TO_SPLIT_BY_CLIP = 12
MIN_VAL_BLOCK, VAL_MARGIN = 10, 4  # frames of a stretch of validation, and beside it


class Split(NamedTuple):
  """Frame ids of the three parts; no frame is in two. Frames whose mouth was not seen are in none."""
  train: np.ndarray
  val: np.ndarray
  test: np.ndarray


class Origin(NamedTuple):
  """Where a subject's frames come from: its videos, and `schema.SOURCE_ARRAYS`."""
  sources: tuple[schema.Source, ...]
  crop: np.ndarray
  source_picture: np.ndarray
  source_time: np.ndarray
  points_head: np.ndarray


@dataclasses.dataclass(frozen=True)
class Subject:
  """A validated subject folder. Arrays are read-only memory maps, named and shaped as in `schema.ARRAYS` and, None in format 1,
  in `schema.SOURCE_ARRAYS`."""
  folder: pathlib.Path
  meta: schema.SubjectMeta
  frames: np.ndarray
  rgb_lip_canonical: np.ndarray
  observed_from_head: np.ndarray
  landmarks: np.ndarray
  is_interpolated: np.ndarray
  is_covered: np.ndarray
  depth_canonical: np.ndarray
  mask_head_canonical: np.ndarray
  mask_face_canonical: np.ndarray
  mel: np.ndarray
  crop: np.ndarray | None = None
  source_picture: np.ndarray | None = None
  source_time: np.ndarray | None = None
  points_head: np.ndarray | None = None

  @functools.cached_property
  def observed_from_canonical(self) -> np.ndarray:
    """[N, 4, 4] float32: T_n · T_c⁻¹ (Eq. 3)."""
    return relative_pose(self.observed_from_head, self.observed_from_head[self.meta.canonical_frame]).astype(np.float32)

  @functools.cached_property
  def is_usable(self) -> np.ndarray:
    """[N] bool: the frame's mouth was seen."""
    return ~(np.asarray(self.is_interpolated) | np.asarray(self.is_covered))

  @functools.cached_property
  def sound(self) -> np.ndarray:
    """[N, 640] int16, 16 kHz mono: the sound during each frame, a read-only memory map."""
    samples = schema.load_sound(self.folder, self.meta)
    return samples[:self.meta.num_frames * schema.SAMPLES_PER_FRAME].reshape(-1, schema.SAMPLES_PER_FRAME)

  def origin(self) -> Origin:
    """Where the frames come from.

    Raises:
      InputError: the folder is of format 1, which does not say.
    """
    sources, crop, picture, time, points = (self.meta.sources, self.crop, self.source_picture, self.source_time,
                                            self.points_head)
    if sources is None or crop is None or picture is None or time is None or points is None:
      raise InputError(f'{self.folder}: format {self.meta.format_version} does not say where its frames lie in their video; '
                       'run speech2lip preprocess again')
    return Origin(sources, crop, picture, time, points)

  def clip_of_frames(self, frame_ids: np.ndarray) -> np.ndarray:
    """Index into `meta.clips` of each frame."""
    starts = np.array([clip.start for clip in self.meta.clips])
    return np.searchsorted(starts, frame_ids, side='right') - 1

  def find_clip(self, name: str | None, flag: str) -> schema.Clip:
    """The clip of that name, or the longest one if none is given.

    Raises:
      InputError: no clip has that name; the message begins with `flag`, which gave it.
    """
    clips = self.meta.clips
    if not name:
      return max(clips, key=lambda clip: clip.num_frames)
    for clip in clips:
      if clip.name == name:
        return clip
    names = ', '.join(clip.name for clip in clips[:8]) + (' …' if len(clips) > 8 else '')
    raise InputError(f'{flag}: {self.folder} has no clip {name!r}; one of: {names}')

  def by_clip(self, frame_ids: np.ndarray) -> Iterator[tuple[schema.Clip, np.ndarray]]:
    """Yields each clip that has some of the frames, and the rows of `frame_ids` that lie in it, ascending."""
    clip_ids = self.clip_of_frames(frame_ids)
    for clip_id in np.unique(clip_ids):
      yield self.meta.clips[clip_id], np.flatnonzero(clip_ids == clip_id)


class View(NamedTuple):
  """A head as a camera sees it in N pictures. height, width, focal: pixels. canonical_scale: canonical over observed size.
  observed_from_canonical: [N, 4, 4] float32 poses."""
  height: int
  width: int
  focal: float
  canonical_scale: float
  observed_from_canonical: np.ndarray

  @classmethod
  def of_subject(cls, subject: Subject) -> 'View':
    """Of the subject's own frames."""
    meta = subject.meta
    return cls(meta.height, meta.width, meta.focal_px, meta.canonical_scale, subject.observed_from_canonical)


def load_subject(folder: os.PathLike | str) -> Subject:
  """Opens a subject folder.

  Raises:
    InputError: no path was given, or a file of the folder is missing or damaged.
  """
  if not str(folder):
    raise InputError('config.data.path is empty; give the subject folder: --config.data.path=SUBJECT')
  meta = schema.validate(folder)
  arrays = {name: schema.load_array(folder, name, meta) for name in schema.array_specs(meta)}
  return Subject(folder=pathlib.Path(folder), meta=meta, **arrays)


def _frames_of(clips: Sequence[schema.Clip]) -> np.ndarray:
  runs = [np.arange(clip.start, clip.stop) for clip in clips]
  return np.concatenate(runs) if runs else np.zeros(0, np.int64)


def split_frames(subject: Subject, data_config: ConfigDict) -> Split:
  """Splits a subject's frames by clip or by time, as `config.data` says; the validation part comes out of training.

  By clip: clips test_every, 2·test_every … in order are test, validation clips are evenly spaced among the rest. By
  time: the last test_fraction of all frames is test; validation is val_fraction of the rest, in val_blocks stretches evenly spaced,
  since one stretch says little about others. The frames beside a stretch, which show and hear nearly the same, are in no part.
  Of what is left for training the first max_train_seconds are taken; validation and test do not depend on it.

  Raises:
    InputError: a part would be empty.
  """
  clips, num_frames = subject.meta.clips, subject.meta.num_frames
  kind = data_config.split
  if kind == 'auto':
    kind = 'clips' if len(clips) >= MIN_CLIPS_TO_SPLIT_BY_CLIP else 'tail'
  if kind == 'clips':
    rest = [clip for i, clip in enumerate(clips) if (i + 1) % data_config.test_every]
    test = _frames_of(clips[data_config.test_every - 1::data_config.test_every])
    num_val = int(np.ceil(len(rest) * data_config.val_fraction))
    val_ids = set(np.linspace(0, len(rest) - 1, num_val + 2)[1:-1].round().astype(int))
    val = _frames_of([clip for i, clip in enumerate(rest) if i in val_ids])
    train = _frames_of([clip for i, clip in enumerate(rest) if i not in val_ids])
  else:
    before, test = np.split(np.arange(num_frames), [num_frames - round(num_frames * data_config.test_fraction)])
    train, val = _split_by_time(before, round(len(before) * data_config.val_fraction), data_config.val_blocks)
  parts = Split(*(part[subject.is_usable[part]] for part in (train, val, test)))
  if data_config.max_train_seconds:
    parts = parts._replace(train=parts.train[:round(data_config.max_train_seconds * schema.FPS)])
  for name, part in parts._asdict().items():
    if part.size == 0:
      raise InputError(f'{subject.folder}: no {name} frames ({num_frames} frames in {len(clips)} clips, split {kind!r}); '
                       'use more video, or another config.data.split / test_fraction / val_fraction')
  return parts


def _split_by_time(rest: np.ndarray, num_val: int, num_blocks: int) -> tuple[np.ndarray, np.ndarray]:
  """Training and validation frames of those that are not test frames; see `split_frames`. One block is the end of them."""
  if num_blocks == 1:
    return rest[:len(rest) - num_val], rest[len(rest) - num_val:]
  num_blocks = max(1, min(num_blocks, num_val // MIN_VAL_BLOCK))
  is_val, is_near = np.zeros(len(rest), bool), np.zeros(len(rest), bool)
  for part in np.array_split(np.arange(len(rest)), num_blocks):
    length = num_val // num_blocks
    first = part[0] + (len(part) - length) // 2
    is_val[first:first + length] = True
    is_near[max(first - VAL_MARGIN, 0):first + length + VAL_MARGIN] = True
  return rest[~is_near], rest[is_val]


def evenly_spaced(frame_ids: np.ndarray, count: int) -> np.ndarray:
  """`count` of the ids (all, if there are fewer), evenly spaced.

  The ids are cut into `count` equal stretches and the middle of each is taken: the first frames of a clip show a closed mouth.
  """
  count = min(count, len(frame_ids))
  return frame_ids[((np.arange(count) + 0.5) * len(frame_ids) / count).astype(int)]


def back_and_forth(num_frames: int, count: int) -> np.ndarray:
  """`count` indices that run 0 … num_frames − 1, back to 0, and so on without repeating the turning frame: [count] int64."""
  period = max(2 * num_frames - 2, 1)
  position = np.arange(count) % period
  return np.minimum(position, period - position)


def window_begins(local_frames: np.ndarray, num_steps: int, rate: float, first: float = 0.0) -> np.ndarray:
  """The first step of the windows of features that are centred on frames of one continuous sound: [n] int64.

  Args:
    local_frames: [n] frame indices at 25 fps; frame i lasts from i/25 s to (i+1)/25 s.
    num_steps: length of a window.
    rate: steps a second.
    first: centre of step 0, in steps after the sound's start.
  """
  centre = (np.asarray(local_frames) + 0.5) * (rate / schema.FPS) - first
  return np.round(centre - (num_steps - 1) / 2).astype(np.int64)


def mel_windows(mel: np.ndarray, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
  """The mel window centred on each frame of one continuous sound; silence beyond its ends.

  Args:
    mel: [M, 80] float32 log-mel, 80 steps a second; step k is centred at k/80 s.
    local_frames: [n] frame indices at 25 fps.
    num_steps: length of a window.

  Returns:
    [n, num_steps, 80] float32.
  """
  wanted = window_begins(local_frames, num_steps, schema.MEL_STEPS_PER_SECOND)[:, None] + np.arange(num_steps)
  inside = (wanted >= 0) & (wanted < len(mel))
  return np.where(inside[..., None], mel[np.clip(wanted, 0, len(mel) - 1)], np.float32(SILENCE_MEL))


def subject_mel_windows(subject: Subject, frame_ids: np.ndarray, num_steps: int) -> np.ndarray:
  """`mel_windows` of frames of a subject, none reaching over the ends of its clip. [n, num_steps, 80] float32."""
  frame_ids = np.asarray(frame_ids)
  windows = np.empty((len(frame_ids), num_steps, schema.NUM_MEL_BANDS), np.float32)
  for clip, rows in subject.by_clip(frame_ids):
    mel = subject.mel[clip.mel_start:clip.mel_start + clip.num_mel]
    windows[rows] = mel_windows(mel, frame_ids[rows] - clip.start, num_steps)
  return windows


def mean_lips(subject: Subject, frame_ids: np.ndarray, chunk: int = 512) -> np.ndarray:
  """Mean canonical lip image of the given frames: [h, w, 3] float32 in 0 … 1."""
  total = np.zeros(subject.rgb_lip_canonical.shape[1:], np.float64)
  for start in range(0, len(frame_ids), chunk):
    total += subject.rgb_lip_canonical[frame_ids[start:start + chunk]].sum(0, dtype=np.float64)
  return (total / (255 * len(frame_ids))).astype(np.float32)


def runs_of(subject: Subject, frame_ids: np.ndarray) -> list[np.ndarray]:
  """Rows of the sorted `frame_ids`, cut where these are not consecutive frames of one clip; runs shorter than a window go."""
  cuts = np.flatnonzero((np.diff(frame_ids) != 1) | (np.diff(subject.clip_of_frames(frame_ids)) != 0)) + 1
  return [rows for rows in np.split(np.arange(len(frame_ids)), cuts) if len(rows) >= schema.SYNC_FRAMES]
