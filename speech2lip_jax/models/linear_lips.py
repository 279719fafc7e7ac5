"""Lips by ridge regression from speech: being linear it knows less than the networks, and errs less in voices it never heard.

Its weights are fitted in closed form when training begins (`training.linear`) and stay. The networks learn by themselves; what is
rendered is a mixture of both (`config.linear.share`).
"""
import flax.linen as nn
import jax
import jax.numpy as jnp


def joined_steps(audio_feat: jax.Array) -> jax.Array:
  """Windows [B, T, C] → means of two neighbouring steps, flat: [B, T / 2 · C]."""
  batch, num_steps, num_channels = audio_feat.shape
  return audio_feat.reshape(batch, num_steps // 2, 2, num_channels).mean(2).reshape(batch, -1)


class LinearLips(nn.Module):
  """Attributes: num_components (K) of the lips. num_pixels (P): height × width of the lip box."""
  num_components: int
  num_pixels: int

  def setup(self):
    self.regression = nn.Dense(self.num_components, kernel_init=nn.initializers.zeros_init())
    self.components = self.param('components', nn.initializers.zeros_init(), (self.num_components, self.num_pixels, 3))

  def codes(self, audio_feat: jax.Array) -> jax.Array:
    """How much of each component the speech in audio_feat [B, T, C] asks for: [B, K]."""
    return jax.lax.stop_gradient(self.regression(joined_steps(audio_feat)))

  def paint(self, codes: jax.Array, pixels: jax.Array) -> jax.Array:
    """What codes [B, K] add to the mean lips at pixels [n] (index row · width + column): [B, n, 3]."""
    return jnp.einsum('bk,knc->bnc', codes, jax.lax.stop_gradient(self.components)[:, pixels])


class LipOpening(nn.Module):
  """How far lips are open, and the direction in which they open. Its unit is the standard deviation of the true openings.

  Regression errs to the mean, so lips mumble; along this one direction rendering lets them out again (`rendering.articulation`).
  Its weights are fitted when training begins; zeros, which measure and change nothing, where a subject has no landmarks.

  Attributes:
    num_pixels: P, height × width of the lip box.
  """
  num_pixels: int

  def setup(self):
    self.probe, self.direction = (self.param(name, nn.initializers.zeros_init(), (self.num_pixels, 3))
                                  for name in ('probe', 'direction'))

  def measure(self, difference: jax.Array) -> jax.Array:
    """The openings [B] of lips with this difference to the mean lips [B, P, 3]."""
    return jnp.einsum('bpc,pc->b', difference, jax.lax.stop_gradient(self.probe))

  def colours(self, opening: jax.Array) -> jax.Array:
    """What lips that are so much further open [B] have more of: [B, P, 3]."""
    return opening[:, None, None] * jax.lax.stop_gradient(self.direction)
