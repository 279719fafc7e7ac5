"""Blend-Net: the U-Net that removes the seam between pasted lips and frame (layers of the released program). NHWC."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

RECEPTIVE_MARGIN = 28  # pixels; what lies further away does not touch a pixel of Blend-Net's picture (without align_corners)


class BatchNorm(nn.Module):
  """Batch normalisation with torch's conventions: biased variance to normalise, unbiased into the running variance.

  Variables 'batch_stats': mean, var [C].

  Attributes:
    axis_name: pmap axis over which the statistics are taken too, so that N devices give those of one device with the
      whole batch.
    momentum: share of the new batch in the running statistics.
    epsilon: added to the variance.
  """
  axis_name: str | None = None
  momentum: float = 0.1
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns x [B, H, W, C] normalised by the batch's statistics where `train`, otherwise by the running ones."""
    num_channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones_init(), (num_channels,))
    bias = self.param('bias', nn.initializers.zeros_init(), (num_channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (num_channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (num_channels,))
    if not train:
      gain = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
      return x * gain + (bias - running_mean.value * gain)

    across = self.axis_name is not None and not self.is_initializing()
    average = (lambda value: jax.lax.pmean(value, self.axis_name)) if across else (lambda value: value)
    # The mean of the devices' means first, then squares about it: E[x²] − E[x]² would lose the variance to rounding.
    mean = average(jnp.mean(x, axis=(0, 1, 2)))
    centred = x - mean
    variance = average(jnp.mean(jnp.square(centred), axis=(0, 1, 2)))
    if not self.is_initializing():
      count = x.size // num_channels * (jax.lax.axis_size(self.axis_name) if across else 1)
      unbiased = variance * (count / max(count - 1, 1))
      running_mean.value += self.momentum * (mean - running_mean.value)
      running_var.value += self.momentum * (unbiased - running_var.value)
    return centred * (scale * jax.lax.rsqrt(variance + self.epsilon)) + bias


def max_pool(x: jax.Array) -> jax.Array:
  """Largest of each 2×2 block, [B, H // 2, W // 2, C]; an odd last row or column is dropped; of equals the first
  counts.

  By comparing and selecting. XLA's windowed pooling has a gradient that is slow on a CPU, and that of `jnp.max` asks
  which entry *equals* the maximum: compiled code may recompute the entries with other roundings, find none, and lose
  the gradient.
  """
  batch, height, width, channels = x.shape
  blocks = x[:, :height // 2 * 2, :width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
  rows = jnp.where(blocks[:, :, :, :, 0] >= blocks[:, :, :, :, 1], blocks[:, :, :, :, 0], blocks[:, :, :, :, 1])
  return jnp.where(rows[:, :, 0] >= rows[:, :, 1], rows[:, :, 0], rows[:, :, 1])


def _double(x, axis, align_corners):
  """Linear interpolation to twice the length along one axis: two shifted sums, no gather.

  Output 2i lies before input i and output 2i + 1 after it: by a quarter of a step each, or, where both ends are kept
  (align_corners), by i/(2n − 1) and (n − 1 − i)/(2n − 1).
  """
  size = x.shape[axis]
  shape = [1] * x.ndim
  shape[axis] = size
  before = np.arange(size, dtype=np.float32) / (2 * size - 1) if align_corners else np.full(size, 0.25, np.float32)
  before = before.reshape(shape)
  after = before[(slice(None),) * axis + (slice(None, None, -1),)]
  part = lambda start, stop: jax.lax.slice_in_dim(x, start, stop, axis=axis)
  previous = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
  following = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
  pair = jnp.stack([x + before * (previous - x), x + after * (following - x)], axis=axis + 1)
  return pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1:])


def upsample(x: jax.Array, align_corners: bool) -> jax.Array:
  """Bilinear ×2 of [B, H, W, C]: [B, 2H, 2W, C], with torch's two conventions about the ends."""
  return _double(_double(x, 1, align_corners), 2, align_corners)


class DoubleConv(nn.Module):
  """Twice 3×3 convolution without bias, BatchNorm, ReLU."""
  num_middle: int
  num_outputs: int
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    for i, width in enumerate((self.num_middle, self.num_outputs)):
      x = nn.Conv(width, (3, 3), padding=1, use_bias=False, kernel_init=nn.initializers.he_normal(),
                  name=f'conv_{i}')(x)
      x = nn.relu(BatchNorm(self.axis_name, name=f'norm_{i}')(x, train))
    return x


class BlendNet(nn.Module):
  """U-Net of `width`, 2 `width` and 2 `width` channels; 1,036,035 parameters at the released program's 64.

  Attributes:
    width: channels at full size.
    align_corners: how it doubles (released program: True). Without, what it does to a pixel depends on the pixels around
      it alone, up to `RECEPTIVE_MARGIN`, and not on where the picture ends.
    residual: the result is added to the input (paper), starting at exactly the input; otherwise it is the image
      (released program).
    axis_name: see `BatchNorm`.
  """
  width: int = 64
  residual: bool = True
  align_corners: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, rgb: jax.Array, train: bool = False) -> jax.Array:
    """Returns the refined image, [B, H, W, 3] float32, not clamped.

    Args:
      rgb: [B, H, W, 3] float32 0..1, any size from 4×4; edges that are not multiples of 4 are zero-padded inside.
      train: use and update the batch's statistics ('batch_stats' must then be mutable).
    """
    def block(num_middle, num_outputs, name):
      return DoubleConv(num_middle, num_outputs, self.axis_name, name=name)

    width = self.width
    fine = block(width, width, 'inc')(rgb, train)
    middle = block(2 * width, 2 * width, 'down_1')(max_pool(fine), train)
    h = block(2 * width, 2 * width, 'down_2')(max_pool(middle), train)
    for name, skip, num_middle, num_outputs in (('up_1', middle, 2 * width, width), ('up_2', fine, width, width)):
      h = upsample(h, self.align_corners)
      rows, columns = skip.shape[1] - h.shape[1], skip.shape[2] - h.shape[2]
      h = jnp.pad(h, ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)))
      h = block(num_middle, num_outputs, name)(jnp.concatenate([skip, h], axis=-1), train)
    kernel_init = nn.initializers.zeros_init() if self.residual else nn.initializers.lecun_normal()
    out = nn.Dense(3, kernel_init=kernel_init, name='out')(h)
    return rgb + out if self.residual else out
