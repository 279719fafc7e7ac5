"""Forward mapping of a surface into a picture, with visibility.

A surface is a grid of samples [h, w] (the canonical image's pixels) that are neighbours in space too; `pixels` [h, w, 2]
says where each is seen in a picture (x, y; pixel centres at integers), `z` [h, w] how far from the camera. One surface at
a time; callers vmap. Surface coordinates are (x, y) samples.
"""
import jax
import jax.numpy as jnp

_MIN_DETERMINANT = 0.005  # Below, the surface is seen edge-on and a Newton step would jump.
_MAX_STEP = 1.0  # Samples: the longest Newton step; longer ones swing to and fro across a cell that is stretched.
_ARRIVED = 0.1  # Pixels from the centre.
_FAR = 1e6


def nearest_surface(pixels: jax.Array, z: jax.Array, is_valid: jax.Array, size: tuple[int, int]
                    ) -> tuple[jax.Array, jax.Array]:
  """The z-buffer: for every pixel of the picture the nearest of the samples that fall within one pixel of it.

  Each sample covers the 2×2 pixels around it, so a surface stays closed up to a stretch of about 1.4. Scatter-min of
  keys (depth in the high bits, sample in the low), so equal depths have one winner on every device.

  Args:
    pixels: [h, w, 2] float32; z: [h, w] float32. Samples behind the camera or not finite are left out.
    is_valid: [h, w] bool, samples that take part.
    size: (height, width) of the picture.

  Returns:
    sample: [H, W] int32, row-major index of the nearest sample, −1 where there is none.
    z_nearest: [H, W] float32, its depth, inf where there is none.
  """
  height, width = size
  count = z.size
  index_bits = max(count - 1, 1).bit_length()
  levels = 2**(32 - index_bits) - 2
  is_valid = is_valid & (z > 0) & jnp.isfinite(z) & jnp.isfinite(pixels).all(-1)
  z_low, z_high = jnp.min(jnp.where(is_valid, z, jnp.inf)), jnp.max(jnp.where(is_valid, z, -jnp.inf))
  share = jnp.where(is_valid, (z - z_low) / jnp.maximum(z_high - z_low, 1e-9), 0.0)
  rank = (jnp.clip(share, 0.0, 1.0) * levels).astype(jnp.uint32)
  key = (rank << index_bits) | jnp.arange(count, dtype=jnp.uint32).reshape(z.shape)
  place = jnp.where(is_valid[..., None], jnp.clip(pixels, -2.0, jnp.array([width, height]) + 1.0), -2.0)
  base = jnp.floor(place).astype(jnp.int32)
  columns = base[..., 0] + jnp.array([0, 1, 0, 1]).reshape(4, 1, 1)
  rows = base[..., 1] + jnp.array([0, 0, 1, 1]).reshape(4, 1, 1)
  inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
  target = jnp.where(inside, rows * width + columns, height * width)
  empty = jnp.uint32(2**32 - 1)
  buffer = jnp.full(height * width + 1, empty).at[target.reshape(-1)].min(jnp.broadcast_to(key, target.shape).reshape(-1))
  buffer = buffer[:-1].reshape(height, width)
  sample = jnp.where(buffer == empty, -1, (buffer & jnp.uint32(2**index_bits - 1)).astype(jnp.int32))
  return sample, jnp.where(sample < 0, jnp.inf, z.reshape(-1)[sample])


