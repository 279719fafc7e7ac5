"""Faces in pictures of any size, small ones too.

The landmark model first looks for faces in the picture shrunk to 128 × 128 pixels. One that is small there is missed, or found so
roughly that the landmarks jump; a second look in a window around it finds it as one that fills the picture. Where no face is found
at all, the window around the latest one is looked at, and now and then windows that cover the picture. Such windows also show
ghosts, in 13 of 184 pictures of coins, cats and cups. The mirror image of a ghost shows another one or none, so a face counts if
its mirror image has the same middle: apart by .029 of its size in 98 % of 71 pictures with a face, by .115 and more for all of 22
ghosts.

A head of .2 of 1080 lines is found at once in 74 % of 100 pictures, with a jitter of 9.7 pixels, and by a closer look in all,
with .23 (`benchmarks/small_faces.py`).
"""
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
  from speech2lip_jax.preprocess import landmarks

SMALL = 0.3  # a face of a smaller share of the picture's longer side is looked at closer
SIDE_PER_FACE = 2.5  # of a window around a face; 1.8 and 3.5 did as well
FINEST = 2  # windows that cover the picture have its shorter side, and halves of it, down to 1 / this
SEARCH_EVERY = 5  # pictures without a face until the windows are looked at again
MIDDLE = [10, 1, 4, 152]  # landmarks of the face's middle: forehead, nose, chin
MAX_APART = 0.06  # between a face's middle and that of its mirror image, of its size


class _Window(NamedTuple):
  """The square [top, top + side) × [left, left + side) of a picture."""
  top: int
  left: int
  side: int


class FaceSearch:
  """Finds the faces of consecutive pictures of one size."""

  def __init__(self, detector: 'landmarks.Detector'):
    self._detector = detector
    self._last: np.ndarray | None = None  # the largest face of the latest picture with one, pixels
    self._num_empty = 0

  def faces(self, picture: np.ndarray) -> np.ndarray:
    """[num faces, 478, 3] float64, the largest first; normalised: x, z by the width, y by the height of the next picture
    [H, W, 3] uint8 RGB."""
    height, width = picture.shape[:2]
    unit = np.array([width, height, width], np.float64)
    found = self._detector.faces(picture) * unit
    found = found[np.argsort([-_size(face) for face in found], kind='stable')]
    if len(found):
      if _size(found[0]) < SMALL * max(height, width):
        closer = self._in(picture, _around(found[0], height, width))
        found[0] = found[0] if closer is None else closer
    else:
      face = self._searched(picture)
      found = found if face is None else face[None]
    self._num_empty = 0 if len(found) else self._num_empty + 1
    self._last = found[0] if len(found) else self._last
    return found / unit

  def _searched(self, picture: np.ndarray) -> np.ndarray | None:
    """The face of a picture in which none is seen at once, pixels: where the latest was, else in windows that cover it."""
    height, width = picture.shape[:2]
    if self._last is not None:
      face = self._confirmed(picture, self._last)
      if face is not None:
        return face
    if self._num_empty % SEARCH_EVERY == 0:
      for window in _covering(height, width):
        face = self._in(picture, window)
        if face is not None and (face := self._confirmed(picture, face)) is not None:
          return face
    return None

  def _confirmed(self, picture: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """The face where one is supposed, pixels, if its mirror image is the same one."""
    height, width = picture.shape[:2]
    window = _around(place, height, width)
    if (face := self._in(picture, window)) is None:
      return None
    if (mirrored := self._in(picture[:, ::-1], window._replace(left=width - window.left - window.side))) is None:
      return None
    apart = mirrored[MIDDLE, :2] * (-1, 1) + (width, 0) - face[MIDDLE, :2]
    return face if np.linalg.norm(apart, axis=1).mean() < MAX_APART * _size(face) else None

  def _in(self, picture: np.ndarray, window: _Window) -> np.ndarray | None:
    """The face in a window that is nearest to its middle, pixels of the picture."""
    top, left, side = window
    faces = self._detector.faces(np.ascontiguousarray(picture[top:top + side, left:left + side]))
    if not len(faces):
      return None
    off = np.linalg.norm((faces[..., :2].min(1) + faces[..., :2].max(1) - 1) / 2, axis=-1)
    return faces[off.argmin()] * side + (left, top, 0)


def _size(face: np.ndarray) -> float:
  return float(np.ptp(face[:, :2], axis=0).max())


def _around(face: np.ndarray, height: int, width: int) -> _Window:
  """A window with a face [478, 3], pixels, in its middle, as far as the picture reaches."""
  side = min(math.ceil(SIDE_PER_FACE * _size(face)), height, width)
  left, top = (face[:, :2].min(0) + face[:, :2].max(0) - side) / 2
  return _Window(int(np.clip(round(top), 0, height - side)), int(np.clip(round(left), 0, width - side)), side)


def _covering(height: int, width: int) -> Iterator[_Window]:
  """Windows that cover the picture and overlap by half, the large ones first; not the picture itself."""
  side = min(height, width)
  while side >= min(height, width) / FINEST:
    if (side, side) != (height, width):
      starts = [np.linspace(0, length - side, math.ceil(2 * (length - side) / side) + 1).astype(int) for length in (height, width)]
      yield from (_Window(top, left, side) for top in starts[0].tolist() for left in starts[1].tolist())
    side //= 2
