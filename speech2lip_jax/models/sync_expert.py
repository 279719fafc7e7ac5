"""The sync expert: mouth pictures and speech → unit vectors whose cosine says whether they belong together.

A window is 5 consecutive frames at 25 a second (200 ms) and the 16 mel steps of the same time. The expert sees nothing but
the canonical lip image, on a coarse lattice of its pixels: what the generator paints and no more, since a jaw or a throat
gives the speech away whatever the lips do.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.data.schema import SYNC_FRAMES

LATTICE_COLUMNS = 20  # at least so many columns are looked at, where the lip box has them
MAX_BLUR = 0.25  # weight of each neighbour in the 3-tap blur of `disturbed`
INSET = 0.1  # of the lip box's width left out on every side: composed lips fade into the frame's own pixels there


def _inset(lip_size: tuple[int, int]) -> int:
  return round(INSET * lip_size[1])


def lattice_stride(lip_size: tuple[int, int]) -> int:
  """Distance of the lattice's columns and rows, pixels, in a lip box (height, width)."""
  return max(1, (lip_size[1] - 2 * _inset(lip_size)) // LATTICE_COLUMNS)


def lattice_size(lip_size: tuple[int, int], stride: int) -> tuple[int, int]:
  """(rows, columns) of the lattice, the same at every phase 0 … stride − 1."""
  return tuple((size - 2 * _inset(lip_size) - stride + 1) // stride for size in lip_size)


def lattice_pixels(lip_size: tuple[int, int], stride: int, phase: jax.Array) -> jax.Array:
  """Indices row · w + column into the lip box of the lattice's pixels: [rows · columns] int32.

  phase: [2] int32 (row, column) of the first one in the part that is looked at; out of 0 … stride − 1 the lattice is moved, up to
  the border of the lip box.
  """
  places = [jnp.clip(_inset(lip_size) + phase[i] + stride * np.arange(count), 0, lip_size[i] - 1)
            for i, count in enumerate(lattice_size(lip_size, stride))]
  return (places[0][:, None] * lip_size[1] + places[1]).reshape(-1)


def grey(rgb: jax.Array) -> jax.Array:
  """Luma (BT.601) of [..., 3] RGB: [...]."""
  return rgb @ jnp.array([0.299, 0.587, 0.114])


def disturbed(pictures: jax.Array, key: jax.Array) -> jax.Array:
  """Normalised pictures [F, rows, columns] of a run, blurred, lit otherwise, maybe mirrored, noisy: what must not matter."""
  keys = jax.random.split(key, 4)
  neighbour = MAX_BLUR * jax.random.uniform(keys[0])
  for axis in (1, 2):
    pad = [(0, 0)] * 3
    pad[axis] = (1, 1)
    padded = jnp.pad(pictures, pad, 'edge')
    before, after = (jax.lax.slice_in_dim(padded, start, start + pictures.shape[axis], axis=axis) for start in (0, 2))
    pictures = neighbour * (before + after) + (1 - 2 * neighbour) * pictures
  gain, offset = jax.random.normal(keys[1], (2,)) * jnp.array([0.15, 0.3])
  pictures = jnp.where(jax.random.bernoulli(keys[2]), pictures[:, :, ::-1], pictures)
  return pictures * jnp.exp(gain) + offset + 0.1 * jax.random.normal(keys[3], pictures.shape)


class SyncExpert(nn.Module):
  """Attributes: num_features, the length of an embedding; width, channels of the hidden layers."""
  num_features: int = 128
  width: int = 128

  def setup(self):
    self.mouth_convs = [nn.Conv(self.width // 4, (5, 5), strides=2), nn.Conv(self.width // 2, (3, 3), strides=2)]
    self.mouth_dense = nn.Dense(self.width)
    self.mouth_time = nn.Dense(2 * self.width)
    self.mouth_out = nn.Dense(self.num_features)
    self.mel_convs = [nn.Conv(self.width, (3,)), nn.Conv(self.width, (3,), strides=2), nn.Conv(self.width, (3,), strides=2)]
    self.mel_dense = nn.Dense(2 * self.width)
    self.mel_out = nn.Dense(self.num_features)

  def embed_mouth(self, mouth: jax.Array) -> jax.Array:
    """Unit vectors [B, F − 4, num_features] of the windows in runs of F ≥ 5 frames.

    Args:
      mouth: [B, F, rows, columns] float32 grey lattice pictures, less their mean over training frames and of unit variance.
    """
    batch, num_frames = mouth.shape[:2]
    h = mouth.reshape(-1, *mouth.shape[2:], 1)
    for conv in self.mouth_convs:
      h = nn.gelu(conv(h))
    h = nn.gelu(self.mouth_dense(h.reshape(len(h), -1))).reshape(batch, num_frames, -1)
    count = num_frames - SYNC_FRAMES + 1
    h = jnp.concatenate([h[:, i:i + count] for i in range(SYNC_FRAMES)], -1)
    return _unit(self.mouth_out(nn.gelu(self.mouth_time(h))))

  def embed_mel(self, mel: jax.Array) -> jax.Array:
    """Unit vectors [B, num_features] of mel windows [B, 16, 80] float32 −4 … 4."""
    h = mel / 2
    for conv in self.mel_convs:
      h = nn.gelu(conv(h))
    return _unit(self.mel_out(nn.gelu(self.mel_dense(h.reshape(len(h), -1)))))

  def __call__(self, mouth: jax.Array, mel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both embeddings; for initialisation."""
    return self.embed_mouth(mouth), self.embed_mel(mel)


def _unit(x: jax.Array) -> jax.Array:
  """x over its length along the last axis; finite gradient at 0."""
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-8)
