"""The sync expert's network: mouth pictures and speech → unit vectors whose cosine says whether they belong together.

A window is 5 consecutive frames at 25 a second (200 ms) and the 16 mel steps of the same time.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from speech2lip_jax.data.schema import SYNC_FRAMES


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
