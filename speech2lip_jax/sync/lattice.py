"""What a sync expert sees of a mouth: grey values of the canonical lip image on a coarse lattice of its pixels.

That is what the generator paints and no more, since a jaw or a throat gives the speech away whatever the lips do.
"""
import jax
import jax.numpy as jnp
import numpy as np

LATTICE_COLUMNS = 20  # at least so many columns are looked at, where the lip box has them
MAX_BLUR = 0.25  # weight of each neighbour in the 3-tap blur of `disturbed`
INSET = 0.1  # of the lip box's width left out on every side: composed lips fade into the frame's own pixels there


def _inset(lip_size: tuple[int, int]) -> int:
  return round(INSET * lip_size[1])


def lattice_stride(lip_size: tuple[int, int]) -> int:
  """Distance of the lattice's columns and rows, pixels, in a lip box (height, width)."""
  return max(1, (lip_size[1] - 2 * _inset(lip_size)) // LATTICE_COLUMNS)


def lattice_size(lip_size: tuple[int, int], stride: int) -> tuple[int, int]:
  """(rows, columns) of the lattice, the same at every phase 0 … stride − 1."""
  rows, columns = ((size - 2 * _inset(lip_size) - stride + 1) // stride for size in lip_size)
  return rows, columns


def lattice_pixels(lip_size: tuple[int, int], stride: int, phase: jax.Array) -> jax.Array:
  """Indices row · w + column into the lip box of the lattice's pixels: [rows · columns] int32.

  phase: [2] int32 (row, column) of the first one in the part that is looked at; out of 0 … stride − 1 the lattice is moved, up to
  the border of the lip box.
  """
  places = [jnp.clip(_inset(lip_size) + phase[i] + stride * np.arange(count), 0, lip_size[i] - 1)
            for i, count in enumerate(lattice_size(lip_size, stride))]
  return (places[0][:, None] * lip_size[1] + places[1]).reshape(-1)


def grey(rgb: jax.Array) -> jax.Array:
  """Luma (BT.601) of [..., 3] RGB: [...]."""
  return rgb @ jnp.array([0.299, 0.587, 0.114])


def disturbed(pictures: jax.Array, key: jax.Array) -> jax.Array:
  """Normalised pictures [F, rows, columns] of a run, blurred, lit otherwise, maybe mirrored, noisy: what must not matter."""
  keys = jax.random.split(key, 4)
  neighbour = MAX_BLUR * jax.random.uniform(keys[0])
  for axis in (1, 2):
    pad = [(0, 0)] * 3
    pad[axis] = (1, 1)
    padded = jnp.pad(pictures, pad, 'edge')
    before, after = (jax.lax.slice_in_dim(padded, start, start + pictures.shape[axis], axis=axis) for start in (0, 2))
    pictures = neighbour * (before + after) + (1 - 2 * neighbour) * pictures
  gain, offset = jax.random.normal(keys[1], (2,)) * jnp.array([0.15, 0.3])
  pictures = jnp.where(jax.random.bernoulli(keys[2]), pictures[:, :, ::-1], pictures)
  return pictures * jnp.exp(gain) + offset + 0.1 * jax.random.normal(keys[3], pictures.shape)
