"""LPIPS: how differently two pictures look (Zhang et al., CVPR 2018), and its shift-tolerant form (Ghildyal & Liu, ECCV 2022).

Frozen; NHWC, RGB. `TRUNKS` names the networks: LPIPS v0.1 with AlexNet, and ST-LPIPS with AlexNet and VGG-16. Their weights are
made by `speech2lip convert --kind lpips` and never trained; those of ST-LPIPS with AlexNet are in the package too.
"""
import dataclasses
import functools
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from speech2lip_jax.common import weights

ASSET = 'st_lpips_alex.npz'
OWN = 'own'  # as a path: the package's own weights
SHIFT = (-0.030, -0.088, -0.188)  # Mean and spread of the trunks' training pictures, channels RGB, −1..1.
SCALE = (0.458, 0.448, 0.450)
MIN_SIZE = 31  # Pixels; a smaller side leaves the second pooling nothing.


class Layer(NamedTuple):
  """One convolution of a trunk, followed by ReLU. pool: side of the max pooling, stride 2, before it; 0: none.

  compared: whether its features of the two pictures are.
  """
  num_outputs: int
  kernel: int = 3
  stride: int = 1
  padding: int = 1
  pool: int = 0
  compared: bool = True


class Trunk(NamedTuple):
  """The layers of a network. shift_tolerant: whatever has stride 2 has stride 1 instead, and a blur that halves follows."""
  layers: tuple[Layer, ...]
  shift_tolerant: bool


_AFTER_FIRST = (Layer(192, 5, padding=2, pool=3), Layer(384, pool=3), Layer(256), Layer(256))
_VGG = (*(Layer(width, pool=2 * (i == 0 and width > 64), compared=i == last)
          for width, last in ((64, 1), (128, 1), (256, 2), (512, 2)) for i in range(last + 1)),
        Layer(512, pool=2, compared=False), Layer(512, compared=False), Layer(512))
TRUNKS = {'alex': Trunk((Layer(64, 11, 4, 2), *_AFTER_FIRST), False),
          'st_alex': Trunk((Layer(64, 11, 2, 2), *_AFTER_FIRST), True),
          'st_vgg': Trunk(_VGG, True)}
TITLES = {'alex': 'LPIPS v0.1 (AlexNet)', 'st_alex': 'ST-LPIPS (AlexNet)', 'st_vgg': 'ST-LPIPS (VGG)'}


def max_pool(x: jax.Array, side: int = 3, stride: int = 2) -> jax.Array:
  """Largest of each side×side block: [B, (H − side) // stride + 1, …, C]; of equals the first in reading order counts.

  By comparing and selecting, as Blend-Net's, for the same reasons.
  """
  for axis in (2, 1):
    last = stride * ((x.shape[axis] - side) // stride) + 1  # One past the start of the last block.
    first, *others = (jax.lax.slice_in_dim(x, start, start + last, stride, axis) for start in range(side))
    x = first
    for other in others:
      x = jnp.where(x >= other, x, other)
  return x


def blur_and_halve(x: jax.Array) -> jax.Array:
  """Every second of x [B, H, W, C], mirrored by two at its borders, under (1, 2, 1) / 4 both ways: [B, (H + 1) // 2 + 1, …, C]."""
  x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), 'reflect')
  for axis in (2, 1):
    last = x.shape[axis] - 2
    first, second, third = (jax.lax.slice_in_dim(x, start, start + last, 2, axis) for start in range(3))
    x = 0.25 * (first + third) + 0.5 * second
  return x


def _unit(features):
  """Features of length 1 at every pixel; where all are 0 they stay so, with a gradient of 0 (the root has none there)."""
  square = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
  present = square > 0
  length = jnp.sqrt(jnp.where(present, square, 1.0))
  return jnp.where(present, features / (length + 1e-10), 0.0)


class Lpips(nn.Module):
  """The distance; with AlexNet 2,470,854 parameters, the normalisation of the input included, which the weights bring along.

  Attributes:
    trunk: name in `TRUNKS`.
  """
  trunk: str = 'alex'

  def setup(self):
    layers, shift_tolerant = TRUNKS[self.trunk]
    self.shift = self.param('shift', lambda key: jnp.array(SHIFT, jnp.float32))
    self.scale = self.param('scale', lambda key: jnp.array(SCALE, jnp.float32))
    self.convs = [nn.Conv(layer.num_outputs, (layer.kernel,) * 2, 1 if shift_tolerant else layer.stride, layer.padding,
                          kernel_init=nn.initializers.he_normal(), name=f'conv_{i}') for i, layer in enumerate(layers)]
    self.lins = [self.param(f'lin_{i}', nn.initializers.constant(1 / layer.num_outputs), (layer.num_outputs,))
                 for i, layer in enumerate(layer for layer in layers if layer.compared)]

  def _features(self, rgb):
    layers, shift_tolerant = TRUNKS[self.trunk]
    features = []
    x = (2.0 * rgb - 1.0 - self.shift) / self.scale
    for layer, conv in zip(layers, self.convs):
      if layer.pool:
        x = blur_and_halve(max_pool(x, layer.pool, 1)) if shift_tolerant else max_pool(x, layer.pool)
      x = conv(x)
      x = nn.relu(blur_and_halve(x) if shift_tolerant and layer.stride == 2 else x)
      if layer.compared:
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


@functools.partial(jax.tree_util.register_dataclass, data_fields=['variables'], meta_fields=['trunk'])
@dataclasses.dataclass(frozen=True)
class Perceptual:
  """A trunk's name and the variables of its `Lpips`: a pytree of the variables."""
  trunk: str
  variables: Any

  def __call__(self, rgb_0: jax.Array, rgb_1: jax.Array) -> jax.Array:
    """The distance [B] of `Lpips`."""
    return Lpips(self.trunk).apply(self.variables, rgb_0, rgb_1)[0]

  @property
  def title(self) -> str:
    """As tables and messages call it."""
    return TITLES[self.trunk]


def load_lpips(path: os.PathLike | str) -> Perceptual:
  """A perceptual distance, float32.

  Args:
    path: FILE.npz of `speech2lip convert --kind lpips`, or `OWN`: ST-LPIPS with AlexNet, which the package brings.

  Raises:
    InputError: no such file, or not these weights.
  """
  if path == OWN:
    return Perceptual('st_alex', traverse_util.unflatten_dict(weights.load_asset(ASSET), sep='/'))
  remedy = 'make it by speech2lip convert --kind lpips'
  tree = weights.load_tree(path, remedy)
  trunk = next((name for name in TRUNKS if name in tree), 'alex')
  variables = tree.get(trunk, tree)
  weights.check_for(Lpips(trunk), variables, path, remedy, *weights.shapes_of((1, MIN_SIZE, MIN_SIZE, 3)) * 2)
  return Perceptual(trunk, variables)


def save_lpips(path: os.PathLike | str, trunk: str, variables: weights.Tree) -> None:
  """Writes what `load_lpips` reads: the variables under the trunk's name, LPIPS v0.1's without."""
  weights.save_tree(path, variables if trunk == 'alex' else {trunk: variables})
