"""Landmarks that somebody else tracked, in place of the detector's.

One .npz a video, with `landmarks` [M, 478, 3] float: MediaPipe's points of every source picture in the order shown
(M pictures, before any change of frame rate), in the units of `landmarks`: x, y pixels of the upright frame with
square pixels, pixel centres at integers; z pixels. A row that is not finite is a picture without a face.
"""
import zipfile

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import landmarks, stages, video

MIN_FACE_PX = 8  # a face below this many pixels is none, or its landmarks are fractions of the frame


def read(path: str) -> np.ndarray:
  """[M, 478, 3] float32 of a tracks file, NaN where there is no face.

  Raises:
    InputError: no such array, another shape, no face at all, or not pixels.
  """
  try:
    record = np.load(path, allow_pickle=False)
    points = record['landmarks'] if isinstance(record, np.lib.npyio.NpzFile) else record
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(f'--tracks {path}: no .npz file with an array "landmarks"; save it by '
                     'numpy.savez(FILE, landmarks=...)') from error
  if points.ndim != 3 or points.shape[1:] != (schema.NUM_LANDMARKS, 3) or not np.issubdtype(points.dtype, np.floating):
    raise InputError(f'--tracks {path}: landmarks are {points.dtype} {list(points.shape)}; '
                     f'they must be float [pictures, {schema.NUM_LANDMARKS}, 3]')
  points = points.astype(np.float32)
  has_face = np.isfinite(points).all(axis=(1, 2))
  points[~has_face] = np.nan
  if not has_face.any():
    raise InputError(f'--tracks {path}: none of its {len(points)} rows is finite; leave the video out or track it again')
  size = float(np.median(np.ptp(points[has_face, :, :2], axis=1).max(axis=-1)))
  if size < MIN_FACE_PX:
    raise InputError(f'--tracks {path}: the face is {size:.2g} px large; landmarks must be pixels of the upright frame, '
                     'not fractions of it')
  return points


def grid_pictures(paths: list[str], infos: list[video.VideoInfo]) -> list[np.ndarray]:
  """For each video the row of its tracks that every 25 fps frame takes, after checking that the two belong together.

  Raises:
    InputError: not one file a video, or not one row a picture.
  """
  if len(paths) != len(infos):
    raise InputError(f'--tracks: {len(paths)} files for {len(infos)} videos; give one .npz for each, in the same order')
  rows = []
  for path, info in zip(paths, infos):
    num_rows = len(read(path))
    shown, num_pictures = video.source_pictures(info)
    if num_rows != num_pictures:
      raise InputError(f'--tracks {path}: {num_rows} rows, but {info.path} has {num_pictures} pictures; track every picture '
                       'of the file as it is, before any change of frame rate')
    rows.append(shown)
  return rows


def copy_segment(segment: landmarks.Segment, path: str, rows: np.ndarray) -> int:
  """Stores one segment as `landmarks.detect_segment` does, with rows [n] of the tracks at `path` as its landmarks.

  Returns:
    The number of frames done.
  """
  found = read(path)[rows]
  thumbnails = np.zeros((len(rows), landmarks.THUMBNAIL_SIDE, landmarks.THUMBNAIL_SIDE), np.uint8)
  for row, (_, frame) in enumerate(
      video.read_frames(segment.info, segment.start, segment.stop, landmarks.DETECTION_SIDE)):
    thumbnails[row] = landmarks.thumbnail(frame)
  stages.save(segment.path, segment.mark, landmarks=found, thumbnails=thumbnails, extra_faces=found[:0],
              extra_frames=np.zeros(0, int))
  return len(rows)
