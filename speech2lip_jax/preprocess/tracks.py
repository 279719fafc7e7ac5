"""Landmarks that somebody else tracked, in place of the detector's.

One .npz a video, with `landmarks` [M, 478, 3] float: MediaPipe's points of every source picture in the order shown
(M pictures, before any change of frame rate), in the units of `landmarks`: x, y pixels of the upright frame with
square pixels, pixel centres at integers; z pixels. A row that is not finite is a picture without a face.
"""
import contextlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from speech2lip_jax.common import media, npz
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import landmarks, stages, video

MIN_FACE_PX = 8  # a face below this many pixels is none, or its landmarks are fractions of the frame
CHUNK = 1000  # rows read at once


class Rows(Protocol):
  """An array whose rows are read when they are asked for."""
  shape: tuple[int, ...]
  dtype: np.dtype

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Rows start … stop − 1."""


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Rows]:
  """The landmarks of a tracks file, of which nothing but their shape has been looked at.

  Raises:
    InputError: no such array, or another shape.
  """
  media.check_file(path, '.npz file with --tracks')
  try:
    with npz.opened(path) as arrays:
      points = arrays['landmarks']
      if len(points.shape) != 3 or points.shape[1:] != (schema.NUM_LANDMARKS, 3) or not np.issubdtype(points.dtype, np.floating):
        raise InputError(f'--tracks {path}: landmarks are {points.dtype} {list(points.shape)}; '
                         f'they must be float [pictures, {schema.NUM_LANDMARKS}, 3]')
      yield points
  except ValueError as error:
    raise InputError(f'--tracks {path}: no .npz file with an array "landmarks" ({error}); save it by '
                     'numpy.savez(FILE, landmarks=...)') from error


def _finite(points: np.ndarray) -> np.ndarray:
  """[n, 478, 3] float32, NaN where there is no face."""
  with np.errstate(over='ignore'):
    found = points.astype(np.float32)
  found[~np.isfinite(found).all(axis=(1, 2))] = np.nan
  return found


def _check(path: str, points: Rows) -> None:
  """Raises InputError where there is no face at all, or its landmarks are not pixels."""
  sizes = np.concatenate([np.ptp(_finite(points.rows(start, start + CHUNK))[:, :, :2], axis=1).max(axis=-1)
                          for start in range(0, max(1, points.shape[0]), CHUNK)])
  sizes = sizes[np.isfinite(sizes)]
  if not len(sizes):
    raise InputError(f'--tracks {path}: none of its {points.shape[0]} rows is finite; leave the video out or track it again')
  if np.median(sizes) < MIN_FACE_PX:
    raise InputError(f'--tracks {path}: the face is {np.median(sizes):.2g} px large; landmarks must be pixels of the upright '
                     'frame, not fractions of it')


def grid_pictures(paths: list[str], infos: list[video.VideoInfo]) -> list[np.ndarray]:
  """For each video the row of its tracks that every 25 fps frame takes, after checking that the two belong together.

  Raises:
    InputError: not one file a video, not one row a picture, no face at all, or not pixels.
  """
  if len(paths) != len(infos):
    raise InputError(f'--tracks: {len(paths)} files for {len(infos)} videos; give one .npz for each, in the same order')
  rows = []
  for path, info in zip(paths, infos):
    with _opened(path) as points:
      shown, num_pictures = video.source_pictures(info)
      if points.shape[0] != num_pictures:  # told before a row is read
        raise InputError(f'--tracks {path}: {points.shape[0]} rows, but {info.path} has {num_pictures} pictures; track every '
                         'picture of the file as it is, before any change of frame rate')
      _check(path, points)
    rows.append(shown)
  return rows


def copy_segment(segment: landmarks.Segment, path: str, rows: np.ndarray) -> int:
  """Stores one segment as `landmarks.detect_segment` does, with rows [n] of the tracks at `path` as its landmarks.

  Returns:
    The number of frames done.
  """
  with _opened(path) as points:
    found = _finite(points.rows(rows.min(), rows.max() + 1)[rows - rows.min()])
  thumbnails = np.zeros((len(rows), landmarks.THUMBNAIL_SIDE, landmarks.THUMBNAIL_SIDE), np.uint8)
  for row, (_, frame) in enumerate(
      video.read_frames(segment.info, segment.start, segment.stop, landmarks.DETECTION_SIDE)):
    thumbnails[row] = landmarks.thumbnail(frame)
  stages.save(segment.path, segment.mark, landmarks=found, thumbnails=thumbnails, extra_faces=found[:0],
              extra_frames=np.zeros(0, int))
  return len(rows)
