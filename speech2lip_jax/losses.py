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


def contrastive_sync(mouth: jax.Array, speech: jax.Array, negative_weight: float) -> jax.Array:
  """y (1 − cos) + (1 − y) max(0, cos) between generated mouths and speech (Eq. 6).

  Positives (y = 1) are mouths with the speech they were generated from; negatives are the same mouths with speech of other
  times of their clip and with the speech of the batch's other mouths. A negative that sounds like the positive is none: it
  counts by 1 − cos of the two speeches.

  Args:
    mouth: [V, E] unit vectors of generated mouth windows.
    speech: [V, 1 + K, E] unit vectors: a window's own speech first, then that of K other times.
    negative_weight: of the negatives' mean against the positives'; 0 leaves them out.
  """
  own = speech[:, 0]
  positive = 1 - jnp.sum(mouth * own, -1)
  count = len(mouth)
  others = jnp.concatenate([speech[:, 1:], jnp.broadcast_to(own, (count, *own.shape))], 1)  # [V, K + V, E]
  is_other = jnp.concatenate([jnp.ones((count, speech.shape[1] - 1)), 1 - jnp.eye(count)], 1)
  differs = is_other * jnp.clip(1 - jnp.einsum('ve,vke->vk', own, others), 0, 1)
  negative = differs * jnp.maximum(0, jnp.einsum('ve,vke->vk', mouth, others))
  return jnp.mean(positive) + negative_weight * jnp.sum(negative) / jnp.maximum(jnp.sum(is_other), 1)


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
