"""The released program's whole training step, one sample at a time, as pure functions: for parity, not for training.

Every number comes from `configs/reference.py`. What the program does wrong is kept where its results show it: the depth term
warps with the inverse pose, the sync term's negative pair is a real picture (no gradient comes from it), its window has one
frame's background under five poses, and the frozen Blend-Net's batch statistics and Adam's moments go on moving. Images
are RGB float32, 0 … 1, one sample without a batch axis; H × W is the face, h × w the lip box.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from speech2lip_jax.models.audio_net import AudioNet
from speech2lip_jax.models.blend_net import BlendNet
from speech2lip_jax.models.lip_field import LipField, local_ensemble, pixel_coords
from speech2lip_jax.models.lpips import Lpips
from speech2lip_jax.models.syncnet import WINDOW, SyncNet, lower_half_window
from speech2lip_jax.ops import camera, sampling
from speech2lip_jax.released import warp as released_warp
from speech2lip_jax.training import losses

SYNC_FACE = 96  # pixels: side of the face whose lower half the expert sees
MAX_COSINE = 1 - 1e-6  # the program takes the logarithm of 1 − cosine, and raises where rounding makes the cosine 1


class Sample(NamedTuple):
  """One frame with its truth.

  rgb_lip_canonical: [h, w, 3]. rgb_face_observed, rgb_face_canonical, mask_lip: [H, W, 3]. grid: [H, W, 2] C2O, −1 … 1.
  mask_head, mask_face: [H, W, 1 or 3]. audio_feat: [T, C]. frame_id, num_frames: scalars, the time input. lip_top_left: [2]
  int32 pixels. observed_from_canonical: [4, 4]. focal: scalar, pixels.
  """
  rgb_lip_canonical: jax.Array
  rgb_face_observed: jax.Array
  rgb_face_canonical: jax.Array
  mask_lip: jax.Array
  grid: jax.Array
  mask_head: jax.Array
  mask_face: jax.Array
  audio_feat: jax.Array
  frame_id: jax.Array
  num_frames: jax.Array
  lip_top_left: jax.Array
  observed_from_canonical: jax.Array
  focal: jax.Array


class SyncWindow(NamedTuple):
  """The five frames from the sample's on, for the sync term.

  audio_feat: [5, T, C]. grid: [5, H, W, 2]. mel: [16, 80], time first. face_box: [4] int32 (left, top, right, bottom) pixels.
  rgb_negative: [5, 96, 96, 3], real faces of another time.
  """
  audio_feat: jax.Array
  grid: jax.Array
  mel: jax.Array
  face_box: jax.Array
  rgb_negative: jax.Array


class Judges(NamedTuple):
  """Variables of the frozen networks `Lpips` and `SyncNet`."""
  lpips: Any
  syncnet: Any


class State(NamedTuple):
  """What a step changes. params: {'audio_net', 'lip_field', 'blend_net', 'depth_canonical' [H, W]}. batch_stats: Blend-Net's."""
  params: Any
  batch_stats: Any
  opt_state: Any


def lips(params: Any, audio_feat: jax.Array, frame_id: jax.Array, rand: jax.Array | float, size: tuple[int, int],
         config: ConfigDict) -> jax.Array:
  """Canonical lips [h, w, 3] of one frame by continuous sampling (Eq. 2); `rand` is uniform in 0 … 1, size (h, w)."""
  field = LipField(width=config.field.width, depth=config.field.depth, skip_after=config.field.skip_after,
                   use_time=config.field.use_time)
  audio_embedding = AudioNet(config.audio.num_features).apply({'params': params['audio_net']}, audio_feat[None])
  paint = lambda coords: field.apply({'params': params['lip_field']}, coords, audio_embedding, jnp.asarray(frame_id)[None])
  coords = pixel_coords(*size)[None]
  rgb = local_ensemble(paint, coords, size, rand) if config.field.ensemble else paint(coords)
  return rgb.reshape(*size, 3)


def reconstruct(params: Any, batch_stats: Any, rgb_lip: jax.Array, sample: Sample, grid: jax.Array, config: ConfigDict
                ) -> tuple[jax.Array, Any]:
  """The sample's frame [H, W, 3] with given lips, pasted, warped by C2O `grid` and refined; and the new batch statistics.

  Blend-Net normalises by the picture's own statistics, as in training.
  """
  rule = config.reference
  _, merged = released_warp.merge(rgb_lip, sample.rgb_face_canonical, sample.rgb_face_observed, sample.mask_lip, grid,
                                      sample.lip_top_left, rule.paste_offset_px, rule.expand_divisor)
  rgb, updated = BlendNet(residual=config.blend.residual, align_corners=config.blend.align_corners).apply(
      {'params': params['blend_net'], 'batch_stats': batch_stats}, merged[None], train=True, mutable=['batch_stats'])
  return rgb[0], updated['batch_stats']


