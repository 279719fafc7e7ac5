"""Reading images at continuous places. One image at a time ([H, W, C] float32; callers vmap).

Coordinates are [..., 2] (x, y), in pixels with pixel centres at integers unless a name says `grid`; a grid is −1..1 from edge to
edge of the image (align_corners=False).
"""
import jax
import jax.numpy as jnp
import numpy as np


def pixels_from_grid(grid: jax.Array, height: int, width: int) -> jax.Array:
  """Pixel coords [..., 2] of the released program's grid coords [..., 2]: x = ((gx + 1)·W − 1)/2."""
  return ((grid + 1) * jnp.array([width, height], jnp.float32) - 1) / 2


def grid_from_pixels(coords: jax.Array, height: int, width: int) -> jax.Array:
  """Released-program grid coords [..., 2] of pixel coords [..., 2]; the inverse of `pixels_from_grid`."""
  return (2 * coords + 1) / jnp.array([width, height], jnp.float32) - 1


def _bilinear_taps(fraction):
  return jnp.stack([1 - fraction, fraction])


def _bicubic_taps(fraction):
  """Keys' cubic convolution with a = −1/2 (Catmull-Rom): third-order exact, and the identity at pixel centres."""
  t, s = fraction, 1 - fraction
  return jnp.stack([-0.5 * t * s * s, 1 - t * t * (2.5 - 1.5 * t), 1 - s * s * (2.5 - 1.5 * s), -0.5 * s * t * t])


def _bspline_taps(fraction):
  """Cubic B-spline: reads what `spline_coefficients` made, exactly at pixel centres, with the least blur between."""
  t, s = fraction, 1 - fraction
  return jnp.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3]) / 6


_TAPS = {'bilinear': (0, _bilinear_taps), 'bicubic': (-1, _bicubic_taps), 'bspline': (-1, _bspline_taps)}


def spline_coefficients(image: jax.Array) -> jax.Array:
  """Cubic B-spline coefficients [H, W, C] of an image [H, W, C], its border carried on.

  `sample_image(spline_coefficients(image), coords, 'bspline', 'border')` interpolates the image. Two small matrix
  products, H × H and W × W: meant for lip images, not for frames.
  """
  def inverse(size):
    taps = np.diag(np.full(size, 4.0)) + np.eye(size, k=1) + np.eye(size, k=-1)
    taps[0, 0] += 1  # the neighbours beyond the ends are the ends themselves
    taps[-1, -1] += 1
    return jnp.asarray(np.linalg.inv(taps / 6), jnp.float32)
  height, width, _ = image.shape
  return jnp.einsum('ij,kl,jlc->ikc', inverse(height), inverse(width), image, precision='highest')


def sample_image(image: jax.Array, coords: jax.Array, method: str = 'bilinear', outside: str = 'zero') -> jax.Array:
  """Reads an image at continuous places; differentiable in image and coords.

  Args:
    image: [H, W, C] float32.
    coords: [..., 2] float32 (x, y) pixels. Any value is safe: infinities are outside, NaN counts as far left or above.
    method: 'bilinear', 'bicubic' (Catmull-Rom) or 'bspline' (of `spline_coefficients`); the cubic ones may leave the
      image's range by an overshoot.
    outside: 'zero': each tap outside the image counts 0, as torch's grid_sample does it; 'border': as its nearest
    pixel.

  Returns:
    [..., C] float32.
  """
  if outside not in ('zero', 'border'):
    raise ValueError(f"outside={outside!r}: must be 'zero' or 'border'")
  height, width, channels = image.shape
  first, taps = _TAPS[method]
  flat = jnp.asarray(image).reshape(height * width, channels)

  def axis(position, size):
    """Clamped tap indices and weights, [taps, ...] each, along one axis."""
    if outside == 'border' and method == 'bilinear':
      position = jax.lax.clamp(0.0, position, size - 1.0)  # Gradient 0 at and beyond the border, as in torch.
    else:
      position = jax.lax.clamp(-3.0, position, size + 2.0)  # No tap inside from here on.
    position = jnp.where(jnp.isnan(position), 0.0 if outside == 'border' else -3.0, position)
    base = jnp.floor(position)
    weights = taps(position - base)
    offsets = jnp.arange(first, first + len(weights)).reshape(-1, *[1] * base.ndim)
    index = base.astype(jnp.int32) + offsets
    if outside == 'zero':
      weights = weights * ((index >= 0) & (index < size))
    return jnp.clip(index, 0, size - 1), weights

  columns, weights_x = axis(coords[..., 0], width)
  rows, weights_y = axis(coords[..., 1], height)
  # One gather of all taps: XLA takes minutes to compile a chain of sixteen and their gradient.
  values = flat.at[rows[:, None] * width + columns].get(mode='promise_in_bounds')
  return jnp.sum(values * (weights_y[:, None] * weights_x)[..., None], axis=(0, 1))


def _pixel_grid(height, width):
  x, y = jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32))
  return jnp.stack([x, y], axis=-1)


def blur(image: jax.Array, share: float | jax.Array) -> jax.Array:
  """Images [B, H, W, C] in which each pixel gets `share` from either neighbour, both ways; beyond a border its pixels go on."""
  blurred = image
  for axis in (1, 2):
    size = image.shape[axis]
    padded = jnp.pad(blurred, [(int(i == axis),) * 2 for i in range(4)], 'edge')
    before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
    blurred = (1 - 2 * share) * blurred + share * (before + after)
  return blurred


def fine_detail(image: jax.Array) -> jax.Array:
  """What a blur of half a pixel, (1, 6, 1) / 8 both ways, takes from images [B, H, W, C]."""
  return image - blur(image, 0.125)
