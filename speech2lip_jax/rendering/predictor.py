"""Speech codes → pictures: the pmapped forward pass, in batches, over any number of frames.

Frames stream: only a few batches are ever in memory. Where the field has a time input, every frame is painted at the time of
the middle training frame (`config.field.render_time`): the times of the frames painted on say nothing about new speech, and
those of held-out frames give away their neighbours in time.
"""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.common.devices import replicate, shard, unreplicate
from speech2lip_jax.data.dataset import Subject, split_frames
from speech2lip_jax.data.features import Windows
from speech2lip_jax.data.input_pipeline import Frames, make_frames, prefetch
from speech2lip_jax.gamem.compose import Composition, paste_windows
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.ops import sampling
from speech2lip_jax.rendering import head_motion, silence

CODE_BATCH = 256  # windows at once


class Prediction(NamedTuple):
  """One picture. rgb_face: [H, W, 3] uint8. mask_mouth: [H, W] bool, pixels whose C2O falls in the lip box.

  window: (top, left, height, width) pixels, the part that was composed; of a moved head, where it was before it moved.
  """
  rgb_face: np.ndarray
  mask_mouth: np.ndarray
  window: tuple[int, int, int, int]


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
    self._middle_frame_id = None
    if model.config.field.use_time and model.config.field.render_time == 'middle':
      train_ids = split_frames(subject, model.config.data).train
      self._middle_frame_id = train_ids[len(train_ids) // 2]
    self._to_codes = jax.jit(lambda variables, audio_feat: self._model.apply(variables, audio_feat, method='speech_code'))
    self._from_codes = jax.pmap(self._forward, static_broadcasted_argnums=5)
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
    return rgb, mask[..., 0], composition.origin

  def _forward(self, variables, constants, detail, codes, frames: Frames, with_blend_net: bool):
    speech, rest, frame_id = codes
    composition, blended = self._model.apply(variables, speech, frame_id, frames.rgb_face_observed / 255.0,
                                             frames.observed_from_canonical, constants,
                                             detail=rest[:, None, None, None] * detail, method='render')
    window = blended if with_blend_net else composition.merged
    return self._finish(composition, window, frames.rgb_face_observed)

  def _carry(self, variables, constants, rgb_lip, frames: Frames):
    depth = self._model.apply(variables, constants, method='depth')
    composition = self._model.apply(variables, rgb_lip, frames.rgb_face_observed / 255.0,
                                    frames.observed_from_canonical, depth, method='compose')
    return self._finish(composition, composition.merged, frames.rgb_face_observed)

  def _move(self, variables, constants, detail, stage: head_motion.Stage, codes, frames: Frames,
            motion: head_motion.Motion):
    rgb_face, mask_mouth, origin = self._forward(variables, constants, detail, codes, frames, True)
    refine = lambda rgb, hole: self._model.apply(variables, rgb, hole, method='fill_holes')

    def one(arguments):
      rgb, mask, pose, motion = arguments
      moved = head_motion.move_head(rgb / 255.0, pose, motion, stage.plate / 255.0, stage.points, stage.layer,
                                    self._model.geometry.focal)
      mask = sampling.sample_image(mask[..., None].astype(jnp.float32), moved.source)[..., 0] > 0.5
      return self._to_uint8(head_motion.fill_holes(refine, moved.rgb_face, moved.hole)), mask

    # One frame after another: the number of holes to fill differs, and a frame's taps take memory.
    return *jax.lax.map(one, (rgb_face, mask_mouth, frames.observed_from_canonical, motion)), origin

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

  def _unpack(self, result, count: int) -> Iterator[Prediction]:
    rgb, mask, origin = (np.asarray(x).reshape(-1, *x.shape[2:]) for x in result)
    for i in range(count):
      yield Prediction(rgb[i], mask[i], (*origin[i].tolist(), *self._model.geometry.window))

  def codes(self, audio_feat: np.ndarray | Windows) -> np.ndarray:
    """The speech code of each window: [n, T, C] → [n, num_features] float32."""
    num_frames, variables, parts = audio_feat.shape[0], unreplicate(self._variables), []
    for start in range(0, num_frames, CODE_BATCH):
      rows = np.minimum(np.arange(start, start + CODE_BATCH), num_frames - 1)  # one shape, one compilation
      parts.append(np.asarray(self._to_codes(variables, audio_feat[rows])))
    return np.concatenate(parts)[:num_frames]

  def resting_mouth(self, train_ids: np.ndarray, audio_feat_of: Callable[[np.ndarray], np.ndarray]) -> silence.RestingMouth:
    """The mouth that the subject has in silence, found in the training frames by their speech windows."""
    frame_ids = silence.closed_frames(self._subject, train_ids)
    rgb_lip = self._subject.rgb_lip_canonical[frame_ids].mean(0, dtype=np.float32) / 255
    code = self.codes(audio_feat_of(frame_ids)).mean(0)
    plain = self.speech_only(code[None])
    return silence.RestingMouth(code, rgb_lip - self._paint(plain, self._times(frame_ids[:1]))[0])

  def speech_only(self, speech: np.ndarray) -> silence.Codes:
    """Speech codes [n, num_features] as they are, whatever is heard."""
    box = self._subject.meta.lip_box
    return silence.Codes(speech, np.zeros(len(speech), np.float32), np.zeros((box.height, box.width, 3), np.float32))

  def from_codes(self, frame_ids: np.ndarray, codes: silence.Codes, with_blend_net: bool = True) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] of the subject with the mouths of `codes`."""
    detail = replicate(codes.detail)

    def make(rows):
      frames = make_frames(self._subject, self._poses, frame_ids[rows])
      arguments = shard(((codes.speech[rows], codes.rest[rows], self._times(frame_ids[rows])), frames))
      return (self._from_codes, self._variables, self._constants, detail, *arguments, with_blend_net)
    return self._batches(len(frame_ids), make)

  def from_speech(self, frame_ids: np.ndarray, audio_feat: np.ndarray | Windows, with_blend_net: bool = True
                  ) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] of the subject saying `audio_feat` [n, T, C], each by itself."""
    return self.from_codes(frame_ids, self.speech_only(self.codes(audio_feat)), with_blend_net)

  def _times(self, frame_ids: np.ndarray) -> np.ndarray:
    """The frame indices that the field's time input is given, [n] int32."""
    if self._middle_frame_id is not None:
      frame_ids = np.full(len(frame_ids), self._middle_frame_id)
    return frame_ids.astype(np.int32)

  def _paint(self, codes: silence.Codes, frame_id: np.ndarray) -> np.ndarray:
    @jax.jit
    def paint(variables, constants, speech, rest, frame_id):
      rgb = self._model.apply(variables, speech, frame_id, constants, method='paint')
      return rgb + rest[:, None, None, None] * codes.detail
    variables, constants = unreplicate((self._variables, self._constants))
    return np.asarray(paint(variables, constants, codes.speech, codes.rest, frame_id))

  def painted_lips(self, frame_ids: np.ndarray, codes: silence.Codes) -> np.ndarray:
    """The canonical lips of `codes`, not composed: [n, h, w, 3] uint8."""
    times, parts = self._times(frame_ids), []
    for start in range(0, len(times), CODE_BATCH):
      rows = slice(start, start + CODE_BATCH)
      part = silence.Codes(codes.speech[rows], codes.rest[rows], codes.detail)
      parts.append(np.round(np.clip(self._paint(part, times[rows]), 0, 1) * 255).astype(np.uint8))
    return np.concatenate(parts)

  def depth(self) -> np.ndarray:
    """D_c [h, w] with its learned correction, head units."""
    read = jax.jit(lambda variables, constants: self._model.apply(variables, constants, method='depth'))
    return np.asarray(read(*unreplicate((self._variables, self._constants))))

  def from_codes_at_poses(self, frame_ids: np.ndarray, codes: silence.Codes, target_from_canonical: np.ndarray
                          ) -> Iterator[Prediction]:
    """As `from_codes`, each frame's head then moved to its pose in `target_from_canonical` [n, 4, 4]."""
    subject = self._subject
    stage = head_motion.prepare(subject, jnp.asarray(self.depth()), frame_ids)
    motions = head_motion.motions(self._poses[frame_ids], target_from_canonical, stage.layer.centre)
    stage, detail = replicate((stage, codes.detail))

    def make(rows):
      frames = make_frames(subject, self._poses, frame_ids[rows])
      motion = jax.tree.map(lambda x: x[rows], motions)
      arguments = shard(((codes.speech[rows], codes.rest[rows], self._times(frame_ids[rows])), frames, motion))
      return (self._at_poses, self._variables, self._constants, detail, stage, *arguments)
    return self._batches(len(frame_ids), make)

  def from_speech_at_poses(self, frame_ids: np.ndarray, audio_feat: np.ndarray | Windows, target_from_canonical: np.ndarray
                           ) -> Iterator[Prediction]:
    """As `from_speech`, each frame's head then moved to its pose in `target_from_canonical` [n, 4, 4]."""
    return self.from_codes_at_poses(frame_ids, self.speech_only(self.codes(audio_feat)), target_from_canonical)

  def from_lips(self, frame_ids: np.ndarray, rgb_lip_of_rows) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] with given canonical lips: rgb_lip_of_rows(rows) → [b, h, w, 3] float32 in 0 … 1."""
    def make(rows):
      frames = make_frames(self._subject, self._poses, frame_ids[rows])
      arguments = shard((rgb_lip_of_rows(rows), frames))
      return (self._from_lips, self._variables, self._constants, *arguments)
    return self._batches(len(frame_ids), make)
