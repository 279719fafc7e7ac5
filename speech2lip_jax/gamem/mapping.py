"""The mapping between canonical and observed space (GAMEM, Eq. 4 and 5): one map and its inverse.

Coordinates are [..., 2] (x, y) pixels, pixel centres at integers; one frame at a time, callers vmap. Both directions come from
one map, p ↦ O2C(p): where in the observed frame the canonical point p is seen. `observed_coords` evaluates it at every
canonical pixel; `canonical_coords` solves it for p, so the two agree exactly. The canonical image may be `scale` times as
large as the frame: it is then the same camera with `scale` times the focal length. `focal` is always that of the frame, in
pixels of the frame.
"""
import functools

import jax
import jax.numpy as jnp

from speech2lip_jax.ops import camera
from speech2lip_jax.ops.sampling import _pixel_grid

_MIN_DETERMINANT = 0.1  # Below, the canonical surface is seen edge-on or from behind, and a Newton step would jump.
_MAX_STEP = 0.25  # Of the image's longer side: the longest step that the inverse may take at once.


def canonical_pixels(pixels: jax.Array, scale: float) -> jax.Array:
  """The pixels [..., 2] of a canonical image `scale` times as large as the frame, of pixels [..., 2] in the frame."""
  return (pixels + 0.5) * scale - 0.5


def observed_coords(depth_canonical: jax.Array, observed_from_canonical: jax.Array, focal: jax.Array | float,
                    scale: float = 1.0) -> tuple[jax.Array, jax.Array]:
  """O2C: for each canonical pixel, where to read in the frame (Eq. 4).

  Args:
    depth_canonical: [H, W] float32 D_c > 0 along z, head units.
    observed_from_canonical: [4, 4] rigid transform of the frame.
    focal: of the frame, pixels.
    scale: canonical over observed size.

  Returns:
    coords: [H, W, 2] float32 (x, y) pixels of the observed frame, finite.
    z: [H, W] float32 depth in the observed camera; ≤ 0 where the point is behind it.
  """
  height, width = depth_canonical.shape
  points = camera.unproject(_pixel_grid(height, width), depth_canonical, focal * scale, height, width)
  moved = camera.transform_points(observed_from_canonical, points)
  return camera.project(moved, focal, height / scale, width / scale)


def _depth_and_slope(depth, coords):
  """Bilinear read of `depth` [H, W] at coords [..., 2], border beyond it: values [...] and d/dx, d/dy [..., 2]."""
  height, width = depth.shape
  size = jnp.array([width, height], jnp.float32)
  place = jnp.clip(coords, 0.0, size - 1)
  base = jnp.clip(jnp.floor(place), 0.0, jnp.maximum(size - 2, 0))
  fx, fy = jnp.moveaxis(place - base, -1, 0)
  column, row = jnp.moveaxis(base.astype(jnp.int32), -1, 0)
  flat, index = jnp.asarray(depth).reshape(-1), row * width + column
  right, below = int(width > 1), width * int(height > 1)
  corners = jnp.array([0, right, below, right + below]).reshape(-1, *[1] * index.ndim)
  d00, d01, d10, d11 = flat.at[index + corners].get(mode='promise_in_bounds')
  top, bottom = d00 + fx * (d01 - d00), d10 + fx * (d11 - d10)
  slope = jnp.stack([(1 - fy) * (d01 - d00) + fy * (d11 - d10), bottom - top], axis=-1)
  return top + fy * (bottom - top), jnp.where(place == coords, slope, 0.0)


def _observed_at(depth_canonical, observed_from_canonical, focal, scale, coords):
  """O2C at continuous canonical points [..., 2] and its Jacobian's columns d/dx, d/dy, [..., 2] each."""
  height, width = depth_canonical.shape
  depth, slope = _depth_and_slope(depth_canonical, coords)
  points = camera.unproject(coords, depth, focal * scale, height, width)
  moved = camera.transform_points(observed_from_canonical, points)
  pixels, z = camera.project(moved, focal, height / scale, width / scale)
  # d(point)/dx = D·K⁻¹e_x + (K⁻¹p)·dD/dx, turned by R, then through the division by z.
  depth = points[..., 2:]
  ray = points / depth
  rotation = observed_from_canonical[:3, :3]
  turned_ray = ray[..., 0:1] * rotation[:, 0] + ray[..., 1:2] * rotation[:, 1] + ray[..., 2:3] * rotation[:, 2]
  enlargement = focal / jnp.maximum(z, camera.MIN_DEPTH)[..., None]
  direction = moved[..., :2] / jnp.maximum(z, camera.MIN_DEPTH)[..., None]
  columns = []
  for axis in range(2):
    change = depth / (focal * scale) * rotation[:, axis] + turned_ray * slope[..., axis:axis + 1]
    columns.append(enlargement * (change[..., :2] - direction * change[..., 2:]))
  return pixels, columns


