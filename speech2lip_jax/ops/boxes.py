"""Rectangles of pixels and soft edges."""
from typing import Any, NamedTuple


class LipBox(NamedTuple):
  """Half-open rectangle of the canonical image, pixels."""
  top: int
  left: int
  height: int
  width: int


def smoothstep(fraction: Any) -> Any:
  """3t² − 2t³ of t clipped to 0..1: a NumPy array or scalar of one, a JAX array of one."""
  t = fraction.clip(0.0, 1.0)
  return t * t * (3 - 2 * t)
