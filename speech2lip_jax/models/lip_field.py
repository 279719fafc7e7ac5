"""The lip field f(x, a, t) → rgb (Eq. 1), as a product and as the released program has it, its continuous sampling (Eq. 2),
and the convolutional decoder that it is compared with."""
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.ops import encoding
from speech2lip_jax.ops.boxes import LipBox


class _Dense(nn.Module):
  """An affine layer whose kernel the caller may combine with others; call it to get (kernel [in, out], bias [out])."""
  num_inputs: int
  num_outputs: int

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (self.num_inputs, self.num_outputs))
    return kernel, self.param('bias', nn.initializers.zeros_init(), (self.num_outputs,))


class LipField(nn.Module):
  """Colour of any place of the lip box for one audio vector per frame (Eq. 1).

  The projections of place, audio and time are summed with no activation before the first hidden layer, and a second set
  of them is put in front of hidden layer `skip_after`. Sum and layer are both linear there, so audio and time go
  through the layer once per frame and the place's projection is multiplied into the layer's kernel: the same function
  and gradients with fewer products per pixel.

  Attributes:
    width: units of a hidden layer.
    depth: hidden layers.
    skip_after: number of hidden layers before the skip, 1..depth − 1.
    use_time: whether the frame index is an input.
  """
  width: int = 256
  depth: int = 8
  skip_after: int = 5
  use_time: bool = False

  @nn.compact
  def __call__(self, coords: jax.Array, audio: jax.Array, frame_index: jax.Array | None = None) -> jax.Array:
    """Returns rgb [B, P, 3] float32, meant as 0..1 but not clamped.

    Args:
      coords: [B, P, 2] float32 (x, y), 0..1 across the lip box, or [P, 2], the same in all frames.
      audio: [B, A] float32, one vector per frame.
      frame_index: [B] raw frame number; read only with `use_time`.
    """
    if not 0 < self.skip_after < self.depth:
      raise ValueError(f'skip_after={self.skip_after}: must be 1..{self.depth - 1} for depth={self.depth}')
    place = encoding.encode_position(coords)
    inputs = {'audio': audio}
    if self.use_time:
      assert frame_index is not None
      inputs['time'] = encoding.encode_time(frame_index)

    def project_inputs(suffix, layer_kernel):
      """Place, audio and time projected, summed and multiplied by `layer_kernel` [width, width]: [B, P, width]."""
      kernel, per_frame = _Dense(place.shape[-1], self.width, name=f'place_{suffix}')()
      for name, vector in inputs.items():
        per_frame = per_frame + nn.Dense(self.width, name=f'{name}_{suffix}')(vector)
      return place @ (kernel @ layer_kernel) + (per_frame @ layer_kernel)[:, None]

    kernel, bias = _Dense(self.width, self.width, name='hidden_0')()
    h = nn.relu(project_inputs('in', kernel) + bias)
    for i in range(1, self.depth):
      if i == self.skip_after:
        kernel, bias = _Dense(2 * self.width, self.width, name=f'hidden_{i}')()
        h = nn.relu(h @ kernel[self.width:] + project_inputs('skip', kernel[:self.width]) + bias)
      else:
        h = nn.relu(nn.Dense(self.width, name=f'hidden_{i}')(h))
    return nn.Dense(3, name='rgb')(h)


class ProductLipField(nn.Module):
  """f(x, a, t) = Σₖ gₖ(x) hₖ(a, t): places and speech meet in a sum of `rank` products.

  Both factors are networks, so the field is as continuous in x as one network of both. But g is asked once for all frames, and a
  frame costs rank · 3 products a pixel: whole lip images of many frames make a training step.

  Attributes:
    width: units of a hidden layer of g; h has twice as many.
    depth: hidden layers of g.
    rank: number of products.
    use_time: whether the frame index is an input.
  """
  width: int = 128
  depth: int = 4
  rank: int = 64
  use_time: bool = False

  @nn.compact
  def __call__(self, coords: jax.Array, audio: jax.Array, frame_index: jax.Array | None = None) -> jax.Array:
    """Returns rgb [B, P, 3] float32, nearly 0 at first; see `LipField`. coords: [P, 2], the same in all frames, or [B, P, 2]."""
    g = encoding.encode_position(coords)
    for i in range(self.depth):
      g = nn.gelu(nn.Dense(self.width, name=f'place_{i}')(g))
    g = nn.Dense(3 * self.rank, name='place_out')(g).reshape(*g.shape[:-1], 3, self.rank)
    if self.use_time:
      assert frame_index is not None
      audio = jnp.concatenate([audio, encoding.encode_time(frame_index)], -1)
    h = nn.gelu(nn.Dense(2 * self.width, name='speech_0')(audio))
    h = nn.Dense(self.rank, kernel_init=nn.initializers.normal(0.01), name='speech_out')(h)
    return jnp.einsum('pck,bk->bpc' if g.ndim == 3 else 'bpck,bk->bpc', g, h)


