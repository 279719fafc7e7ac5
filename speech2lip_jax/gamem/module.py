"""GAMEM, the geometry-aware mutual explicit mapping between canonical and observed space (Eq. 3, 4, 5).

One map and its inverse, both from the canonical depth D_c and a frame's pose alone: O2C tells where a canonical pixel is seen in
the frame, C2O where a pixel of the frame lies in canonical space. Lips that are painted in canonical space are carried into the
frame by C2O, inside a window around the mouth. B frames at once; images are NHWC RGB float32 in 0 … 1.
"""
import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict, FrozenConfigDict

from speech2lip_jax.gamem import compose, mapping
from speech2lip_jax.gamem.compose import Composition, MouthWindows
from speech2lip_jax.gamem.depth import CanonicalDepth
from speech2lip_jax.gamem.subject import Geometry, SubjectConstants
from speech2lip_jax.ops import sampling


def gamem_of(geometry: Geometry, config: ConfigDict | FrozenConfigDict, canonical_depth: CanonicalDepth | None = None) -> 'Gamem':
  """The mapping that a recipe wants for a subject; canonical_depth: of the model that it is a part of, or None for one alone."""
  depth = canonical_depth or CanonicalDepth(config.depth.cell)
  return Gamem(geometry, depth, config.compose.num_inverse_steps, config.compose.feather)


class Gamem(nn.Module):
  """The mapping of one subject.

  Attributes:
    geometry: sizes, lip box, focal length and canonical scale of the subject.
    canonical_depth: holds D_c; its correction is the mapping's only parameter.
    num_inverse_steps: Newton steps of C2O.
    feather: width of the soft rim inside the lip box, of the box's width.
  """
  geometry: Geometry
  canonical_depth: CanonicalDepth
  num_inverse_steps: int
  feather: float

  def depth(self, constants: SubjectConstants) -> jax.Array:
    """D_c [sH, sW] > 0 with its learned correction, head units.

    A constant for the gradients of the networks: `learn_depth` learns it before they train (Eq. 9).
    """
    return jax.lax.stop_gradient(self.canonical_depth(constants.depth_tracked, constants.outside_face))

  def o2c(self, depth_canonical: jax.Array, observed_from_canonical: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where every canonical pixel is seen in one frame (Eq. 4).

    Args:
      depth_canonical: [sH, sW] D_c.
      observed_from_canonical: [4, 4] pose of the frame (Eq. 3).

    Returns:
      coords: [sH, sW, 2] float32 (x, y) pixels of the frame.
      z: [sH, sW] float32 depth in the frame's camera; ≤ 0 behind it.
    """
    return mapping.observed_coords(depth_canonical, observed_from_canonical, self.geometry.focal, self.geometry.canonical_scale)

  def c2o(self, points_observed: jax.Array, depth_canonical: jax.Array, observed_from_canonical: jax.Array) -> jax.Array:
    """Where points of one frame lie in canonical space: the inverse of O2C (Eq. 5).

    Args:
      points_observed: [..., 2] float32 (x, y) pixels of the frame.
      depth_canonical: [sH, sW] D_c.
      observed_from_canonical: [4, 4] pose of the frame (Eq. 3).

    Returns:
      [..., 2] float32 (x, y) pixels of the canonical image.
    """
    return mapping.canonical_coords(points_observed, depth_canonical, observed_from_canonical, self.geometry.focal,
                                    self.num_inverse_steps, self.geometry.canonical_scale)

  def windows(self, rgb_face_observed: jax.Array, observed_from_canonical: jax.Array, depth_canonical: jax.Array) -> MouthWindows:
    """The windows around the mouths of B frames, and the C2O of their pixels.

    Args:
      rgb_face_observed: [B, H, W, 3].
      observed_from_canonical: [B, 4, 4].
      depth_canonical: [sH, sW] D_c.
    """
    geometry, box = self.geometry, self.geometry.lip_box
    height, width = geometry.window
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij')
    grid = jnp.stack([columns, rows], -1).astype(jnp.float32)
    centre = jnp.array([box.left + (box.width - 1) / 2, box.top + (box.height - 1) / 2])

    def one(frame, pose):
      centre_observed = mapping.observed_points(centre, depth_canonical, pose, geometry.focal, geometry.canonical_scale)
      # A pose that throws the mouth out of the picture (or to infinity) leaves the window at the nearest border.
      corner = jnp.round(jnp.nan_to_num(centre_observed) - jnp.array([(width - 1) / 2, (height - 1) / 2]))
      corner = jnp.clip(corner, 0, jnp.array([geometry.width - width, geometry.height - height]))
      left, top = corner.astype(jnp.int32)
      observed = jax.lax.dynamic_slice(frame, (top, left, 0), (height, width, 3))
      return MouthWindows(jnp.stack([top, left]), observed, self.c2o(grid + corner, depth_canonical, pose))

    return jax.vmap(one)(rgb_face_observed, observed_from_canonical)

  def carry(self, rgb_lip: jax.Array, windows: MouthWindows) -> Composition:
    """Canonical lips [B, h, w, 3], read at C2O and put into the windows."""
    return self.merge(self.read(rgb_lip, windows.coords), windows)

  def read(self, rgb_lip: jax.Array, coords: jax.Array) -> jax.Array:
    """Canonical lips [B, h, w, 3] at the C2O [B, wh, ww, 2] of a frame's pixels, made as coarse as these: [B, wh, ww, 3]."""
    rgb_lip = sampling.blur(rgb_lip, self.geometry.lip_blur)
    return jax.vmap(lambda lip, coords: compose.read_lips(lip, coords, self.geometry.lip_box))(rgb_lip, coords)

  def merge(self, lips: jax.Array, windows: MouthWindows) -> Composition:
    """Lips [B, wh, ww, 3], one colour for each pixel of the windows, put into them."""
    box = self.geometry.lip_box
    merge = lambda lips, observed, coords: compose.merge_lips(lips, observed, coords, box, self.feather * box.width)
    merged = jax.vmap(merge)(lips, windows.observed, windows.coords)
    return Composition(windows.origin, windows.observed, merged, compose.mouth_region(windows.coords, box))
