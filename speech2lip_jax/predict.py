"""Held-out and foreign speech → pictures: the pmapped forward pass, in batches, over any number of frames.

Used by the trainer's validation, by render and by evaluate. Frames stream: only a few batches are ever in memory.
"""
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax import checkpoint, head_motion, train_step
from speech2lip_jax.data.dataset import Split, Subject, load_subject, split_frames
from speech2lip_jax.data.input_pipeline import Frames, make_frames, prefetch
from speech2lip_jax.devices import replicate, shard, unreplicate
from speech2lip_jax.errors import InputError
from speech2lip_jax.models.speech2lip import Composition, Speech2Lip, SubjectConstants, paste_windows
from speech2lip_jax.ops import warp
from speech2lip_jax.subject_model import build_model, subject_constants


class Prediction(NamedTuple):
  """One picture. rgb_face: [H, W, 3] uint8. mask_mouth: [H, W] bool, pixels whose C2O falls in the lip box."""
  rgb_face: np.ndarray
  mask_mouth: np.ndarray


class Predictor:
  """Renders frames of a subject with one set of weights on all local devices."""

  def __init__(self, model: Speech2Lip, variables: Any, constants: SubjectConstants, subject: Subject,
               batch_size: int = 8):
    """variables: {'params', 'batch_stats'}. batch_size: frames a device takes at once."""
    self._model = model.clone(axis_name=None)
    self._subject, self._poses = subject, subject.observed_from_canonical
    self._num_devices, self._batch_size = jax.local_device_count(), batch_size
    self._constants = replicate(constants)
    self.set_variables(variables)
    self._from_speech = jax.pmap(self._forward, static_broadcasted_argnums=5)
    self._from_lips = jax.pmap(self._carry)
    self._at_poses = jax.pmap(self._move)

  def set_variables(self, variables: Any) -> None:
    """Takes other weights of the same shapes, without compiling again."""
    self._variables = replicate(variables)

  @staticmethod
  def _to_uint8(rgb):
    return jnp.round(jnp.clip(rgb, 0, 1) * 255).astype(jnp.uint8)

  def _finish(self, composition: Composition, window, rgb_face):
    rgb = paste_windows(rgb_face, self._to_uint8(window), composition.origin)
    mask = paste_windows(jnp.zeros((*rgb_face.shape[:3], 1), bool), composition.mask_mouth[..., None], composition.origin)
    return rgb, mask[..., 0]

  def _forward(self, variables, constants, audio_feat, frame_id, frames: Frames, with_blend_net: bool):
    composition, blended = self._model.apply(variables, audio_feat, frame_id, frames.rgb_face_observed / 255.0,
                                             frames.observed_from_canonical, constants)
    window = blended if with_blend_net else composition.merged
    return self._finish(composition, window, frames.rgb_face_observed)

  def _carry(self, variables, constants, rgb_lip, frames: Frames):
    depth = self._model.apply(variables, constants, method='depth')
    composition = self._model.apply(variables, rgb_lip, frames.rgb_face_observed / 255.0,
                                    frames.observed_from_canonical, depth, method='compose')
    return self._finish(composition, composition.merged, frames.rgb_face_observed)

  def _move(self, variables, constants, stage: head_motion.Stage, audio_feat, frame_id, frames: Frames,
            motion: head_motion.Motion):
    rgb_face, mask_mouth = self._forward(variables, constants, audio_feat, frame_id, frames, True)
    refine = lambda rgb, hole: self._model.apply(variables, rgb, hole, method='fill_holes')

    def one(arguments):
      rgb, mask, pose, motion = arguments
      moved = head_motion.move_head(rgb / 255.0, pose, motion, stage.plate / 255.0, stage.points, stage.layer,
                                    self._model.geometry.focal)
      mask = warp.sample_image(mask[..., None].astype(jnp.float32), moved.source)[..., 0] > 0.5
      return self._to_uint8(head_motion.fill_holes(refine, moved.rgb_face, moved.hole)), mask

    # One frame after another: the number of holes to fill differs, and a frame's taps take memory.
    return jax.lax.map(one, (rgb_face, mask_mouth, frames.observed_from_canonical, motion))

  def _batches(self, num_frames: int, make) -> Iterator[Prediction]:
    """make(rows) → a pmapped function and its arguments; the last batch is padded, and the padding dropped."""
    size = self._num_devices * self._batch_size
    starts = range(0, num_frames, size)
    rows_of = lambda start: np.minimum(np.arange(start, start + size), num_frames - 1)
    pending = None
    for start, arguments in zip(starts, prefetch(lambda s: make(rows_of(s)), starts, 2), strict=True):
      function, *values = arguments
      result = function(*values)
      if pending is not None:
        yield from self._unpack(*pending)
      pending = (result, min(size, num_frames - start))  # the device works on it while the last one is used
    if pending is not None:
      yield from self._unpack(*pending)

  @staticmethod
  def _unpack(result, count: int) -> Iterator[Prediction]:
    rgb, mask = (np.asarray(x).reshape(-1, *x.shape[2:]) for x in result)
    for i in range(count):
      yield Prediction(rgb[i], mask[i])

  def from_speech(self, frame_ids: np.ndarray, audio_feat: np.ndarray, with_blend_net: bool = True
                  ) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] of the subject saying `audio_feat` [n, T, C]."""
    def make(rows):
      frames = make_frames(self._subject, self._poses, frame_ids[rows])
      arguments = shard((audio_feat[rows], frame_ids[rows].astype(np.int32), frames))
      return (self._from_speech, self._variables, self._constants, *arguments, with_blend_net)
    return self._batches(len(frame_ids), make)

  def depth(self) -> np.ndarray:
    """D_c [h, w] with its learned correction, head units."""
    read = jax.jit(lambda variables, constants: self._model.apply(variables, constants, method='depth'))
    return np.asarray(read(*unreplicate((self._variables, self._constants))))

  def from_speech_at_poses(self, frame_ids: np.ndarray, audio_feat: np.ndarray, target_from_canonical: np.ndarray
                           ) -> Iterator[Prediction]:
    """As `from_speech`, each frame's head then moved to its pose in `target_from_canonical` [n, 4, 4]."""
    subject = self._subject
    stage = head_motion.prepare(subject, jnp.asarray(self.depth()), frame_ids)
    motions = head_motion.motions(self._poses[frame_ids], target_from_canonical, stage.layer.centre)
    stage = replicate(stage)

    def make(rows):
      frames = make_frames(subject, self._poses, frame_ids[rows])
      motion = jax.tree.map(lambda x: x[rows], motions)
      arguments = shard((audio_feat[rows], frame_ids[rows].astype(np.int32), frames, motion))
      return (self._at_poses, self._variables, self._constants, stage, *arguments)
    return self._batches(len(frame_ids), make)

  def from_lips(self, frame_ids: np.ndarray, rgb_lip_of_rows) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] with given canonical lips: rgb_lip_of_rows(rows) → [b, h, w, 3] float32 in 0 … 1."""
    def make(rows):
      frames = make_frames(self._subject, self._poses, frame_ids[rows])
      arguments = shard((rgb_lip_of_rows(rows), frames))
      return (self._from_lips, self._variables, self._constants, *arguments)
    return self._batches(len(frame_ids), make)


class Trained(NamedTuple):
  """A finished or running training: its config, subject, split and a predictor with its best weights."""
  config: ConfigDict
  subject: Subject
  split: Split
  predictor: Predictor
  step: int


def load_trained(workdir: str, batch_size: int = 8) -> Trained:
  """Opens a workdir of `speech2lip train` with the checkpoint that was best on the validation part.

  Raises:
    InputError: no workdir, no checkpoint in it yet, or its subject folder is gone or changed.
  """
  config = checkpoint.read_config(workdir)
  subject = load_subject(config.data.path)
  split = split_frames(subject, config.data)
  model = build_model(subject, config)
  constants = subject_constants(subject, split.train)
  with checkpoint.Checkpoints(workdir) as checkpoints:
    step = checkpoints.best_step()
    if step is None:
      raise InputError(f'{workdir}/checkpoints: no checkpoint yet; let speech2lip train run to its first one '
                       f'({config.train.eval_every} steps)')
    shapes = jax.eval_shape(lambda constants: train_step.create_variables(model, constants, config), constants)
    weights = checkpoints.restore_weights(step, {'ema_params': shapes['params'], 'batch_stats': shapes['batch_stats']})
  variables = {'params': weights['ema_params'], 'batch_stats': weights['batch_stats']}
  return Trained(config, subject, split, Predictor(model, variables, constants, subject, batch_size), step)
