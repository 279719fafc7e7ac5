"""Rigid transforms and the pinhole camera (Eq. 3, 4).

Camera: x right, y down, z forward. Pixel coordinates (x, y), pixel centres at integers, principal point at the image
centre ((W − 1)/2, (H − 1)/2), focal length in pixels. Transforms are [..., 4, 4] float32, act on columns and read right
to left: `observed_from_canonical @ point_canonical`.
"""
import jax
import jax.numpy as jnp

MIN_DEPTH = 1e-3  # Head units; a nearer point counts as this far, so that projecting never divides by zero.
MAX_DEPTH = 1e6  # Head units; keeps inf − inf out of the transforms.


def principal_point(height: float, width: float) -> tuple[float, float]:
  """The image centre (x, y), pixels."""
  return (width - 1) / 2, (height - 1) / 2


def intrinsics(focal: jax.Array | float, height: float, width: float) -> jax.Array:
  """Camera matrix K [3, 3] float32: focal and principal point in pixels."""
  x, y = principal_point(height, width)
  focal = jnp.asarray(focal, jnp.float32)
  zero, one = jnp.zeros_like(focal), jnp.ones_like(focal)
  return jnp.stack([focal, zero, x * one, zero, focal, y * one, zero, zero, one], axis=-1).reshape(*focal.shape, 3, 3)


def rigid(rotation: jax.Array, translation: jax.Array) -> jax.Array:
  """The transform [..., 4, 4] of rotation [..., 3, 3] and translation [..., 3]."""
  top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
  bottom = jnp.broadcast_to(jnp.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
  return jnp.concatenate([top, bottom], axis=-2)


def invert_rigid(transform: jax.Array) -> jax.Array:
  """The inverse [..., 4, 4] of a rotation and translation [..., 4, 4]: [Rᵀ | −Rᵀt], exact without a solver."""
  rotation = jnp.swapaxes(transform[..., :3, :3], -1, -2)
  translation = -jnp.einsum('...ij,...j->...i', rotation, transform[..., :3, 3], precision='highest')
  return rigid(rotation, translation)


def transform_points(transform: jax.Array, points: jax.Array) -> jax.Array:
  """Moves points [..., 3] by one transform [4, 4]. Sums of products, not a dot: three columns gain nothing from one."""
  rotation, translation = transform[:3, :3], transform[:3, 3]
  x, y, z = points[..., 0:1], points[..., 1:2], points[..., 2:3]
  return x * rotation[:, 0] + y * rotation[:, 1] + z * rotation[:, 2] + translation


def unproject(pixels: jax.Array, depth: jax.Array, focal: jax.Array | float, height: float, width: float) -> jax.Array:
  """D · K⁻¹ · p (right side of Eq. 4).

  Args:
    pixels: [..., 2] float32 (x, y) pixels of a height × width image, anywhere.
    depth: [...] float32 along z, head units; counted as MIN_DEPTH..MAX_DEPTH.
    focal: pixels.

  Returns:
    [..., 3] float32 points in camera coordinates.
  """
  centre = jnp.array(principal_point(height, width), jnp.float32)
  depth = jnp.clip(depth, MIN_DEPTH, MAX_DEPTH)[..., None]
  return jnp.concatenate([(pixels - centre) / focal * depth, depth], axis=-1)


def project(points: jax.Array, focal: jax.Array | float, height: float, width: float) -> tuple[jax.Array, jax.Array]:
  """K · P divided by depth (left side of Eq. 4).

  Args:
    points: [..., 3] float32 in camera coordinates.
    focal: pixels.

  Returns:
    pixels: [..., 2] float32 (x, y), always finite for finite points; those at or behind the camera land far outside.
    z: [...] float32, their true depth, ≤ 0 behind the camera.
  """
  centre = jnp.array(principal_point(height, width), jnp.float32)
  z = points[..., 2]
  return points[..., :2] * (focal / jnp.maximum(z, MIN_DEPTH)[..., None]) + centre, z
