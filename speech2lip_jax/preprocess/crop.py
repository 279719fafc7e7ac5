"""One fixed square crop a video, so that the face has the same size in all of them, resized to the subject's size.

A landmark at x of the source frame lies at (x + 0.5 − left)·scale − 0.5 of the crop: pixel centres are at integers in
both.
"""
import dataclasses
from collections.abc import Iterator

import numpy as np

from speech2lip_jax.preprocess import video

SIDE_PER_FACE = 2.0  # crop side over face height (chin to forehead landmarks): hair and shoulders' start are inside
MAX_SIDE_PER_FACE = 3.0  # a face that wanders further leaves its crop: smaller faces would serve no video
MARGIN = 1.04  # the crop holds the face's whole path with this much to spare
MIN_SIZE, MAX_SIZE = 96, 500  # px of a frame, where they choose themselves


@dataclasses.dataclass(frozen=True)
class Crop:
  """Square [top, top + side) × [left, left + side) of the upright source frame, shown at `size` pixels a side."""
  top: int
  left: int
  side: int
  size: int

  def landmarks(self, source: np.ndarray) -> np.ndarray:
    """Source pixels (x, y) or (x, y, z) [..., 2 or 3] → crop pixels; z is only scaled. float32."""
    scale = self.size / self.side
    moved = source * scale
    moved[..., 0] += (0.5 - self.left) * scale - 0.5
    moved[..., 1] += (0.5 - self.top) * scale - 0.5
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


def choose_crops(infos: list[video.VideoInfo], faces: list[np.ndarray], size: int | None) -> tuple[list[Crop], dict]:
  """The crop of each video, with one ratio of side to face height for all, as large as asked and as the frames allow.

  Args:
    infos: the videos.
    faces: for each, landmarks [n, 478, ≥2] of the frames that are kept, source pixels.
    size: side of the result, pixels; None lets `choose_size` decide.

  Returns:
    The crops, and a report: the ratio used, and the names of videos whose face leaves its crop.
  """
  heights = [face_height(landmarks) for landmarks in faces]
  paths = [face_path(landmarks) for landmarks in faces]
  wanted = max([SIDE_PER_FACE, *[MARGIN * max(path[2] - path[0], path[3] - path[1]) / height
                                 for path, height in zip(paths, heights)]])
  ratio = min(
      [wanted, MAX_SIDE_PER_FACE, *[min(info.width, info.height) / height for info, height in zip(infos, heights)]])
  sides = [min(round(ratio * height), info.width, info.height) for info, height in zip(infos, heights)]
  size = choose_size(max(sides)) if size is None else size
  crops, outside = [], []
  for info, side, path in zip(infos, sides, paths):
    left, top = ((path[:2] + path[2:] + 1 - side) / 2).round().astype(int)
    left, top = int(np.clip(left, 0, info.width - side)), int(np.clip(top, 0, info.height - side))
    crops.append(Crop(top, left, side, size))
    if path[0] < left - 0.5 or path[1] < top - 0.5 or path[2] > left + side - 0.5 or path[3] > top + side - 0.5:
      outside.append(info.name)
  return crops, {'side_per_face': ratio, 'face_leaves_crop': outside}


def read_crops(info: video.VideoInfo, crop: Crop, wanted: np.ndarray) -> Iterator[video.Shown]:
  """Yields each grid frame of `wanted` (sorted ints), in order, its image the crop [size, size, 3] uint8 RGB."""
  import cv2
  interpolation = cv2.INTER_AREA if crop.size < crop.side else cv2.INTER_CUBIC
  pending = iter(wanted.tolist())
  following = next(pending, None)
  if following is None:
    return
  for shown in video.read_shown(info, int(wanted[0]), int(wanted[-1]) + 1):
    if shown.grid == following:
      window = shown.image[crop.top:crop.top + crop.side, crop.left:crop.left + crop.side]
      yield shown._replace(image=window if crop.size == crop.side else cv2.resize(window, (crop.size, crop.size),
                                                                                  interpolation=interpolation))
      following = next(pending, None)
