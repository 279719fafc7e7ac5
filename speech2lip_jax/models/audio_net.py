"""A window of audio features → one vector: AudioNet of the released program, and a residual network of longer windows."""
import flax.linen as nn
import jax


class AudioNet(nn.Module):
  """Strided convolutions until one time step is left, then two dense layers.

  Each convolution (kernel 3, stride 2, padding 1) halves the window: 16 steps take the released program's four, of 32,
  32, 64, 64 channels; every doubling of the window adds one of 64.

  Attributes:
    num_features: length of the result.
  """
  num_features: int = 64

  @nn.compact
  def __call__(self, audio_feat: jax.Array) -> jax.Array:
    """Returns [B, num_features] float32.

    Args:
      audio_feat: [B, T, C] float32 window centred on the frame; T is a power of two, at least 16.

    Raises:
      ValueError: T is another number.
    """
    num_steps = audio_feat.shape[1]
    if num_steps < 16 or num_steps & (num_steps - 1):
      raise ValueError(f'audio window of {num_steps} steps: must be a power of two and at least 16')
    widths = (32, 32) + (64,) * (num_steps.bit_length() - 3)
    h = audio_feat
    for i, width in enumerate(widths):
      h = nn.leaky_relu(nn.Conv(width, (3,), strides=2, padding=1, name=f'conv_{i}')(h), 0.02)
    h = nn.leaky_relu(nn.Dense(64, name='dense_0')(h[:, 0]), 0.02)
    return nn.Dense(self.num_features, name='dense_1')(h)


class ResidualAudioNet(nn.Module):
  """A strided convolution, residual blocks of growing reach, layer norms, and all steps into a dense layer.

  Attributes:
    num_features: length of the result.
    width: channels.
  """
  num_features: int = 64
  width: int = 64

  @nn.compact
  def __call__(self, audio_feat: jax.Array) -> jax.Array:
    """Returns [B, num_features] float32. audio_feat: [B, T, C] float32 window centred on the frame."""
    h = nn.Conv(self.width, (5,), strides=2, padding=2, name='conv')(audio_feat)
    for i, dilation in enumerate((1, 2, 4)):
      inner = nn.gelu(nn.LayerNorm(name=f'norm_{i}_in')(h))
      inner = nn.Conv(self.width, (3,), kernel_dilation=dilation, padding=dilation, name=f'conv_{i}')(inner)
      inner = nn.gelu(nn.LayerNorm(name=f'norm_{i}_out')(inner))
      h = h + nn.Conv(self.width, (1,), name=f'mix_{i}')(inner)
    h = nn.gelu(nn.LayerNorm(name='norm')(h)).reshape(len(h), -1)
    h = nn.gelu(nn.LayerNorm(name='norm_dense')(nn.Dense(64, name='dense_0')(h)))
    return nn.Dense(self.num_features, name='dense_1')(h)