class LipDecoder(nn.Module):
  """Speech → the pixels of a lip image by convolutions: what the paper's Table 5 has in place of the implicit function.

  A dense layer makes an eighth of the size, three times doubled by repetition, each time followed by a 3×3 convolution.

  Attributes:
    size: (height, width) of the lip image, pixels.
    width: channels after the dense layer are half of it, of the convolutions a half, a quarter and an eighth.
  """
  size: tuple[int, int]
  width: int = 128

  @nn.compact
  def __call__(self, audio: jax.Array) -> jax.Array:
    """Returns rgb [B, h, w, 3] float32, nearly 0 at first, not clamped. audio: [B, A] float32, one vector per frame."""
    height, width = self.size
    rows, columns = -(-height // 8), -(-width // 8)
    h = nn.gelu(nn.Dense(rows * columns * (self.width // 2), name='speech')(audio))
    h = h.reshape(-1, rows, columns, self.width // 2)
    for i, num_channels in enumerate((self.width // 2, self.width // 4, self.width // 8)):
      h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
      h = nn.gelu(nn.Conv(num_channels, (3, 3), padding=1, name=f'conv_{i}')(h))
    rgb = nn.Conv(3, (3, 3), padding=1, kernel_init=nn.initializers.normal(0.01), name='rgb')(h)
    return rgb[:, :height, :width]


def field_coords(coords_canonical: jax.Array, lip_box: LipBox) -> jax.Array:
  """Field coordinates [..., 2] of canonical points [..., 2] in pixels: `pixel_coords` at pixels, clipped to 0..1."""
  origin = jnp.array([lip_box.left, lip_box.top], jnp.float32)
  return jnp.clip((coords_canonical - origin) / jnp.array([lip_box.width - 1, lip_box.height - 1], jnp.float32), 0.0, 1.0)


def pixel_coords(height: int, width: int) -> jax.Array:
  """Field coordinates [height·width, 2] of a lip image's pixels: (x, y), 0..1 with both ends, rows first."""
  def positions(size):
    # A float32 step counted from the nearer end, as torch.linspace does it: the highest octave shows one ulp of
    # difference.
    from_start = np.float64(np.float32(1) / np.float32(max(size - 1, 1))) * np.arange(size)
    return np.where(np.arange(size) < size // 2, from_start, 1 - from_start[::-1]).astype(np.float32)

  return jnp.asarray(np.stack(np.meshgrid(positions(width), positions(height)), axis=-1).reshape(-1, 2))


def local_ensemble(field: Callable[[jax.Array], jax.Array], coords: jax.Array, image_size: tuple[int, int],
                   rand: jax.Array | float) -> jax.Array:
  """Continuous sampling (Eq. 2): area-weighted mean of the field at four points around each place.

  The points lie half a pixel away, all moved by (0.5 / height)·rand/2 and clamped to 0..1; a point's weight is the area
  of the rectangle that the opposite point spans with the place.

  Args:
    field: maps [B, Q, 2] coords to [B, Q, 3].
    coords: [B, P, 2] float32 (x, y), 0..1.
    image_size: (height, width) whose pixels the steps are measured in.
    rand: scalar or [B] float32 uniform in 0..1.

  Returns:
    [B, P, 3] float32.
  """
  height, width = image_size
  batch, num_points, _ = coords.shape
  shift = jnp.broadcast_to(jnp.asarray(rand, jnp.float32) * (0.25 / height), (batch,))[:, None, None, None]
  corners = jnp.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], jnp.float32) * jnp.array([0.5 / width, 0.5 / height])
  # Rounded once: the highest octave turns one ulp of the place into 3e-5 of a radian.
  places = jnp.clip(coords[:, None] + (corners[:, None] + shift), 0.0, 1.0)  # [B, 4, P, 2]
  areas = jnp.abs(jnp.prod(places - coords[:, None], axis=-1)) + 1e-9
  weights = areas[:, ::-1] / jnp.sum(areas, axis=1, keepdims=True)
  rgb = field(places.reshape(batch, 4 * num_points, 2)).reshape(batch, 4, num_points, 3)
  return jnp.sum(rgb * weights[..., None], axis=1)
