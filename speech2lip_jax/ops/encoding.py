"""Sine and cosine codes of positions and times: the inputs of the lip field (Eq. 1).

Every function maps [..., n] to [..., m] float32, any leading shape.
"""
import jax
import jax.numpy as jnp
import numpy as np


def encode_position(coords: jax.Array, num_octaves: int = 10) -> jax.Array:
  """Fourier code of positions (released program): x itself, then sin and cos of 2^k·x, k = 0 … num_octaves − 1, no π.

  Args:
    coords: [..., 2] float32 (x, y), 0..1 across the lip box.
    num_octaves: number of frequencies.

  Returns:
    [..., 2 + 4·num_octaves] float32: x, y, sin x, sin y, cos x, cos y, sin 2x, sin 2y, cos 2x, …
  """
  frequencies = np.exp2(np.arange(num_octaves)).astype(np.float32)
  angles = coords[..., None, :] * frequencies[:, None]
  waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-2)
  return jnp.concatenate([coords, waves.reshape(*coords.shape[:-1], 4 * num_octaves)], axis=-1)


def encode_time(frame_index: jax.Array, dim: int = 20) -> jax.Array:
  """Transformer code of a frame number (released program), base 10000; each entry is encoded on its own.

  Args:
    frame_index: [...] integer or float, the raw index.
    dim: even number of outputs.

  Returns:
    [..., dim] float32: entry 2k is sin(t·10000^(−2k/dim)), entry 2k + 1 the cosine of the same.
  """
  # The exponent is rounded to float32 before exp, as in the released program: at frame 5000 the difference is 6e-5.
  exponents = np.arange(0, dim, 2, dtype=np.float32) * np.float32(-np.log(10_000.0) / dim)
  frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
  angles = jnp.asarray(frame_index, jnp.float32)[..., None] * frequencies
  return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*angles.shape[:-1], dim)
