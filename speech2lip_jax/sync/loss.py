"""The contrastive sync loss (Eq. 6)."""
import jax
import jax.numpy as jnp


def sync_loss(mouth: jax.Array, speech: jax.Array, negative_weight: float) -> jax.Array:
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
