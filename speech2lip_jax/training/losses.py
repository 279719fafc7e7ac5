"""Loss terms (Eq. 6–9). Images [..., 3] float32 in 0 … 1; every term is a scalar mean, lower is better."""
import jax
import jax.numpy as jnp


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """L2 of two arrays of one shape."""
  return jnp.mean(jnp.square(prediction - target))


def masked_mean_squared_error(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
  """L2 over the pixels where mask is 1; mask broadcasts against the images (reference program's depth term, Eq. 9)."""
  mask = jnp.broadcast_to(mask, prediction.shape)
  return jnp.sum(jnp.square(prediction - target) * mask) / (jnp.sum(mask) + 1e-6)


def _halved(rgb):
  """[B, h, w, 3] → means of 2×2 blocks; an odd last row or column is dropped."""
  batch, height, width, channels = rgb.shape
  rgb = rgb[:, :height // 2 * 2, :width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
  return rgb.mean((2, 4))


def edge_distance(prediction: jax.Array, target: jax.Array, num_scales: int = 3) -> jax.Array:
  """A perceptual term without weights: L1 of horizontal and vertical differences of neighbours, at halved sizes too.

  Blurred teeth cost more here than in L2, and a little light less.

  Args:
    prediction, target: [B, h, w, 3], h and w at least 2 ** num_scales.
  """
  total = 0.0
  for scale in range(num_scales):
    if scale:
      prediction, target = _halved(prediction), _halved(target)
    difference = prediction - target
    total += jnp.mean(jnp.abs(jnp.diff(difference, axis=1))) + jnp.mean(jnp.abs(jnp.diff(difference, axis=2)))
  return total / num_scales
