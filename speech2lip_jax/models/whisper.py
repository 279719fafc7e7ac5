"""Whisper's encoder (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision"), or its first layers.

Weights come as {name: array} in the names and layouts of `openai/whisper-*` without the prefix `model.encoder.`, so that the packed
asset and a folder of safetensors are read alike.
"""
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LAYER_NORM_EPSILON = 1e-5


class EncoderLayer(nn.Module):
  """Self-attention over all steps and a feed-forward network, each after a layer norm and added to what came in.

  Attributes:
    num_heads: heads of the attention.
    num_hidden: units of the feed-forward network.
  """
  num_heads: int
  num_hidden: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, T, D] → [B, T, D] float32."""
    batch, num_steps, num_channels = x.shape
    split = lambda y: y.reshape(batch, num_steps, self.num_heads, num_channels // self.num_heads)
    h = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='self_attn_layer_norm')(x)
    query = split(nn.Dense(num_channels, name='q_proj')(h))
    key = split(nn.Dense(num_channels, use_bias=False, name='k_proj')(h))
    value = split(nn.Dense(num_channels, name='v_proj')(h))
    attended = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
    x = x + nn.Dense(num_channels, name='out_proj')(attended)
    h = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='final_layer_norm')(x)
    h = nn.gelu(nn.Dense(self.num_hidden, name='fc1')(h), approximate=False)
    return x + nn.Dense(num_channels, name='fc2')(h)


class WhisperEncoder(nn.Module):
  """Attributes: num_channels (D), num_heads, num_hidden, num_layers, max_steps (a window's length), final_norm (the layer norm
  behind the last layer of a whole encoder)."""
  num_channels: int
  num_heads: int
  num_hidden: int
  num_layers: int
  max_steps: int
  final_norm: bool = False

  @nn.compact
  def __call__(self, mel: jax.Array) -> jax.Array:
    """Hidden states [B, T, D] float32, 50 a second. mel: [B, 2·T, bands] Whisper's log-mel, 100 steps a second, T ≤ max_steps."""
    x = nn.gelu(nn.Conv(self.num_channels, (3,), padding=1, name='conv1')(mel), approximate=False)
    x = nn.gelu(nn.Conv(self.num_channels, (3,), strides=2, padding=1, name='conv2')(x), approximate=False)
    positions = self.param('embed_positions', nn.initializers.zeros_init(), (self.max_steps, self.num_channels))
    x = x + positions[:x.shape[1]]
    for i in range(self.num_layers):
      x = EncoderLayer(self.num_heads, self.num_hidden, name=f'layers_{i}')(x)
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='layer_norm')(x) if self.final_norm else x


def encoder_variables(weights: Mapping[str, np.ndarray], num_layers: int, final_norm: bool = False) -> dict[str, Any]:
  """Flax variables of the first `num_layers` layers.

  Args:
    weights: 'conv1.weight' [D, bands, 3], 'layers.0.fc1.weight' [out, in], 'embed_positions.weight' [max_steps, D], …

  Raises:
    KeyError: a weight is not there.
  """
  dense = lambda name: {'kernel': weights[f'{name}.weight'].T} | (
      {'bias': weights[f'{name}.bias']} if not name.endswith('k_proj') else {})
  conv = lambda name: {'kernel': weights[f'{name}.weight'].transpose(2, 1, 0), 'bias': weights[f'{name}.bias']}
  norm = lambda name: {'scale': weights[f'{name}.weight'], 'bias': weights[f'{name}.bias']}
  params: dict[str, Any] = {'conv1': conv('conv1'), 'conv2': conv('conv2'), 'embed_positions': weights['embed_positions.weight']}
  for i in range(num_layers):
    at = f'layers.{i}.'
    params[f'layers_{i}'] = {
        **{name: dense(f'{at}self_attn.{name}') for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj')},
        **{name: dense(at + name) for name in ('fc1', 'fc2')},
        **{name: norm(at + name) for name in ('self_attn_layer_norm', 'final_layer_norm')}}
  if final_norm:
    params['layer_norm'] = norm('layer_norm')
  return {'params': jax.tree.map(jnp.asarray, params)}
