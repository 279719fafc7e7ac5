"""Audio embeddings → pictures: the pmapped forward pass, in batches, over any number of frames.

Frames stream: only a few batches are ever in memory. A field with a time input is given the index of the middle training frame
for every frame (`config.field.render_time`): the index of a background frame says nothing about new speech, and the index of a
held-out frame would tell the field which training frames were its neighbours.
"""
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.common.devices import replicate, shard, unreplicate
from speech2lip_jax.common.pool import mapped
from speech2lip_jax.data.dataset import Subject, View, split_frames
from speech2lip_jax.data.input_pipeline import Frames, prefetch
from speech2lip_jax.data.tracks import FeatureWindows
from speech2lip_jax.gamem.subject import SubjectConstants, view_geometry
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.rendering import head_motion, real_detail, silence
from speech2lip_jax.rendering.forward import forward_of
from speech2lip_jax.rendering.jaw import Jaw

EMBEDDING_BATCH = 256  # windows at once


def _rows_at_once(count: int) -> Iterator[np.ndarray]:
  """Batches of the rows 0 … count − 1, the last filled with its last row: one shape, one compilation."""
  for start in range(0, count, EMBEDDING_BATCH):
    yield np.minimum(np.arange(start, start + EMBEDDING_BATCH), count - 1)


class Prediction(NamedTuple):
  """One picture. rgb_face: [H, W, 3] uint8. mask_mouth: [H, W] bool, pixels whose C2O falls in the lip box.

  window: (top, left, height, width) pixels, the part that was composed; jaw: the same of the part that may have moved with the
  jaw, None where nothing moved. Of a moved head, both are where they were before it moved.
  """
  rgb_face: np.ndarray
  mask_mouth: np.ndarray
  window: tuple[int, int, int, int]
  jaw: tuple[int, int, int, int] | None


class _Window(NamedTuple):
  """What comes back from the device of one picture, and what it lies in.

  rgb: [h, w, 3] uint8 and mask_mouth: [h, w] bool, of the window, or of the whole picture. box, jaw: as `Prediction.window` and
  `Prediction.jaw`. rgb_face: [H, W, 3] uint8 that the window is pasted into, None where it is the whole.
  """
  rgb: np.ndarray
  mask_mouth: np.ndarray
  box: tuple[int, int, int, int]
  jaw: tuple[int, int, int, int] | None
  rgb_face: np.ndarray | None


def _pasted(window: _Window) -> Prediction:
  rgb, mask_mouth, (top, left, height, width), jaw, rgb_face = window
  if rgb_face is not None:
    inside = slice(top, top + height), slice(left, left + width)
    rgb, mask_mouth = rgb_face.copy(), np.zeros(rgb_face.shape[:2], bool)
    rgb[inside], mask_mouth[inside] = window.rgb, window.mask_mouth
  return Prediction(rgb, mask_mouth, window.box, jaw)


class Backdrop(NamedTuple):
  """The N pictures that mouths are painted on.

  view: how they show the head. read: picture ids [n] → [n, H, W, 3] uint8. jaw: moves their lower faces, or None. tone: [h, w, 3]
  float32, by which canonical lips are multiplied to have these pictures' light.
  """
  view: View
  read: Callable[[np.ndarray], np.ndarray]
  jaw: Jaw | None
  tone: np.ndarray

  @classmethod
  def of_subject(cls, subject: Subject, jaw: Jaw | None, lip_size: tuple[int, int]) -> 'Backdrop':
    """The subject's own frames. lip_size: `Geometry.lip_size`."""
    return cls(View.of_subject(subject), lambda frame_ids: subject.frames[frame_ids], jaw, np.ones((*lip_size, 3), np.float32))


