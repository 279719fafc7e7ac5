"""The report's pictures: which frames are kept while a video is scored, and how they become one small file's inline images."""
import base64
import heapq
from typing import NamedTuple

import cv2
import numpy as np

from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.report.scoring import Pair

NUM_CHOSEN = 10  # frames beside those that are kept for being bad
NUM_WORST, APART = 10, 10  # frames; of each APART in a row only the worst counts
CLOSE_UP = 1.4  # side of the mouth's close-up over the mouth region's longer side
DIFFERENCE_GAIN = 4
JPEG_QUALITY = 86


class Shot(NamedTuple):
  """A kept frame: its row, its psnr_lip dB (nan without a mouth), and the pictures."""
  row: int
  psnr_lip: float
  pair: Pair


def chosen_rows(num_frames: int) -> np.ndarray:
  """`NUM_CHOSEN` rows evenly spaced over a video's: [n] int."""
  return evenly_spaced(np.arange(num_frames), NUM_CHOSEN)


class Album:
  """Keeps chosen rows and the worst by psnr_lip while frames pass by, few at a time."""

  def __init__(self, rows: np.ndarray):
    self._rows: set[int] = set(rows.tolist())
    self._worst: list[tuple[float, int, Shot]] = []
    self._last: Shot | None = None
    self.chosen: list[Shot] = []

  def keep(self, row: int, pair: Pair, values: dict[str, float]) -> None:
    """To be handed to `Scorer.run`."""
    shot = Shot(row, values['psnr_lip'], pair)
    if row in self._rows:
      self.chosen.append(shot)
    if not np.isfinite(shot.psnr_lip):
      return
    if self._last and self._last.row // APART == row // APART:
      self._last = min(self._last, shot, key=lambda shot: shot.psnr_lip)
    else:
      self._put_away()
      self._last = shot

  def _put_away(self) -> None:
    if self._last:
      push = heapq.heappush if len(self._worst) < NUM_WORST else heapq.heappushpop
      push(self._worst, (-self._last.psnr_lip, self._last.row, self._last))
      self._last = None

  def worst(self) -> list[Shot]:
    """The frames with the lowest psnr_lip, lowest first, at most one of each `APART` in a row."""
    self._put_away()
    return [shot for _, _, shot in sorted(self._worst, key=lambda entry: (-entry[0], entry[1]))]


def data_uri(rgb: np.ndarray) -> str:
  """rgb [H, W, 3] uint8 as a JPEG inside an address, for an <img> of a page without other files."""
  bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
  _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
  return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'


def shrink(rgb: np.ndarray, width: int) -> np.ndarray:
  """The picture at most `width` pixels wide."""
  if rgb.shape[1] <= width:
    return rgb
  return cv2.resize(rgb, (width, max(1, round(rgb.shape[0] * width / rgb.shape[1]))), interpolation=cv2.INTER_AREA)


def difference(rgb: np.ndarray, true: np.ndarray) -> np.ndarray:
  """White where two pictures agree, darker and coloured by `DIFFERENCE_GAIN` times what differs."""
  return 255 - np.clip(DIFFERENCE_GAIN * cv2.absdiff(rgb, true).astype(int), 0, 255).astype(np.uint8)


def close_up(pair: Pair, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(true, ours, difference) about the mouth, [size, size, 3] each; the whole frame's middle where there is no mouth."""
  height, width = pair.rgb.shape[:2]
  mask = pair.mask_mouth
  rows, columns = np.nonzero(mask) if mask is not None and mask.any() else (np.array([0, height - 1]), np.array([0, width - 1]))
  side = int(min(CLOSE_UP * max(np.ptp(rows), np.ptp(columns)) + 1, height, width))
  top = int(np.clip((rows.min() + rows.max() + 1 - side) // 2, 0, height - side))
  left = int(np.clip((columns.min() + columns.max() + 1 - side) // 2, 0, width - side))
  cut = lambda picture: cv2.resize(picture[top:top + side, left:left + side], (size, size), interpolation=cv2.INTER_CUBIC)
  true, ours = cut(pair.true), cut(pair.rgb)
  return true, ours, difference(ours, true)


def film_strip(columns: list[list[np.ndarray]], gap: int = 4) -> np.ndarray:
  """Pictures of one size in columns, with white gaps between them, as one picture."""
  pad = lambda picture: np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)
  return np.hstack([np.vstack([pad(picture) for picture in column]) for column in columns])[:-gap, :-gap]
