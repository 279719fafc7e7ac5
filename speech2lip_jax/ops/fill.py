"""Holes in pictures, and filling what was not seen from what was.

Pictures [H, W, C] float32, masks [H, W] bool; one at a time, callers vmap.
"""
import jax
import jax.numpy as jnp

_NUM_SLITS = 4  # A window's slits: what opens where a nearer part of the head moves off a farther one.
_SLIT_WIDTH, _SLIT_LENGTH = (0.01, 0.08), (0.1, 0.6)  # Of the window's width, from … to.
_PIXEL_SHARE = 0.01  # Of the window's pixels, missing one by one.
_SWEEPS = 6  # Relaxations on every level: enough that no block of the coarser one shows.


def _halve(values, weight):
  """Weighted mean of each 2×2 block and its weight (0 where the block knows nothing); odd edges are padded."""
  height, width = weight.shape[:2]
  pad = ((0, height % 2), (0, width % 2), (0, 0))
  blocks = lambda x: jnp.pad(x, pad).reshape((height + 1) // 2, 2, (width + 1) // 2, 2, -1).sum((1, 3))
  total = blocks(weight)
  return blocks(values * weight) / jnp.maximum(total, 1e-6), jnp.minimum(total, 1.0)


def _neighbours(values):
  padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)), mode='edge')
  return 0.25 * (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:])


@jax.jit
def diffuse(values: jax.Array, is_known: jax.Array) -> jax.Array:
  """The smoothest picture that keeps the known pixels: a membrane (Laplace's equation), coarse to fine.

  Args:
    values: [H, W, C] float32, anything where not known.
    is_known: [H, W] bool. Nothing known gives zeros.

  Returns:
    [H, W, C] float32: `values` where known, within their range elsewhere.
  """
  known = is_known[..., None]
  level = (jnp.where(known, values, 0.0), known.astype(values.dtype))
  levels = [level]
  while max(levels[-1][1].shape[:2]) > 1:
    levels.append(_halve(*levels[-1]))
  filled = levels[-1][0]
  for coarse, weight in levels[-2::-1]:
    filled = jax.image.resize(filled, coarse.shape, 'linear')
    mix = lambda x, coarse=coarse, weight=weight: x + weight * (coarse - x)
    filled = jax.lax.fori_loop(0, _SWEEPS, lambda _, x, mix=mix: mix(_neighbours(x)), mix(filled))
  return jnp.where(known, values, filled)


def random_holes(key: jax.Array, height: int, width: int) -> jax.Array:
  """Holes as forward mapping leaves them: bent, pointed slits and single pixels. [height, width] bool."""
  slit_key, pixel_key = jax.random.split(key)
  rows, columns = jnp.meshgrid(jnp.arange(height) / width, jnp.arange(width) / width, indexing='ij')

  def slit(key):
    turn, x, y, thickness, length, bend = jax.random.uniform(key, (6,))
    sine, cosine = jnp.sin(2 * jnp.pi * turn), jnp.cos(2 * jnp.pi * turn)
    away_x, away_y = columns - x, rows - y * height / width
    half = 0.5 * (_SLIT_LENGTH[0] + length * (_SLIT_LENGTH[1] - _SLIT_LENGTH[0]))
    along = (away_x * cosine + away_y * sine) / half
    across = away_y * cosine - away_x * sine + (bend - 0.5) * half * along**2
    thickness = _SLIT_WIDTH[0] + thickness * (_SLIT_WIDTH[1] - _SLIT_WIDTH[0])
    return jnp.abs(across) < 0.5 * thickness * (1 - along**2)

  slits = jax.vmap(slit)(jax.random.split(slit_key, _NUM_SLITS)).any(0)
  return slits | jax.random.bernoulli(pixel_key, _PIXEL_SHARE, (height, width))