def resized_crop(image: jax.Array, box: jax.Array, size: int) -> jax.Array:
  """The part of image [H, W, C] inside box [4] (left, top, right, bottom) pixels as [size, size, C]; bilinear, aliased."""
  left, top, right, bottom = jnp.asarray(box, jnp.float32)
  places = lambda start, stop: jnp.clip(start + (jnp.arange(size) + 0.5) * ((stop - start) / size) - 0.5, start, stop - 1)
  return sampling.sample_image(image, jnp.stack(jnp.meshgrid(places(left, right), places(top, bottom)), axis=-1))


def sync_loss(syncnet: Any, rgb_window: jax.Array, window: SyncWindow) -> jax.Array:
  """Binary cross-entropy of the cosine: 1 for generated faces [5, 96, 96, 3] and the sound, 0 for the negative ones."""
  faces = lower_half_window(jnp.stack([rgb_window, window.rgb_negative]))
  face, mel = SyncNet().apply(syncnet, faces, window.mel[None])
  positive, negative = jnp.minimum(jnp.sum(face * mel, axis=-1), MAX_COSINE)
  return -jnp.log(positive) - jnp.log1p(-negative)


def loss(params: Any, batch_stats: Any, judges: Judges, sample: Sample, window: SyncWindow | None, rand: jax.Array | float,
         config: ConfigDict) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
  """The total, its terms {rgb, perceptual, sync, canonical_depth_photo} as weighted in it, and the new batch statistics.

  Args:
    params, batch_stats: of a `State`.
    judges: frozen networks.
    sample: the frame.
    window: its five frames for the sync term, under which Blend-Net's weights get no gradient; None leaves the term out, as
      the program does before `config.reference.sync_start_step`.
    rand: the draw of continuous sampling, 0 … 1.
    config: `configs/reference.py`.
  """
  weights = config.reference
  height, width = sample.rgb_lip_canonical.shape[:2]
  size = height, width
  if window is not None:
    params = params | {'blend_net': jax.lax.stop_gradient(params['blend_net'])}
  rgb_lip = lips(params, sample.audio_feat, sample.frame_id, rand, size, config)
  rgb_face, batch_stats = reconstruct(params, batch_stats, rgb_lip, sample, sample.grid, config)
  distance = lambda a, b: Lpips().apply(judges.lpips, a[None], b[None])[0][0]
  perceptual = distance(rgb_lip, sample.rgb_lip_canonical) + distance(rgb_face, sample.rgb_face_observed)
  canonical_from_observed = camera.invert_rigid(sample.observed_from_canonical)
  warped = released_warp.warp(sample.rgb_face_observed, params['depth_canonical'], canonical_from_observed, sample.focal)
  depth_error = losses.masked_mean_squared_error(warped, sample.rgb_face_canonical, sample.mask_head * (1 - sample.mask_face))
  terms = {'rgb': losses.mean_squared_error(rgb_lip, sample.rgb_lip_canonical)
                  + losses.mean_squared_error(rgb_face, sample.rgb_face_observed),
           'perceptual': weights.lpips_weight * perceptual,
           'sync': jnp.float32(0),
           'canonical_depth_photo': weights.depth_weight * depth_error}
  if window is not None:
    faces = []
    for k in range(WINDOW):  # not a scan: XLA's convolutions are many times slower on a CPU inside a loop
      frame_id = jnp.minimum(sample.frame_id + k, sample.num_frames - 1)
      rgb_lip = lips(params, window.audio_feat[k], frame_id, rand, size, config)
      rgb_face, batch_stats = reconstruct(params, batch_stats, rgb_lip, sample, window.grid[k], config)
      faces.append(resized_crop(rgb_face, window.face_box, SYNC_FACE))
    terms['sync'] = weights.sync_weight * sync_loss(judges.syncnet, jnp.stack(faces), window)
  return sum(terms.values()), (terms, batch_stats)


def make_step(config: ConfigDict) -> tuple[optax.GradientTransformation, Callable]:
  """Adam, and the jitted step (state, judges, sample, window, rand) → (state, terms, gradients).

  Two compilations: with and without a window. A weight without gradient still moves by Adam's moments.
  """
  optimizer = optax.adam(config.reference.learning_rate)

  @jax.jit
  def step(state: State, judges: Judges, sample: Sample, window: SyncWindow | None, rand: jax.Array):
    gradient_fn = jax.value_and_grad(lambda params: loss(params, state.batch_stats, judges, sample, window, rand, config),
                                     has_aux=True)
    (total, (terms, batch_stats)), gradients = gradient_fn(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state)
    return State(optax.apply_updates(state.params, updates), batch_stats, opt_state), terms | {'total': total}, gradients

  return optimizer, step