def read_surface(values: jax.Array, coords: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Bilinear read of `values` [h, w, C] at surface coords [..., 2], and its slopes d/dx, d/dy: [..., C], [2, ..., C].

  Beyond the grid its outermost cells are continued.
  """
  height, width, channels = values.shape
  base = jnp.clip(jnp.floor(coords), 0.0, jnp.array([max(width - 2, 0), max(height - 2, 0)], jnp.float32))
  fx, fy = jnp.moveaxis((coords - base)[..., None], -2, 0)
  column, row = jnp.moveaxis(base.astype(jnp.int32), -1, 0)
  index = row * width + column
  right, below = int(width > 1), width * int(height > 1)
  corners = jnp.array([0, right, below, right + below]).reshape(-1, *[1] * index.ndim)
  v00, v01, v10, v11 = values.reshape(-1, channels).at[index + corners].get(mode='promise_in_bounds')
  top, bottom = v00 + fx * (v01 - v00), v10 + fx * (v11 - v10)
  return top + fy * (bottom - top), jnp.stack([(1 - fy) * (v01 - v00) + fy * (v11 - v10), bottom - top])


def _nearest_around(sample, z_nearest, radius):
  """The nearest sample within `radius` pixels of each pixel."""
  size = 2 * radius + 1
  pad = ((radius, radius), (radius, radius))
  z, samples = jnp.pad(z_nearest, pad, constant_values=jnp.inf), jnp.pad(sample, pad, constant_values=-1)
  height, width = sample.shape
  for axis, length in ((0, height), (1, width)):
    best_z = jax.lax.slice_in_dim(z, 0, length, axis=axis)
    best = jax.lax.slice_in_dim(samples, 0, length, axis=axis)
    for k in range(1, size):
      other_z = jax.lax.slice_in_dim(z, k, k + length, axis=axis)
      nearer = other_z < best_z
      best = jnp.where(nearer, jax.lax.slice_in_dim(samples, k, k + length, axis=axis), best)
      best_z = jnp.where(nearer, other_z, best_z)
    z, samples = best_z, best
  return samples


def _refine(pixels, sample, num_steps):
  """Newton's method from samples [H, W] towards the pixels' centres: coords [H, W, 2] and how far they miss [H, W]."""
  height, width = pixels.shape[:2]
  rows, columns = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in sample.shape), indexing='ij')
  target = jnp.stack([columns, rows], axis=-1)
  start = jnp.maximum(sample, 0)
  seed = jnp.stack([start % width, start // width], axis=-1).astype(jnp.float32)
  limit = jnp.array([width - 1, height - 1], jnp.float32)

  def step(_, coords):
    at, (by_x, by_y) = read_surface(pixels, coords)
    residual = target - at
    determinant = _cross(by_x, by_y)
    regular = jnp.abs(determinant) > _MIN_DETERMINANT
    newton = jnp.stack([by_y[..., 1] * residual[..., 0] - by_y[..., 0] * residual[..., 1],
                        by_x[..., 0] * residual[..., 1] - by_x[..., 1] * residual[..., 0]], axis=-1)
    newton = newton / jnp.where(regular, determinant, 1.0)[..., None]
    step = jnp.where(regular[..., None], newton, 0.5 * residual)
    return jnp.clip(coords + jnp.clip(step, -_MAX_STEP, _MAX_STEP), 0.0, limit)

  coords = jax.lax.fori_loop(0, num_steps, step, seed)
  miss = jnp.linalg.norm(read_surface(pixels, coords)[0] - target, axis=-1)
  return coords, jnp.where(sample < 0, jnp.inf, miss)


def surface_coords(pixels: jax.Array, z: jax.Array, is_valid: jax.Array, sample: jax.Array, z_nearest: jax.Array,
                   num_steps: int = 6, radius: int = 2) -> tuple[jax.Array, jax.Array]:
  """Which point of the surface is seen at each pixel's centre: Newton's method from the z-buffer's samples.

  Two starts: the pixel's own sample, and the nearest one around it, which reaches into what a stretched surface left
  open; of those that arrive the nearer counts. The surface between its samples is bilinear, so where nothing moved the
  answer is the pixel's own sample, exactly.

  Args:
    pixels: [h, w, 2] float32, where the samples are seen; z: [h, w] float32; is_valid: [h, w] bool.
    sample, z_nearest: [H, W] of `nearest_surface`.
    num_steps: Newton steps.
    radius: pixels around that are looked at.

  Returns:
    coords: [H, W, 2] float32 surface coordinates, finite, within the grid; of sample 0 where nothing is near.
    is_met: [H, W] bool: the surface is seen there.
  """
  pixels = jnp.nan_to_num(pixels, posinf=_FAR, neginf=-_FAR)
  own, own_miss = _refine(pixels, sample, num_steps)
  near, near_miss = _refine(pixels, _nearest_around(sample, z_nearest, radius), num_steps)
  attributes = jnp.stack([jnp.clip(jnp.nan_to_num(z), -_FAR, _FAR), is_valid.astype(jnp.float32)], axis=-1)
  (own_z, own_valid), (near_z, near_valid) = (jnp.moveaxis(read_surface(attributes, c)[0], -1, 0) for c in (own, near))
  near_met = (near_miss < _ARRIVED) & (near_valid > 0.5)
  own_met = (own_miss < _ARRIVED) & (own_valid > 0.5)
  take_near = near_met & (~own_met | (near_z < own_z))
  # A sample whose pixel no start reached (a fold's edge) still counts.
  fallback = (sample >= 0) & ~own_met & ~near_met
  height, width = pixels.shape[:2]
  seed = jnp.stack([jnp.maximum(sample, 0) % width, jnp.maximum(sample, 0) // width], -1).astype(jnp.float32)
  coords = jnp.where(take_near[..., None], near, jnp.where(own_met[..., None], own, seed))
  return coords, own_met | near_met | fallback


def is_visible(pixels: jax.Array, z: jax.Array, z_nearest: jax.Array, tolerance: jax.Array | float) -> jax.Array:
  """Whether points are seen in a picture or hidden behind something nearer. [...] bool; outside the picture: seen.

  Args:
    pixels: [..., 2] float32, where the points would be seen; z: [...] float32 their depth.
    z_nearest: [H, W] float32, the picture's z-buffer.
    tolerance: by how much the z-buffer may be nearer, in its units: the surface's own slope within a pixel.
  """
  height, width = z_nearest.shape
  base = jnp.floor(jnp.nan_to_num(pixels))
  column = jnp.clip(base[..., 0], 0, width - 1).astype(jnp.int32)
  row = jnp.clip(base[..., 1], 0, height - 1).astype(jnp.int32)
  right, below = jnp.minimum(column + 1, width - 1), jnp.minimum(row + 1, height - 1)
  around = jnp.stack([z_nearest[row, column], z_nearest[row, right], z_nearest[below, column], z_nearest[below, right]])
  return z <= jnp.max(around, axis=0) + tolerance


def _derivatives(pixels):
  """d/dx and d/dy of `pixels` over the surface's samples, central differences: [h, w, 2] each."""
  return jnp.gradient(pixels, axis=1), jnp.gradient(pixels, axis=0)


def _cross(a, b):
  return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def is_facing(pixels: jax.Array) -> jax.Array:
  """Which samples show their front: [h, w] bool; past a fold the surface is seen from behind."""
  return _cross(*_derivatives(pixels)) > 0


def stretch(pixels_from: jax.Array, pixels_to: jax.Array) -> jax.Array:
  """How much longer the surface appears in one picture than in another, in the worst direction: [h, w] float32 ≥ 0.

  The largest singular value of d(pixels_to)/d(pixels_from), by central differences over the samples.
  """
  (ax, ay), (bx, by) = _derivatives(pixels_from), _derivatives(pixels_to)
  determinant = _cross(ax, ay)
  inverse = 1 / jnp.where(jnp.abs(determinant) > 1e-3, determinant, 1e-3)
  # J = [bx by] · [ax ay]⁻¹, columns for d/dx and d/dy of the first picture.
  first = (bx * ay[..., 1:] - by * ax[..., 1:]) * inverse[..., None]
  second = (by * ax[..., :1] - bx * ay[..., :1]) * inverse[..., None]
  total = jnp.sum(first**2 + second**2, axis=-1)
  product = _cross(first, second)
  return jnp.sqrt(0.5 * (total + jnp.sqrt(jnp.maximum(total**2 - 4 * product**2, 0.0))))
