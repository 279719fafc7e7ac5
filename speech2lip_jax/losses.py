"""Loss terms (Eq. 7–9). Images [..., 3] float32 in 0 … 1; every term is a scalar mean, lower is better."""
import jax
import jax.numpy as jnp


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """L2 of two arrays of one shape."""
  return jnp.mean(jnp.square(prediction - target))


def masked_mean_squared_error(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
  """L2 over the pixels where mask is 1; mask broadcasts against the images (reference program's depth term, Eq. 9)."""
  mask = jnp.broadcast_to(mask, prediction.shape)
  return jnp.sum(jnp.square(prediction - target) * mask) / (jnp.sum(mask) + 1e-6)
