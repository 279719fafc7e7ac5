"""The report's pictures: which frames are kept while a video is scored, and how they become one small file's inline images."""
import base64
import heapq
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from speech2lip_jax.common.figures import literal, new_figure
from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.report.scoring import Pair

NUM_CHOSEN = 8  # frames beside those that are kept for being bad
NUM_WORST, APART = 10, 10  # frames; of each APART in a row only the worst counts
CLOSE_UP = 1.1  # side of the mouth's close-up over the mouth region's longer side
ENLARGED, MAX_TILE = 4, 480  # times; pixels of a mouth's close-up, beyond which it is large enough
PAGE_WIDTH, GAP, LINE, LETTERS = 1140, 4, 22, 9  # pixels: of the page, between pictures, of a line of words; its letters, points
DIFFERENCE_GAIN = 4
DIFFERENCE_NAME = f'difference of the two × {DIFFERENCE_GAIN}, white is none'
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
  """Keeps chosen rows and the worst by psnr_lip while frames pass by, few at a time.

  chosen: of ours and the truth. others: by name, the pictures [H, W, 3] uint8 of the same rows of what else is scored.
  """

  def __init__(self, rows: np.ndarray):
    self._rows: set[int] = set(rows.tolist())
    self._worst: list[tuple[float, int, Shot]] = []
    self._last: Shot | None = None
    self.chosen: list[Shot] = []
    self.others: dict[str, list[np.ndarray]] = {}

  def keep_other(self, name: str) -> Callable[[int, Pair, dict[str, float]], None]:
    """As `keep`, for what else is scored: its chosen rows alone."""
    pictures = self.others.setdefault(name, [])

    def keep(row, pair, values):
      if row in self._rows:
        pictures.append(pair.rgb)
    return keep

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

  def kept(self) -> tuple[list[Shot], list[Shot], dict[str, list[np.ndarray]]]:
    """All that `add` of another album takes."""
    return self.chosen, self.worst(), self.others

  def add(self, chosen: list, worst: list, others: dict[str, list[np.ndarray]]) -> None:
    """Takes what another album has `kept` of later frames; its shots may have become lists on their way."""
    found = lambda shots: [Shot(row, psnr_lip, Pair(*pair)) for row, psnr_lip, pair in shots]
    self.chosen += found(chosen)
    for name, pictures in others.items():
      self.others.setdefault(name, []).extend(pictures)
    by_stretch: dict[int, Shot] = {}
    for shot in self.worst() + found(worst):
      by_stretch.setdefault(shot.row // APART, shot)
      by_stretch[shot.row // APART] = min(by_stretch[shot.row // APART], shot, key=lambda shot: shot.psnr_lip)
    lowest = sorted(by_stretch.values(), key=lambda shot: shot.psnr_lip)[:NUM_WORST]
    self._worst = [(-shot.psnr_lip, shot.row, shot) for shot in lowest]
    heapq.heapify(self._worst)

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


def mouth_square(pair: Pair) -> tuple[int, int, int]:
  """(top, left, side) pixels of a square about the mouth region; of the frame's middle where there is none."""
  height, width = pair.rgb.shape[:2]
  mask = pair.mask_mouth
  rows, columns = np.nonzero(mask) if mask is not None and mask.any() else (np.array([0, height - 1]), np.array([0, width - 1]))
  side = int(min(CLOSE_UP * max(np.ptp(rows), np.ptp(columns)) + 1, height, width))
  top = int(np.clip((rows.min() + rows.max() + 1 - side) // 2, 0, height - side))
  left = int(np.clip((columns.min() + columns.max() + 1 - side) // 2, 0, width - side))
  return top, left, side


def with_words(picture: np.ndarray, words: list[tuple[int, int, str]]) -> np.ndarray:
  """The picture [h, w, 3] uint8 with (x, y, text) written on it, (x, y) the upper left corner in pixels."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  height, width = np.array(picture.shape[:2]) + 1  # a figure's size in inches may round down to a pixel less
  figure = new_figure(width, height)
  for x, y, text in words:
    figure.text(x / width, 1 - y / height, literal(text), fontsize=LETTERS, color='#111827', va='top')
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.minimum(picture, np.asarray(canvas.buffer_rgba())[:picture.shape[0], :picture.shape[1], :3])


def mouth_sheets(shots: list[Shot], headings: list[str], others: dict[str, list[np.ndarray]], names: dict[str, str]
                 ) -> list[np.ndarray]:
  """Mouths `ENLARGED` times, as many beside each other as fit a page, in rows that are named: true, ours, difference, others.

  Args:
    shots, headings: the columns, and what stands above each.
    others: by name, a picture [H, W, 3] uint8 for each shot.
    names: what rows are called.

  Returns:
    Pictures [h, w, 3] uint8, each with its share of the columns.
  """
  if not shots:
    return []
  size = min(ENLARGED * max(mouth_square(shot.pair)[2] for shot in shots), MAX_TILE)
  per_sheet = max(1, PAGE_WIDTH // (size + GAP))
  sheets = []
  for start in range(0, len(shots), per_sheet):
    part = range(start, min(start + per_sheet, len(shots)))
    true, ours = ([close_up(shots[i].pair, getattr(shots[i].pair, side), size) for i in part] for side in ('true', 'rgb'))
    differences = [difference(one, other) for one, other in zip(ours, true, strict=True)]
    rows = [(names['truth'], true), (names['model'], ours), (DIFFERENCE_NAME, differences)]
    rows += [(names[name], [close_up(shots[i].pair, pictures[i], size) for i in part]) for name, pictures in others.items()]
    sheets.append(named_rows(rows, [headings[i] for i in part]))
  return sheets


def named_rows(rows: list[tuple[str, list[np.ndarray]]], headings: list[str]) -> np.ndarray:
  """Pictures [s, s, 3] uint8 in rows, each row's name above it, `headings` above the columns: one picture [h, w, 3] uint8."""
  size = rows[0][1][0].shape[0]
  sheet = np.full((LINE + len(rows) * (LINE + size), len(headings) * (size + GAP) - GAP, 3), 255, np.uint8)
  words = [(x * (size + GAP), 2, heading) for x, heading in enumerate(headings)]
  for y, (name, tiles) in enumerate(rows):
    top = LINE + y * (LINE + size)
    words.append((0, top + 2, name))
    for x, tile in enumerate(tiles):
      sheet[top + LINE:top + LINE + size, x * (size + GAP):x * (size + GAP) + size] = tile
  return with_words(sheet, words)


def close_up(pair: Pair, picture: np.ndarray, size: int) -> np.ndarray:
  """A picture of the pair's frame about the pair's mouth, [size, size, 3]."""
  top, left, side = mouth_square(pair)
  return cv2.resize(picture[top:top + side, left:left + side], (size, size), interpolation=cv2.INTER_CUBIC)


def film_strip(columns: list[list[np.ndarray]], gap: int = 4) -> np.ndarray:
  """Pictures of one size in columns, with white gaps between them, as one picture."""
  pad = lambda picture: np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)
  return np.hstack([np.vstack([pad(picture) for picture in column]) for column in columns])[:-gap, :-gap]


def stacked(sheets: list[np.ndarray]) -> np.ndarray:
  """Pictures one below another, on white, as one picture."""
  width = max(sheet.shape[1] for sheet in sheets)
  return np.vstack([np.pad(sheet, ((0, GAP), (0, width - sheet.shape[1]), (0, 0)), constant_values=255) for sheet in sheets])
