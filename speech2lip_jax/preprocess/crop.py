"""A square crop a video, so that the face has the same size in all of them, resized to the subject's size.

It stands still where that holds the face's whole way, and follows a face that wanders, smoothly and between pixels. A landmark at x
of the source frame lies at (x + 0.5 − left)·scale − 0.5 of the crop: pixel centres are at integers in both.
"""
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import interpolate, signal

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video

SIDE_PER_FACE = 2.0  # crop side over face height (chin to forehead landmarks): hair and shoulders' start are inside
MAX_SIDE_PER_FACE = 3.0  # beyond that a square follows the face: smaller faces would serve no video
MARGIN = 1.04  # the crop holds the face's whole path with this much to spare
FOLLOW_S = 1.6  # a parabola's stretch of a face's way, which its square takes: nods and turns stay in the frame
PLACES_PER_PX = 32  # of a square between pixels, as fine as OpenCV reads
MIN_SIZE, MAX_SIZE = 96, 500  # px of a frame, where they choose themselves


class Way(NamedTuple):
  """A face in consecutive frames of a video, from grid frame `start` on. landmarks: [N, 478, ≥2] source pixels."""
  start: int
  landmarks: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Crop:
  """Of each frame of a clip the square [top, top + side) × [left, left + side) of the upright source picture, shown at `size`
  pixels a side. corners: [N, 2] float32 (left, top), whole numbers where the square stands still.
  """
  corners: np.ndarray
  side: int
  size: int

  @property
  def squares(self) -> np.ndarray:
    """[N, 3] float32 (left, top, side)."""
    return np.column_stack([self.corners, np.full(len(self.corners), self.side, np.float32)]).astype(np.float32)

  def landmarks(self, source: np.ndarray) -> np.ndarray:
    """Source pixels (x, y) or (x, y, z) [N, P, 2 or 3] → crop pixels; z is only scaled. float32."""
    scale = self.size / self.side
    moved = source * scale
    moved[..., :2] += (0.5 - self.corners[:, None].astype(np.float64)) * scale - 0.5
    return moved.astype(np.float32)


def face_height(landmarks: np.ndarray) -> float:
  """The median over frames of the face's size in pixels: the larger of its height and 1.2 × its width."""
  return float(np.median(np.maximum(np.ptp(landmarks[..., 1], axis=-1), 1.2 * np.ptp(landmarks[..., 0], axis=-1))))


def face_path(landmarks: np.ndarray) -> np.ndarray:
  """[4] (left, top, right, bottom) pixels that hold the face in nearly all frames of [N, 478, ≥2]."""
  low, high = landmarks[..., :2].min(axis=1), landmarks[..., :2].max(axis=1)
  return np.concatenate([np.percentile(low, 0.5, axis=0), np.percentile(high, 99.5, axis=0)])


