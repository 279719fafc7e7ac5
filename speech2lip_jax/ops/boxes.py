"""Rectangles of pixels and soft edges."""
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
  import jax


class LipBox(NamedTuple):
  """Half-open rectangle of the canonical image, pixels."""
  top: int
  left: int
  height: int
  width: int


def smoothstep(fraction: 'jax.Array') -> 'jax.Array':
  """3t² − 2t³ of t clipped to 0..1."""
  import jax.numpy as jnp  # here, so that the subject folder's schema, which needs LipBox, does not load JAX
  t = jnp.clip(fraction, 0.0, 1.0)
  return t * t * (3 - 2 * t)
