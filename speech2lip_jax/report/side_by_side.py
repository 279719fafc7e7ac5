"""The true frames and ours side by side as a small film with sound, their mouths enlarged below, for the report's page."""
import fractions
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from speech2lip_jax.common.film_file import Mp4Writer
from speech2lip_jax.data import schema
from speech2lip_jax.report.pictures import mouth_square, with_words
from speech2lip_jax.report.scoring import Pair

if TYPE_CHECKING:
  from speech2lip_jax.provenance.origin import Origin

MAX_S = 20.0  # of a long video the beginning
MAX_WIDTH = 320  # pixels, of each of the two frames
HEADER = 24  # pixels
QUALITY = 26  # H.264's constant rate factor
MAX_BITS = 440_000  # a second, so that the longest film stays below 1.5 MB with its sound
STEADINESS = 0.9  # of the place where the mouths are cut out: what it keeps from frame to frame


class SideBySide:
  """A context manager that takes the frames as they are scored."""

  def __init__(self, names: tuple[str, str], fps: float, sound: np.ndarray | None, origin: 'Origin | None' = None):
    """names: of the true frames and ours. sound: [m] int16 at 16 kHz from the first frame on, or None. origin: what the film says
    of itself in tags and manifest; it is not marked."""
    self._origin = origin._replace(is_marked=False) if origin else None
    self._names, self._fps = names, fractions.Fraction(fps).limit_denominator(1001)
    samples = np.zeros(0, np.int16) if sound is None else sound[:round(MAX_S * schema.SAMPLE_RATE)]
    self._sound = samples[None]
    self._writer: Mp4Writer | None = None
    self._header = np.zeros(0)
    self._square: np.ndarray | None = None  # (top, left, side) of the mouth, float

  def __enter__(self) -> 'SideBySide':
    self._folder = tempfile.TemporaryDirectory()
    self._path = pathlib.Path(self._folder.name, 'film.mp4')
    return self

  def __exit__(self, *error: Any) -> None:
    if self._writer:
      self._writer.__exit__(*error)
    self._folder.cleanup()

  def keep(self, row: int, pair: Pair, values: dict[str, float]) -> None:
    """To be handed to `Scorer.run`."""
    if row >= MAX_S * self._fps:
      return
    width = min(MAX_WIDTH, pair.rgb.shape[1]) // 2 * 2
    height = round(pair.rgb.shape[0] * width / pair.rgb.shape[1] / 2) * 2
    whole = [cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in (pair.true, pair.rgb)]
    square = np.array(mouth_square(pair), np.float64)
    self._square = square if self._square is None else STEADINESS * self._square + (1 - STEADINESS) * square
    mouths = [cut_out(rgb, self._square, width) for rgb in (pair.true, pair.rgb)]
    if not self._writer:
      self._header = with_words(np.full((HEADER, 2 * width, 3), 255, np.uint8),
                                [(6 + i * width, 3, name) for i, name in enumerate(self._names)])
      self._writer = Mp4Writer(self._path, HEADER + height + width, 2 * width, self._fps, self._sound, schema.SAMPLE_RATE, QUALITY,
                               MAX_BITS, self._origin)
    self._writer.write(np.vstack([self._header, np.hstack(whole), np.hstack(mouths)]))

  def mp4(self) -> bytes:
    """The finished film; empty without frames."""
    if not self._writer:
      return b''
    self._writer.__exit__(None)
    self._writer = None
    return self._path.read_bytes()


def cut_out(rgb: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
  """The square (top, left, side) of a picture, between pixels too, as [size, size, 3]."""
  top, left, side = square
  scale = size / side
  matrix = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
  return cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