def _inverse_step(scale, coords, points_observed, depth_canonical, observed_from_canonical, focal):
  """One step towards O2C(coords) = points_observed; with its Jacobian held constant its gradient is the inverse's."""
  longest = float(max(depth_canonical.shape))
  pixels, (by_x, by_y) = _observed_at(depth_canonical, observed_from_canonical, focal, scale, coords)
  by_x, by_y = jax.lax.stop_gradient((by_x * scale, by_y * scale))
  residual = (points_observed - pixels) * scale  # both in canonical pixels, so that limits mean the same at any scale
  determinant = by_x[..., 0] * by_y[..., 1] - by_x[..., 1] * by_y[..., 0]
  regular = determinant > _MIN_DETERMINANT
  inverse = 1 / jnp.where(regular, determinant, 1.0)
  newton = jnp.stack([by_y[..., 1] * residual[..., 0] - by_y[..., 0] * residual[..., 1],
                      by_x[..., 0] * residual[..., 1] - by_x[..., 1] * residual[..., 0]], axis=-1) * inverse[..., None]
  step = jnp.clip(jnp.where(regular[..., None], newton, residual), -_MAX_STEP * longest, _MAX_STEP * longest)
  return jnp.clip(coords + step, -longest, 2.0 * longest)


# Forward it is a loop and backward one step: XLA fuses an unrolled chain of gathers into what takes it a minute to
# compile.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _solve_inverse(points_observed, depth_canonical, observed_from_canonical, focal, num_steps, scale):
  longest = float(max(depth_canonical.shape))
  step = lambda _, coords: _inverse_step(scale, coords, points_observed, depth_canonical, observed_from_canonical, focal)
  return jax.lax.fori_loop(0, num_steps, step, jnp.clip(canonical_pixels(points_observed, scale), -longest, 2.0 * longest))


def _solve_inverse_forward(*arguments):
  coords = _solve_inverse(*arguments)
  return coords, (coords, arguments[:4])


def _solve_inverse_backward(num_steps, scale, saved, gradient):
  del num_steps
  coords, arguments = saved
  _, pull_back = jax.vjp(functools.partial(_inverse_step, scale, coords), *arguments)
  return pull_back(gradient)


_solve_inverse.defvjp(_solve_inverse_forward, _solve_inverse_backward)


def observed_points(points_canonical: jax.Array, depth_canonical: jax.Array, observed_from_canonical: jax.Array,
                    focal: jax.Array | float, scale: float = 1.0) -> jax.Array:
  """O2C at any canonical points [..., 2] (x, y) pixels, between pixels too: the frame's pixels [..., 2]."""
  return _observed_at(jnp.asarray(depth_canonical), observed_from_canonical, focal, scale, points_canonical)[0]


def canonical_coords(points_observed: jax.Array, depth_canonical: jax.Array, observed_from_canonical: jax.Array,
                     focal: jax.Array | float, num_steps: int = 8, scale: float = 1.0) -> jax.Array:
  """C2O: for each observed point, where to read in canonical space: the inverse of O2C (Eq. 5).

  Solves O2C(p) = p_o by Newton's method, from where p would be if the head had not moved; where the map folds (the
  surface turns away from the observed camera) its step is replaced by the fixed-point step p ← p + (p_o − O2C(p)), p
  stays finite and means nothing. The depth between pixels is bilinear, so at pixel centres this is `observed_coords`
  inverted. Gradients are those of the implicit function at the solution; reverse mode only.

  Args:
    points_observed: [..., 2] float32 (x, y) pixels of the observed frame, anywhere.
    depth_canonical: [H, W] float32 D_c > 0, head units; beyond the image its border counts.
    observed_from_canonical: [4, 4] rigid transform of the frame.
    focal: of the frame, pixels.
    num_steps: iterations, at least 1.
    scale: canonical over observed size.

  Returns:
    [..., 2] float32 (x, y) pixels of the canonical image, never NaN for finite input.
  """
  depth = jnp.clip(depth_canonical, camera.MIN_DEPTH, camera.MAX_DEPTH)  # The slope between infinite depths is NaN.
  return _solve_inverse(jnp.asarray(points_observed), depth, jnp.asarray(observed_from_canonical),
                        jnp.asarray(focal, jnp.float32), num_steps, scale)
