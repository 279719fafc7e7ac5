"""SyncNet, the judge of whether a mouth and a sound belong together: the layout of Wav2Lip's expert (SyncNet_color).

Frozen: always with the running statistics. Its weights are made by `speech2lip convert --kind syncnet`.
"""
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from speech2lip_jax.models.blend_net import BatchNorm

WINDOW = 5  # Frames, 200 ms; as long as 16 mel steps.


class Block(NamedTuple):
  """Convolution, batch normalisation, the input added where `residual`, ReLU."""
  num_outputs: int
  kernel: int
  stride: tuple[int, int] = (1, 1)
  padding: int = 1
  residual: bool = False


def _stage(num_outputs, stride, num_residual=2, kernel=3):
  return (Block(num_outputs, kernel, stride), *(Block(num_outputs, 3, residual=True),) * num_residual)


# From 48×96×15 and 80×16×1 to 1×1×512.
FACE_BLOCKS = (Block(32, 7, padding=3), *_stage(64, (1, 2), kernel=5), *_stage(128, (2, 2), 3), *_stage(256, (2, 2)),
               *_stage(512, (2, 2)), Block(512, 3, (2, 2)), Block(512, 3, padding=0), Block(512, 1, padding=0))
MEL_BLOCKS = (*_stage(32, (1, 1)), *_stage(64, (3, 1)), *_stage(128, (3, 3)), *_stage(256, (3, 2)),
              Block(512, 3, padding=0), Block(512, 1, padding=0))
FACE_CHANNELS, MEL_CHANNELS = 3 * WINDOW, 1


class Encoder(nn.Module):
  """A chain of `Block`s and a unit vector at its end."""
  blocks: tuple[Block, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for i, block in enumerate(self.blocks):
      h = nn.Conv(block.num_outputs, (block.kernel,) * 2, block.stride, block.padding,
                  kernel_init=nn.initializers.he_normal(), name=f'conv_{i}')(x)
      h = BatchNorm(name=f'norm_{i}')(h, train=False)
      x = nn.relu(h + x if block.residual else h)
    x = x.reshape(x.shape[0], -1)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))


class SyncNet(nn.Module):
  """Two encoders into one space; the cosine of the two vectors, 0..1, says how well mouth and sound fit. 16.4 M parameters."""

  def setup(self):
    self.face = Encoder(FACE_BLOCKS)
    self.mel = Encoder(MEL_BLOCKS)

  def __call__(self, face: jax.Array, mel_windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `embed_face` and `embed_mel`."""
    return self.embed_face(face), self.embed_mel(mel_windows)

  def embed_face(self, face: jax.Array) -> jax.Array:
    """Returns unit vectors [B, 512] float32, no entry negative.

    Args:
      face: [B, 48, 96, 15] float32 0..1, five frames' lower halves: frame 0 BGR, frame 1 BGR, …; see `lower_half_window`.

    Raises:
      ValueError: another shape.
    """
    if face.shape[1:] != (48, 96, FACE_CHANNELS):
      raise ValueError(f'SyncNet takes faces [B, 48, 96, {FACE_CHANNELS}], got {face.shape}')
    return self.face(face)

  def embed_mel(self, mel_windows: jax.Array) -> jax.Array:
    """Returns unit vectors [B, 512] float32, no entry negative.

    Args:
      mel_windows: [B, 16, 80] float32 −4..4, beginning with the first of the five frames; see `data.mel.mel_crop`.

    Raises:
      ValueError: another shape.
    """
    if mel_windows.shape[1:] != (16, 80):
      raise ValueError(f'SyncNet takes mel windows [B, 16, 80], got {mel_windows.shape}')
    return self.mel(mel_windows.transpose(0, 2, 1)[..., None])


def lower_half_window(rgb_windows: jax.Array) -> jax.Array:
  """The mouths as SyncNet takes them, [B, 48, 96, 15]: lower halves, BGR, the frames along the channels.

  Args:
    rgb_windows: [B, 5, 96, 96, 3] float32 RGB 0..1, five faces one after another.
  """
  batch, num_frames, height, width, _ = rgb_windows.shape
  lower = rgb_windows[:, :, height // 2:, :, ::-1]
  return lower.transpose(0, 2, 3, 1, 4).reshape(batch, height - height // 2, width, 3 * num_frames)
