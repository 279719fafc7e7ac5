"""A subject's head in the pictures of a source video, at their own resolution and instants: what mouths are painted on.

The camera of a close-up has the canonical camera's field of view, so its square may be larger than the one that was cut out for
training, and reach beyond the picture. Its axis is that of the square that was tracked: both have one middle, up to less than a
pixel where that square follows the face between pixels; by so much the head is seen from a camera that is turned.
"""
import os
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, View
from speech2lip_jax.dubbing.source import SourceFacts
from speech2lip_jax.preprocess import rigid

NEAR_S = 0.5 / schema.FPS  # a picture further than this from a tracked frame of its clip is not tracked


class Square(NamedTuple):
  """The square [top, top + side) × [left, left + side) of the upright picture; it may reach beyond it."""
  top: int
  left: int
  side: int


class Tracked(NamedTuple):
  """A head in the M pictures of a source video.

  observed_from_head: [M, 4, 4] float64, where the head is not tracked that of the nearest picture where it is. is_tracked: [M]
  bool. frame: [M] float64, each picture's place among the frames of the subject folder that it was tracked in, between two of them
  where it is none. focal: pixels of a square of `side` pixels around `middle` [M, 2] (x, y), pixels of the upright picture.
  """
  observed_from_head: np.ndarray
  is_tracked: np.ndarray
  frame: np.ndarray
  focal: float
  middle: np.ndarray
  side: int


def find_source(subject: Subject, facts: SourceFacts) -> int | None:
  """Which source of the subject a video is, or None: by its absolute path and size.

  Raises:
    InputError: the subject folder is of format 1, which does not say where its frames come from.
  """
  for index, source in enumerate(subject.origin().sources):
    if os.path.abspath(source.path) == os.path.abspath(facts.path) and source.file_size == facts.file_size:
      return index
  return None


def follow_head(subject: Subject, source_index: int, times_s: np.ndarray) -> Tracked:
  """The head in all pictures of a source, between those that the subject folder has by a cubic spline.

  times_s: [M] seconds of the pictures since the first one.
  """
  count, origin = len(times_s), subject.origin()
  poses, corners = np.tile(np.eye(4), (count, 1, 1)), np.zeros((count, 2))
  is_tracked, frame, side = np.zeros(count, bool), np.zeros(count), 0.0
  for clip in subject.meta.clips:
    if clip.source_index != source_index:
      continue
    ids = np.arange(clip.start, clip.stop)
    known_s, first = np.unique(origin.source_time[ids], return_index=True)  # a slower source shows a picture twice
    ids, side = ids[first], float(origin.crop[clip.start, 2])
    here = np.flatnonzero((times_s > known_s[0] - NEAR_S) & (times_s < known_s[-1] + NEAR_S))
    at = np.clip(times_s[here], known_s[0], known_s[-1])
    poses[here] = poses_between(known_s, subject.observed_from_head[ids].astype(np.float64), at)
    corners[here] = corners_between(known_s, origin.crop[ids, :2].astype(np.float64), at)
    is_tracked[here], frame[here] = True, np.interp(at, known_s, ids)
  tracked = np.flatnonzero(is_tracked)
  shown = tracked[nearest(times_s, times_s[tracked])]
  middle = corners[shown] + (side - 1) / 2
  return Tracked(poses[shown], is_tracked, frame, subject.meta.focal_px * side / subject.meta.width, middle, round(side))


def nearest(times_s: np.ndarray, known_s: np.ndarray) -> np.ndarray:
  """Which of the instants `known_s` [n], ascending, is nearest to each of [m]: [m] int."""
  later = np.clip(np.searchsorted(known_s, times_s), 1, max(1, len(known_s) - 1))
  before = later - 1
  later = np.minimum(later, len(known_s) - 1)
  return np.where(np.abs(known_s[later] - times_s) < np.abs(known_s[before] - times_s), later, before)


def poses_between(known_s: np.ndarray, poses: np.ndarray, times_s: np.ndarray) -> np.ndarray:
  """Poses [n, 4, 4] of instants `known_s` [n] → those of instants within them [m]: [m, 4, 4] float64."""
  if len(known_s) < 2:
    return np.repeat(poses[:1], len(times_s), axis=0)
  mean = rigid.mean_rotation(poses[:, :3, :3])
  turns = rigid.vector_from_rotation(poses[:, :3, :3] @ mean.T)
  spline = CubicSpline(known_s, np.concatenate([turns, poses[:, :3, 3]], 1))
  turn, shift = np.split(spline(times_s), 2, axis=1)
  found = np.tile(np.eye(4), (len(times_s), 1, 1))
  found[:, :3, :3] = Rotation.from_rotvec(turn).as_matrix() @ mean
  found[:, :3, 3] = shift
  return found


def corners_between(known_s: np.ndarray, corners: np.ndarray, times_s: np.ndarray) -> np.ndarray:
  """Corners [n, 2] of squares of instants `known_s` [n] → those of instants within them [m]: [m, 2] float64."""
  if (corners == corners[0]).all():
    return np.repeat(corners[:1], len(times_s), axis=0)
  return CubicSpline(known_s, corners)(times_s)


def turned(poses: np.ndarray, shift: np.ndarray, focal: float) -> np.ndarray:
  """Poses [M, 4, 4] under which the head is seen `shift` [M, 2] (x, y) pixels, at most one, from where it is seen under `poses`."""
  turns = np.tile(np.eye(4), (len(poses), 1, 1))
  turns[:, :3, :3] = Rotation.from_rotvec(np.column_stack([-shift[:, 1], shift[:, 0], np.zeros(len(shift))]) / focal).as_matrix()
  return np.where((shift == 0).all(1)[:, None, None], poses, turns @ poses)


def close_up(tracked: Tracked, trained: Subject) -> tuple[list[Square], View]:
  """Of each of the source's pictures the square with the trained subject's field of view, and the view of the head in them.

  tracked: in the trained subject's head axes.
  """
  meta = trained.meta
  side = tracked.focal * meta.width / meta.focal_px
  parity = tracked.side % 2  # the middle stays between the same two pixels, or in the same one
  side = max(2, 2 * round((side - parity) / 2) + parity)
  corners = tracked.middle - (side - 1) / 2
  whole = np.round(corners).astype(int)
  home = np.linalg.inv(trained.observed_from_head[meta.canonical_frame].astype(np.float64))
  poses = turned(tracked.observed_from_head, corners - whole, tracked.focal)
  scale = meta.canonical_size[1] / side
  view = View(side, side, meta.focal_px * side / meta.width, scale, (poses @ home).astype(np.float32))
  return [Square(top, left, side) for left, top in whole.tolist()], view
