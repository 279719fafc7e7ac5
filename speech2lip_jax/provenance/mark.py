"""An invisible mark in the pictures that were painted: 32 bits by ±1 grey level, ±2 where there is texture.

The picture is a chessboard of squares of 8 × 8 pixels, counted from its upper left corner. A square belongs to one bit (`BITS`)
and has a sign of its own (`SIGNS`); both repeat every 32 squares. Inside the painted window a square is made lighter or darker,
by the product of its sign and its bit, and every 0.2 s the other way: so all that stands still in a picture cancels where the
mark is read (`provenance.reading`), whatever the face looks like.
"""
import cv2
import numpy as np

from speech2lip_jax.provenance import code

SQUARE, TILE = 8, 32  # pixels of a square, squares after which the pattern repeats
HALF_PERIOD_S = 0.2  # after which what is added turns its sign
TEXTURE = 2.5  # mean grey levels from pixel to pixel above which two are added: there they are not seen
_SEED = 45438


def _layout() -> tuple[np.ndarray, np.ndarray]:
  """BITS and SIGNS: each part of 4 × 8 squares has every bit once."""
  rng = np.random.default_rng(_SEED)
  parts = rng.permuted(np.tile(np.arange(code.NUM_BITS), (TILE // 4 * (TILE // 8), 1)), axis=1)
  bits = parts.reshape(TILE // 4, TILE // 8, 4, 8).transpose(0, 2, 1, 3).reshape(TILE, TILE)
  return bits, rng.choice(np.array([-1, 1]), (TILE, TILE))


BITS, SIGNS = _layout()  # [32, 32] each


class Mark:
  """Puts one number into pictures."""

  def __init__(self, number: int):
    """number: 0 … 2047."""
    self.number = number
    tile = (SIGNS * code.bits_of(number)[BITS]).astype(np.int8)
    self._tile = tile.repeat(SQUARE, 0).repeat(SQUARE, 1)

  def add(self, rgb: np.ndarray, window: tuple[int, int, int, int], time_s: float, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A picture [H, W, 3] uint8 marked inside its window (top, left, height, width); outside it is as it was.

    time_s: when it is shown, seconds since the film's first picture. corner: (top, left) of `rgb` in the film's picture.
    """
    top, left = max(window[0], 0), max(window[1], 0)
    bottom, right = min(window[0] + window[2], rgb.shape[0]), min(window[1] + window[3], rgb.shape[1])
    if top >= bottom or left >= right:
      return rgb
    part = rgb[top:bottom, left:right]
    rows, columns = (np.arange(first + offset, last + offset) % len(self._tile)
                     for first, last, offset in ((top, bottom, corner[0]), (left, right, corner[1])))
    added = self._tile[rows[:, None], columns] * _strength(part)
    if int(time_s / HALF_PERIOD_S + 1e-6) % 2:
      added = -added
    marked = rgb.copy()
    marked[top:bottom, left:right] = cv2.add(part, cv2.merge([added] * 3).astype(np.int16), dtype=cv2.CV_8U)
    return marked


def _strength(rgb: np.ndarray) -> np.ndarray:
  """Grey levels that are added at each pixel of a part [h, w, 3] uint8: [h, w] int8, 1 or 2."""
  grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
  steps = np.zeros(grey.shape, np.uint8)
  steps[:, 1:] = cv2.absdiff(grey[:, 1:], grey[:, :-1])
  steps[1:] = cv2.add(steps[1:], cv2.absdiff(grey[1:], grey[:-1]))
  return 1 + (cv2.blur(steps, (SQUARE + 1, SQUARE + 1)) > TEXTURE).astype(np.int8)
