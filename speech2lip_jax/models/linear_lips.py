"""Lips that a ridge regression hears: linear in speech, so it knows less than the networks and errs less in voices it never heard.

Its weights are fitted in closed form when training begins (`training.linear`) and stay; the networks learn by themselves, and what is
rendered is a mixture of both (`config.linear.share`).
"""
import flax.linen as nn
import jax
import jax.numpy as jnp


class LinearLips(nn.Module):
  """Attributes: num_components (K) of the lips; num_pixels (P), height × width of the lip box; num_steps (T) and num_channels (C) of a
  window."""
  num_components: int
  num_pixels: int
  num_steps: int
  num_channels: int

  def setup(self):
    zeros = nn.initializers.zeros_init()
    self.kernel = self.param('kernel', zeros, (self.num_steps * self.num_channels, self.num_components))
    self.bias = self.param('bias', zeros, (self.num_components,))
    self.components = self.param('components', zeros, (self.num_components, self.num_pixels, 3))

  def codes(self, audio_feat: jax.Array) -> jax.Array:
    """What the speech in audio_feat [B, T, C] says of the lips' components: [B, K]."""
    return audio_feat.reshape(len(audio_feat), -1) @ self.kernel + self.bias

  def paint(self, codes: jax.Array, pixels: jax.Array) -> jax.Array:
    """The difference to the mean lips at pixels [n] (row · width + column) of codes [B, K]: [B, n, 3]."""
    return jnp.einsum('bk,kpc->bpc', codes, self.components[:, pixels])
