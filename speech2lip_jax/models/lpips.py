"""LPIPS v0.1 with the AlexNet trunk: how differently two pictures look (Zhang et al., CVPR 2018). Frozen; NHWC, RGB.

Its weights are made by `speech2lip convert --kind lpips` and never trained: variables {'params': …} only.
"""
import os
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from speech2lip_jax.common.weights import Tree, load_for, shapes_of


def load_lpips(path: os.PathLike | str) -> Tree:
  """Variables of `Lpips`, float32.

  Args:
    path: FILE.npz of `speech2lip convert --kind lpips`.

  Raises:
    InputError: no such file, or not these weights.
  """
  return load_for(Lpips(), path, 'make it by speech2lip convert --kind lpips', *shapes_of((1, MIN_SIZE, MIN_SIZE, 3)) * 2)


SHIFT = (-0.030, -0.088, -0.188)  # Mean and spread of the trunk's training pictures, channels RGB, −1..1.
SCALE = (0.458, 0.448, 0.450)
MIN_SIZE = 31  # Pixels; a smaller side leaves the second pooling nothing.


class Layer(NamedTuple):
  """One convolution of the trunk, each followed by ReLU and compared."""
  num_outputs: int
  kernel: int
  stride: int
  padding: int
  pooled: bool  # The largest of 3×3, stride 2, is taken before it.


LAYERS = (Layer(64, 11, 4, 2, False), Layer(192, 5, 1, 2, True), Layer(384, 3, 1, 1, True), Layer(256, 3, 1, 1, False),
          Layer(256, 3, 1, 1, False))


def max_pool(x: jax.Array) -> jax.Array:
  """Largest of each 3×3 block, stride 2: [B, (H − 1) // 2, (W − 1) // 2, C]; of equals the first in reading order counts.

  By comparing and selecting, as Blend-Net's, for the same reasons.
  """
  for axis in (2, 1):
    last = 2 * ((x.shape[axis] - 1) // 2) - 1  # One past the start of the last block.
    first, second, third = (jax.lax.slice_in_dim(x, start, start + last, 2, axis) for start in range(3))
    x = jnp.where(first >= second, first, second)
    x = jnp.where(x >= third, x, third)
  return x


def _unit(features):
  """Features of length 1 at every pixel; where all are 0 they stay so, with a gradient of 0 (the root has none there)."""
  square = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
  present = square > 0
  length = jnp.sqrt(jnp.where(present, square, 1.0))
  return jnp.where(present, features / (length + 1e-10), 0.0)


class Lpips(nn.Module):
  """The distance. 2,470,854 parameters with the normalisation of the input, which the weights bring along."""

  def setup(self):
    self.shift = self.param('shift', lambda key: jnp.array(SHIFT, jnp.float32))
    self.scale = self.param('scale', lambda key: jnp.array(SCALE, jnp.float32))
    self.convs = [nn.Conv(layer.num_outputs, (layer.kernel,) * 2, layer.stride, layer.padding,
                          kernel_init=nn.initializers.he_normal(), name=f'conv_{i}') for i, layer in enumerate(LAYERS)]
    self.lins = [self.param(f'lin_{i}', nn.initializers.constant(1 / layer.num_outputs), (layer.num_outputs,))
                 for i, layer in enumerate(LAYERS)]

  def _features(self, rgb):
    features = []
    x = (2.0 * rgb - 1.0 - self.shift) / self.scale
    for layer, conv in zip(LAYERS, self.convs):
      x = nn.relu(conv(max_pool(x) if layer.pooled else x))
      features.append(x)
    return features

  def __call__(self, rgb_0: jax.Array, rgb_1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the distance [B] and its five layers' shares [B, 5], float32, 0 for equal pictures.

    Args:
      rgb_0: [B, H, W, 3] float32 RGB 0..1, at least 31×31.
      rgb_1: the same; the distance is symmetric.

    Raises:
      ValueError: the pictures are too small, or of two sizes.
    """
    if rgb_0.shape != rgb_1.shape or rgb_0.ndim != 4 or rgb_0.shape[-1] != 3:
      raise ValueError(f'LPIPS compares two [B, H, W, 3] of one shape, got {rgb_0.shape} and {rgb_1.shape}')
    if min(rgb_0.shape[1:3]) < MIN_SIZE:
      raise ValueError(f'LPIPS needs pictures of at least {MIN_SIZE}×{MIN_SIZE} pixels, got {rgb_0.shape[1]}×{rgb_0.shape[2]}')
    # Apart and not as one batch: the gradient of one picture then costs no pass back through the other.
    shares = [jnp.mean(jnp.sum(lin * jnp.square(_unit(x) - _unit(y)), axis=-1), axis=(1, 2))
              for lin, x, y in zip(self.lins, self._features(rgb_0), self._features(rgb_1))]
    per_layer = jnp.stack(shares, axis=-1)
    return jnp.sum(per_layer, axis=-1), per_layer
