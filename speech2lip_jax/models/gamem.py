"""Canonical head depth D_c: the tracked face's geometry and a learned correction outside the face (Eq. 9)."""
import jax
import jax.numpy as jnp
from flax import linen as nn


class CanonicalDepth(nn.Module):
  """D_c [H, W] float32 > 0: `depth_tracked` · exp(correction), the correction being 0 where the face was measured.

  Attributes:
    cell: pixels per node of the coarse grid that holds the correction (log of depth, starts at 0).
  """
  cell: int

  @nn.compact
  def __call__(self, depth_tracked: jax.Array, outside_face: jax.Array) -> jax.Array:
    """depth_tracked: [H, W] head units. outside_face: [H, W] 0 on the face, rising to 1 away from it."""
    height, width = depth_tracked.shape
    nodes = self.param('log_correction', nn.initializers.zeros, (-(-height // self.cell) + 1, -(-width // self.cell) + 1))
    correction = jax.image.resize(nodes, (height, width), 'cubic')
    return depth_tracked * jnp.exp(correction * outside_face)