def choose_size(side: int) -> int:
  """Side of the frames, pixels, from that of the largest square in its source: no larger, a multiple of 4, within limits."""
  return min(max(side // 4 * 4, MIN_SIZE), MAX_SIZE)


def choose_scale(side: int, size: int) -> float:
  """1 … 3: the canonical image over frames of `size` that is as large as the largest square in its source, an even size."""
  return min(max(side // 2 * 2, size), 3 * size) / size


def follow(landmarks: np.ndarray, times_s: np.ndarray, side: int, width: int, height: int) -> np.ndarray:
  """Corners [N, 2] float32 of squares within the picture that follow the face [N, 478, ≥2] of consecutive frames.

  times_s: [N] when their pictures are shown, since the first one's grid instant; where the rate is not 25 that is up to half a
  picture off the grid, which a face that walks would show as a jitter.
  """
  low, high = landmarks[..., :2].min(axis=1), landmarks[..., :2].max(axis=1)
  limit = (width - side, height - side)
  corners = np.clip((low + high + 1 - side).astype(np.float64) / 2, 0, limit)
  window = min(round(FOLLOW_S * schema.FPS), len(corners)) - 1 | 1  # odd
  smooth = signal.savgol_filter(corners, window, min(2, window - 1), axis=0)
  smooth = np.clip(interpolate.CubicSpline(np.arange(len(smooth)) / schema.FPS, smooth)(times_s), 0, limit)
  return (np.round(smooth * PLACES_PER_PX) / PLACES_PER_PX).astype(np.float32)


def stand_still(path: np.ndarray, side: int, width: int, height: int) -> np.ndarray:
  """The corner [2] float32, whole pixels, of the square within the picture whose middle is that of a `face_path`."""
  corner = ((path[:2] + path[2:] + 1 - side) / 2).round()
  return np.clip(corner, 0, (width - side, height - side)).astype(np.float32)


def _leaves(corner: np.ndarray, path: np.ndarray, side: int) -> bool:
  return bool((path[:2] < corner - 0.5).any() or (path[2:] > corner + side - 0.5).any())


def choose_crops(infos: list[video.VideoInfo], faces: list[list[Way]], size: int | None) -> tuple[list[list[Crop]], dict]:
  """The crops of each video, with one ratio of side to face height for all, as large as asked and as the frames allow.

  Args:
    infos: the videos.
    faces: of each video, in each of its clips.
    size: side of the result, pixels; None lets `choose_size` decide.

  Returns:
    The crops of each video's clips, and a report: the ratio used, the names of videos whose squares follow the face, and of those
    whose face leaves its square even so.
  """
  together = [np.concatenate([way.landmarks for way in ways]) for ways in faces]
  heights = [face_height(landmarks) for landmarks in together]
  # What lies beyond the picture's edge no square can hold.
  paths = [np.clip(face_path(landmarks), -0.5, np.tile((info.width, info.height), 2) - 0.5) for info, landmarks in
           zip(infos, together)]
  limits = [min(MAX_SIDE_PER_FACE, min(info.width, info.height) / height) for info, height in zip(infos, heights)]
  needed = [MARGIN * float((path[2:] - path[:2]).max()) / height for path, height in zip(paths, heights)]
  ratio = min([max([SIDE_PER_FACE, *[need for need, limit in zip(needed, limits) if need <= limit]]), *limits])
  sides = [min(round(ratio * height), info.width, info.height) for info, height in zip(infos, heights)]
  size = choose_size(max(sides)) if size is None else size
  crops: list[list[Crop]] = []
  followed, outside = [], []
  for info, ways, side, path in zip(infos, faces, sides, paths):
    still = stand_still(path, side, info.width, info.height)
    if _leaves(still, path, side):
      followed.append(info.name)
      times_s = video.shown_times(info)
      corners = [follow(landmarks, times_s[start:start + len(landmarks)] - start / schema.FPS, side, info.width, info.height)
                 for start, landmarks in ways]
      seen = [np.clip(landmarks[..., :2], -0.5, (info.width - 0.5, info.height - 0.5)) - each[:, None]
              for (_, landmarks), each in zip(ways, corners)]
      if _leaves(np.zeros(2), face_path(np.concatenate(seen)), side):
        outside.append(info.name)
    else:
      corners = [np.tile(still, (len(way.landmarks), 1)) for way in ways]
    crops.append([Crop(each, side, size) for each in corners])
  return crops, {'side_per_face': ratio, 'follows_face': followed, 'face_leaves_crop': outside}


def cut_out(picture: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
  """A square (left, top, side) of a picture [H, W, 3] uint8, between pixels too, as [size, size, 3]."""
  import cv2
  (left, top), side = square[:2].astype(np.float64), int(square[2])
  if left % 1 or top % 1:
    window = cv2.warpAffine(picture, np.array([[1, 0, left], [0, 1, top]]), (side, side),
                            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
  else:
    window = picture[int(top):int(top) + side, int(left):int(left) + side]
  if size == side:
    return window
  return cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_CUBIC)


def read_crops(info: video.VideoInfo, wanted: np.ndarray, squares: np.ndarray, size: int) -> Iterator[video.Shown]:
  """Yields each grid frame of `wanted` (sorted ints) [n], in order, its image its square [size, size, 3] uint8 RGB.

  squares: [n, 3] (left, top, side) of the source's pictures.
  """
  pending = iter(zip(wanted.tolist(), squares, strict=True))
  following = next(pending, None)
  if following is None:
    return
  for shown in video.read_shown(info, int(wanted[0]), int(wanted[-1]) + 1):
    if following and shown.grid == following[0]:
      yield shown._replace(image=cut_out(shown.image, following[1], size))
      following = next(pending, None)
