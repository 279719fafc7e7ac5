"""Canonical head depth D_c: the tracked face's geometry and a learned correction outside the face (Eq. 9)."""
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def node_weights(size: int, cell: int) -> np.ndarray:
  """What each node of a line of cubic B-splines, `cell` pixels apart, gives to each of `size` pixels: [size, nodes].

  Rows sum to 1; beyond the ends the outermost nodes go on.
  """
  nodes = np.arange(-1, -(-size // cell) + 2)
  distance = np.abs(np.arange(size)[:, None] / cell - nodes)
  near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, np.maximum(2 - distance, 0)**3 / 6
  weights = np.where(distance < 1, near, far)
  weights[:, 1] += weights[:, 0]
  weights[:, -2] += weights[:, -1]
  return weights[:, 1:-1]


def cell_pixels(cell: float, width: int) -> int:
  """Pixels between nodes, at least 4, of their distance as a share of the width."""
  return max(4, round(cell * width))


class CanonicalDepth(nn.Module):
  """D_c [H, W] float32 > 0: `depth_tracked` · exp(correction), the correction being 0 where the face was measured.

  Attributes:
    cell: distance of the nodes of the coarse grid that holds the correction (log of depth, 0 at first), of the width.
  """
  cell: float

  @nn.compact
  def __call__(self, depth_tracked: jax.Array, outside_face: jax.Array) -> jax.Array:
    """depth_tracked: [H, W] head units. outside_face: [H, W] 0 on the face, rising to 1 away from it."""
    cell = cell_pixels(self.cell, depth_tracked.shape[1])
    rows, columns = (jnp.asarray(node_weights(size, cell), jnp.float32) for size in depth_tracked.shape)
    nodes = self.param('log_correction', nn.initializers.zeros, (rows.shape[1], columns.shape[1]))
    correction = jnp.einsum('yi,ij,xj->yx', rows, nodes, columns, precision='highest')
    return depth_tracked * jnp.exp(correction * outside_face)
