"""The forward passes that a `Predictor` asks for, compiled once for all subjects of one model's shapes."""
import functools

import jax
import jax.numpy as jnp

from speech2lip_jax.data.input_pipeline import Frames
from speech2lip_jax.gamem.compose import Composition, paste_windows
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.ops import sampling
from speech2lip_jax.rendering import head_motion, real_detail, silence

MODELS_KEPT = 16  # whose compiled functions stay


def _to_uint8(rgb):
  return jnp.round(jnp.clip(rgb, 0, 1) * 255).astype(jnp.uint8)


def _finish(composition: Composition, window) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What changes in the frames: windows [B, wh, ww, 3] uint8, the mouth region in them [B, wh, ww] bool, and their origins."""
  return _to_uint8(window), composition.mask_mouth, composition.origin


def _beside(rgb, detail, rest, residual):
  """What painted lips [B, h, w, 3] are rendered with besides: the resting mouth's residual, and speaking ones a real detail."""
  rest = rest[:, None, None, None]
  return rest * residual if detail is None else rest * residual + (1 - rest) * real_detail.added(rgb, detail)


class Forward:
  """The compiled functions of one model; `forward_of` gives the same one for equal models.

  embed, paint, measure and read_depth take values as they are; those of from_mouths, from_lips and at_poses have a first axis of
  devices.
  """

  def __init__(self, model: Speech2Lip):
    self._model = model
    self.embed = jax.jit(lambda variables, audio_feat: model.apply(variables, audio_feat, method='audio_embedding'))
    self.paint = jax.jit(self._paint)
    self.measure = jax.jit(lambda variables, constants, embedding, frame_id: model.at(constants).apply(
        variables, embedding, frame_id, constants, method='openings'))
    self.read_depth = jax.jit(lambda variables, constants: model.at(constants).apply(variables, constants, method='depth'))
    self.from_mouths = jax.pmap(self._from_mouths, static_broadcasted_argnums=7)
    self.from_lips = jax.pmap(self._from_lips)
    self.at_poses = jax.pmap(self._at_poses, static_broadcasted_argnums=9)

  def _paint(self, variables, constants, detail, mouths: silence.Mouths, frame_id):
    rgb = self._model.at(constants).apply(variables, mouths.audio_embedding, frame_id, constants, method='paint')
    return rgb + _beside(rgb, detail, mouths.rest, mouths.residual)

  def _from_mouths(self, variables, constants, tone, detail, residual, mouths, frames: Frames, with_blend_net: bool):
    audio_embedding, rest, frame_id = mouths
    model = self._model.at(constants)
    rgb = model.apply(variables, audio_embedding, frame_id, constants, method='paint')
    composition, blended = model.apply(variables, audio_embedding, frame_id, frames.rgb_face_observed / 255.0,
                                       frames.observed_from_canonical, constants, residual=_beside(rgb, detail, rest, residual),
                                       tone=tone, method='render')
    return _finish(composition, blended if with_blend_net else composition.merged)

  def _from_lips(self, variables, constants, rgb_lip, frames: Frames):
    model = self._model.at(constants)
    depth = model.apply(variables, constants, method='depth')
    composition = model.apply(variables, rgb_lip, frames.rgb_face_observed / 255.0, frames.observed_from_canonical, depth,
                              method='compose')
    return _finish(composition, composition.merged)

  def _at_poses(self, variables, constants, tone, detail, residual, stage: head_motion.Stage, mouths, frames: Frames,
                motion: head_motion.Motion, with_blend_net: bool):
    model = self._model.at(constants)
    window, mask, origin = self._from_mouths(variables, constants, tone, detail, residual, mouths, frames, with_blend_net)
    rgb_face = paste_windows(jnp.asarray(frames.rgb_face_observed), window, origin)
    mask_mouth = paste_windows(jnp.zeros((*rgb_face.shape[:3], 1), bool), mask[..., None], origin)[..., 0]
    refine = lambda rgb, hole: model.apply(variables, rgb, hole, method='fill_holes')

    def one(arguments):
      rgb, mask, pose, motion = arguments
      moved = head_motion.move_head(rgb / 255.0, pose, motion, stage.plate / 255.0, stage.points, stage.layer, model.geometry.focal)
      mask = sampling.sample_image(mask[..., None].astype(jnp.float32), moved.source)[..., 0] > 0.5
      return _to_uint8(head_motion.fill_holes(refine, moved.rgb_face, moved.hole)), mask

    # One frame after another: the number of holes to fill differs, and a frame's taps take memory.
    return *jax.lax.map(one, (rgb_face, mask_mouth, frames.observed_from_canonical, motion)), origin


@functools.lru_cache(maxsize=MODELS_KEPT)
def forward_of(model: Speech2Lip) -> Forward:
  """`Forward` of a model without a pmap axis."""
  return Forward(model)