class Predictor:
  """Renders frames of a subject with one set of weights on all local devices."""

  def __init__(self, model: Speech2Lip, variables: Any, constants: SubjectConstants, subject: Subject,
               batch_size: int = 8, with_blend_net: bool = True, jaw: Jaw | None = None,
               detail: real_detail.RealDetail | None = None):
    """variables: {'params', 'batch_stats'}. batch_size: frames a device takes at once. with_blend_net: pictures are refined.
    jaw: moves the frames' jaws, if given. detail: of real mouths, which painted ones get, if given."""
    self._model = model.clone(axis_name=None)
    self._forward = forward_of(self._model)
    self.with_blend_net = with_blend_net
    self._subject, self.backdrop = subject, Backdrop.of_subject(subject, jaw, model.geometry.lip_size)
    self._num_devices, self._batch_size = jax.local_device_count(), batch_size
    self._constants, self._tone, self._detail = replicate((constants, self.backdrop.tone, detail))
    self.set_variables(variables)
    self._middle_frame_id = None
    if model.config.field.use_time and model.config.field.render_time == 'middle':
      self._middle_frame_id = self._middle_of_training()

  def on(self, backdrop: Backdrop) -> 'Predictor':
    """Paints on other pictures of the subject, by the same weights, without Blend-Net, which knows pictures of one size.

    Frame ids are then those of the backdrop. A field with a time input is given the middle training frame's.
    """
    other, geometry = copy.copy(self), view_geometry(backdrop.view, self._subject, 0.0)
    other._model, other.with_blend_net, other.backdrop = self._model.clone(geometry=geometry), False, backdrop
    other._tone = replicate(backdrop.tone)
    other._middle_frame_id = self._middle_of_training()
    other._forward = forward_of(other._model)
    return other

  def _middle_of_training(self) -> int:
    train_ids = split_frames(self._subject, self._model.config.data).train
    return train_ids[len(train_ids) // 2]

  def set_variables(self, variables: Any) -> None:
    """Takes other weights of the same shapes, without compiling again."""
    self._variables = replicate(variables)

  def _batches(self, frame_ids: np.ndarray, moves_jaw: bool, make) -> Iterator[Prediction]:
    """Calls a pmapped function on batches of frames; the last one is padded, and the padding dropped. Threads paste the windows.

    make(rows) → the frames [b, H, W, 3] uint8 that its windows are to be pasted into, on the host, or None where it returns whole
    frames; the function; its arguments.
    """
    size, num_frames = self._num_devices * self._batch_size, len(frame_ids)
    jaw = self.backdrop.jaw
    jaws = [jaw.part_of_frame(i) if jaw and moves_jaw else None for i in frame_ids]
    starts = range(0, num_frames, size)
    rows_of = lambda start: np.minimum(np.arange(start, start + size), num_frames - 1)

    def windows():
      pending = None
      for start, arguments in zip(starts, prefetch(lambda s: make(rows_of(s)), starts, 2), strict=True):
        rgb_face, function, *values = arguments
        result = function(*values)
        if pending is not None:
          yield from self._unpack(*pending)
        pending = (result, rgb_face, jaws[start:start + size])  # the device works on it while the last one is used
      if pending is not None:
        yield from self._unpack(*pending)

    return mapped(_pasted, windows())

  def _unpack(self, result, rgb_face: np.ndarray | None, jaws: list[tuple[int, int, int, int] | None]) -> Iterator[_Window]:
    rgb, mask, origin = (x.reshape(-1, *x.shape[2:]) for x in jax.device_get(result))
    for i, jaw in enumerate(jaws):
      box = (*origin[i].tolist(), *self._model.geometry.window)
      yield _Window(rgb[i], mask[i], box, jaw, None if rgb_face is None else rgb_face[i])

  def audio_embeddings(self, audio_feat: np.ndarray | FeatureWindows) -> np.ndarray:
    """The audio embedding of each window, and what stands behind it: [n, T, C] → [n, A] float32."""
    num_frames, variables = audio_feat.shape[0], unreplicate(self._variables)
    parts = [jax.device_get(self._forward.embed(variables, audio_feat[rows])) for rows in _rows_at_once(num_frames)]
    return np.concatenate(parts)[:num_frames]

  def openings(self, audio_embedding: np.ndarray) -> np.ndarray:
    """How far lips painted from audio embeddings [n, A] are open, in units of `LipOpening`: [n] float32."""
    variables, constants = unreplicate((self._variables, self._constants))
    times = self._times(np.zeros(EMBEDDING_BATCH, np.int32))
    parts = [jax.device_get(self._forward.measure(variables, constants, audio_embedding[rows], times))
             for rows in _rows_at_once(len(audio_embedding))]
    return np.concatenate(parts)[:len(audio_embedding)]

  def true_openings(self, frame_ids: np.ndarray) -> np.ndarray:
    """The same of the subject's own lips in frames [n]: [n] float32."""
    probe, mean = unreplicate((self._variables['params']['lip_opening']['probe'], self._constants.rgb_lip_mean))
    lips = self._subject.rgb_lip_canonical[frame_ids].reshape(len(frame_ids), -1).astype(np.float32) / 255
    return (lips - np.asarray(mean).ravel()) @ np.asarray(probe).ravel()

  def resting_mouth(self, train_ids: np.ndarray, audio_feat_of: Callable[[np.ndarray], np.ndarray]) -> silence.RestingMouth:
    """The mouth that the subject has in silence, found in the training frames by their speech windows."""
    frame_ids = silence.closed_frames(self._subject, train_ids)
    rgb_lip = self._subject.rgb_lip_canonical[frame_ids].mean(0, dtype=np.float32) / 255
    audio_embedding = self.audio_embeddings(audio_feat_of(frame_ids)).mean(0)
    plain = self.mouths_of(audio_embedding[None])._replace(rest=np.ones(1, np.float32))  # at rest no real detail is added
    return silence.RestingMouth(audio_embedding, rgb_lip - self._paint(plain, self._times(frame_ids[:1]))[0])

  def mouths_of(self, audio_embedding: np.ndarray) -> silence.Mouths:
    """The mouths of audio embeddings [n, num_features], none of them closed in silence."""
    nothing = np.zeros((*self._model.geometry.lip_size, 3), np.float32)
    return silence.Mouths(audio_embedding, np.zeros(len(audio_embedding), np.float32), nothing)

  def _frames(self, frame_ids: np.ndarray, shapes: np.ndarray | None) -> Frames:
    """Frames [b], their lower faces of those shapes [b, K]."""
    view, read, jaw, _ = self.backdrop
    rgb_face = np.ascontiguousarray(read(frame_ids))
    if jaw and shapes is not None:
      rgb_face = jaw.move(rgb_face, frame_ids, shapes)
    return Frames(rgb_face, view.observed_from_canonical[frame_ids])

  def _shapes(self, frame_ids: np.ndarray, mouths: silence.Mouths) -> Callable[[np.ndarray], np.ndarray | None]:
    """Rows [b] → the shapes [b, K] of the lower faces that go with those of mouths [n], painted when they are asked for."""
    jaw, times, count = self.backdrop.jaw, self._times(frame_ids), len(frame_ids)
    if jaw is None:
      return lambda rows: None

    @functools.lru_cache(maxsize=2)  # rows come in order
    def shapes(part: int) -> np.ndarray:
      rows = slice(part * EMBEDDING_BATCH, min((part + 1) * EMBEDDING_BATCH, count))
      some = silence.Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)
      return jaw.motion.shapes(self._painted(times[rows], some))
    return lambda rows: np.stack([shapes(row // EMBEDDING_BATCH)[row % EMBEDDING_BATCH] for row in rows.tolist()])

  def from_mouths(self, frame_ids: np.ndarray, mouths: silence.Mouths, with_blend_net: bool | None = None, with_jaw: bool = True
                  ) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] of the subject with these mouths. with_blend_net: as this predictor does, if not given."""
    with_blend_net = self.with_blend_net if with_blend_net is None else with_blend_net
    residual = replicate(mouths.residual)
    shapes = self._shapes(frame_ids, mouths)

    def make(rows):
      frames = self._frames(frame_ids[rows], shapes(rows) if with_jaw else None)
      arguments = shard(((mouths.audio_embedding[rows], mouths.rest[rows], self._times(frame_ids[rows])), frames))
      return (frames.rgb_face_observed, self._forward.from_mouths, self._variables, self._constants, self._tone, self._detail,
              residual, *arguments, with_blend_net)
    return self._batches(frame_ids, with_jaw, make)

  def from_speech(self, frame_ids: np.ndarray, audio_feat: np.ndarray | FeatureWindows) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] of the subject saying `audio_feat` [n, T, C], each by itself."""
    return self.from_mouths(frame_ids, self.mouths_of(self.audio_embeddings(audio_feat)))

  def _times(self, frame_ids: np.ndarray) -> np.ndarray:
    """The frame indices that the field's time input is given, [n] int32."""
    if self._middle_frame_id is not None:
      frame_ids = np.full(len(frame_ids), self._middle_frame_id)
    return frame_ids.astype(np.int32)

  def _paint(self, mouths: silence.Mouths, frame_id: np.ndarray) -> np.ndarray:
    variables, constants, detail = unreplicate((self._variables, self._constants, self._detail))
    return jax.device_get(self._forward.paint(variables, constants, detail, mouths, frame_id))

  def _painted(self, times: np.ndarray, mouths: silence.Mouths) -> np.ndarray:
    """`painted_lips` at time inputs [n]."""
    parts = []
    for rows in _rows_at_once(len(times)):
      part = silence.Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)
      parts.append(np.round(np.clip(self._paint(part, times[rows]), 0, 1) * 255).astype(np.uint8))
    return np.concatenate(parts)[:len(times)]

  def painted_lips(self, frame_ids: np.ndarray, mouths: silence.Mouths) -> np.ndarray:
    """The canonical lips of `mouths`, not composed: [n, h, w, 3] uint8."""
    return self._painted(self._times(frame_ids), mouths)

  def depth(self) -> np.ndarray:
    """D_c [h, w] with its learned correction, head units."""
    return jax.device_get(self._forward.read_depth(*unreplicate((self._variables, self._constants))))

  def from_mouths_at_poses(self, frame_ids: np.ndarray, mouths: silence.Mouths, target_from_canonical: np.ndarray,
                           film_ids: np.ndarray) -> Iterator[Prediction]:
    """As `from_mouths`, each frame's head then moved to its pose in `target_from_canonical` [n, 4, 4].

    film_ids: [N] all frames of the film that these are of; they show what lies behind the head.
    """
    subject = self._subject
    stage = head_motion.prepare(subject, jnp.asarray(self.depth()), film_ids)
    motions = head_motion.motions(subject.observed_from_canonical[frame_ids], target_from_canonical, np.asarray(stage.layer.centre))
    stage, residual = replicate((stage, mouths.residual))
    shapes = self._shapes(frame_ids, mouths)

    def make(rows):
      frames = self._frames(frame_ids[rows], shapes(rows))
      motion = jax.tree.map(lambda x: x[rows], motions)
      arguments = shard(((mouths.audio_embedding[rows], mouths.rest[rows], self._times(frame_ids[rows])), frames, motion))
      return (None, self._forward.at_poses, self._variables, self._constants, self._tone, self._detail, residual, stage, *arguments,
              self.with_blend_net)
    return self._batches(frame_ids, True, make)

  def from_lips(self, frame_ids: np.ndarray, rgb_lip_of_rows) -> Iterator[Prediction]:
    """Frames `frame_ids` [n] with given canonical lips: rgb_lip_of_rows(rows) → [b, h, w, 3] float32 in 0 … 1."""
    jaw = self.backdrop.jaw

    def make(rows):
      rgb_lip = rgb_lip_of_rows(rows)
      frames = self._frames(frame_ids[rows], jaw.motion.shapes(rgb_lip) if jaw else None)
      arguments = shard((rgb_lip, frames))
      return (frames.rgb_face_observed, self._forward.from_lips, self._variables, self._constants, *arguments)
    return self._batches(frame_ids, True, make)
