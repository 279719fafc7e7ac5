"""The loss: one function a term, and their sum (Eq. 7, 8, 10). Images [..., 3] float32 in 0 … 1; every term is a scalar mean.

The sync term (Eq. 6) is `sync.loss`; the depth's (Eq. 9) is minimised before training, by `gamem.learn_depth`.
"""
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from speech2lip_jax.models.lpips import Perceptual

ZOOM = 1.3


def lip_loss(painted: Sequence[tuple[jax.Array, jax.Array, jax.Array]]) -> jax.Array:
  """L_m, L2 on canonical lips (Eq. 7): the mean over frames of each frame's mean squared error.

  Args:
    painted: groups of frames, each with its painted and its true colours, [n, P, 3] both, and which pixels count, [P] bool; P may
      differ between groups.
  """
  def of_frames(rgb, true, counts):
    square = jnp.mean(jnp.square(rgb - true), 2)
    return jnp.sum(jnp.where(counts, square, 0.0), 1) / jnp.sum(counts)
  return jnp.mean(jnp.concatenate([of_frames(*group) for group in painted]))


def frame_loss(blended: jax.Array, observed: jax.Array) -> jax.Array:
  """The L2 of L_w on the blended window (Eq. 8).

  Args:
    blended, observed: [B, h, w, 3], Blend-Net's picture of the window and the true frame's.
  """
  return mean_squared_error(blended, observed)


def perceptual_loss(rgb: jax.Array, true: jax.Array, lpips: Perceptual | None) -> jax.Array:
  """The perceptual distance, of L_w on the blended window (Eq. 8) or of lips: LPIPS, or that of edges where there are no weights.

  Args:
    rgb, true: [B, h, w, 3].
    lpips: the frozen network, or None.
  """
  return jnp.mean(perceptual_distance(rgb, true, lpips))


def perceptual_distance(rgb: jax.Array, true: jax.Array, lpips: Perceptual | None) -> jax.Array:
  """`perceptual_loss` of each picture by itself: [B]."""
  return edge_distance(rgb, true) if lpips is None else lpips(rgb, true)


def enlarged(keys: jax.Array, rgb: jax.Array, true: jax.Array, source: tuple[int, int], size: tuple[int, int]
             ) -> tuple[jax.Array, jax.Array]:
  """Pictures of lips, large enough for a perceptual network, whose grid of pixels lies in another place and size in each.

  Enlarged from one and the same place, their pixels make a pattern that the network does not mind and that skin then shows.

  Args:
    keys: [B] of the noise.
    rgb, true: [B, rows, columns, 3], changed alike.
    source: height and width of the lips in them, pixels; what is below and to the right of that carries their border on.
    size: height and width of the results. The lips are shown from as large as fills that to `ZOOM` times as large, and cropped.

  Returns:
    Both, [B, *size, 3].
  """
  height, width = size
  whole = jnp.max(jnp.array(size) / jnp.array(source))

  def one(key, pictures):
    zoom_key, place_key, flip_key = jax.random.split(key, 3)
    scale = jnp.full(2, whole * jax.random.uniform(zoom_key, minval=1.0, maxval=ZOOM))
    hidden = scale * jnp.array(source) - jnp.array(size)
    shown = jax.image.scale_and_translate(pictures, (2, height, width, 3), (1, 2), scale,
                                          -hidden * jax.random.uniform(place_key, (2,)), 'cubic', antialias=False)
    return jnp.where(jax.random.bernoulli(flip_key), shown[:, :, ::-1], shown)

  both = jax.vmap(one)(keys, jnp.stack([rgb, true], 1))
  return both[:, 0], both[:, 1]


def total_loss(terms: Mapping[str, jax.Array], weights: ConfigDict) -> jax.Array:
  """The weighted sum of a step's terms (Eq. 10).

  Args:
    terms: 'lip', and those that the step has of 'lip_perceptual', 'sync', 'frame' and 'perceptual'.
    weights: `config.loss`.
  """
  total = jnp.zeros(())
  for name, term in terms.items():
    total += weights[f'{name}_weight'] * term
  return total


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """L2 of two arrays of one shape."""
  return jnp.mean(jnp.square(prediction - target))


def masked_mean_squared_error(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
  """L2 over the pixels where mask is 1; mask broadcasts against the images (released program's depth term, Eq. 9)."""
  mask = jnp.broadcast_to(mask, prediction.shape)
  return jnp.sum(jnp.square(prediction - target) * mask) / (jnp.sum(mask) + 1e-6)


def _halved(rgb):
  """[B, h, w, 3] → means of 2×2 blocks; an odd last row or column is dropped."""
  batch, height, width, channels = rgb.shape
  rgb = rgb[:, :height // 2 * 2, :width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
  return rgb.mean((2, 4))


def edge_distance(prediction: jax.Array, target: jax.Array, num_scales: int = 3) -> jax.Array:
  """A perceptual term without weights: L1 of horizontal and vertical differences of neighbours, at halved sizes too.

  Blurred teeth cost more here than in L2, and a little light less.

  Args:
    prediction, target: [B, h, w, 3], h and w at least 2 ** num_scales.

  Returns:
    [B], of each picture.
  """
  total = jnp.zeros(len(prediction))
  for scale in range(num_scales):
    if scale:
      prediction, target = _halved(prediction), _halved(target)
    difference = prediction - target
    total += jnp.abs(jnp.diff(difference, axis=1)).mean((1, 2, 3)) + jnp.abs(jnp.diff(difference, axis=2)).mean((1, 2, 3))
  return total / num_scales
