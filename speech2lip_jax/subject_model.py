"""A subject's geometry and constants for the model, computed from its folder, and the model built on them."""
import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from scipy import ndimage

from speech2lip_jax.data.dataset import Subject, mean_lips
from speech2lip_jax.errors import InputError
from speech2lip_jax.models.speech2lip import AUDIO_NETS, FIELDS, SAMPLINGS, Geometry, Speech2Lip, SubjectConstants
from speech2lip_jax.ops import warp

BLEND_STRIDE = 4  # Blend-Net halves its picture twice


def _lip_extent_observed(subject: Subject) -> np.ndarray:
  """Largest (height, width) in pixels that the lip box takes in any frame, from the corners and edges of the box."""
  meta, box = subject.meta, subject.meta.lip_box
  xs, ys = np.meshgrid(np.linspace(box.left, box.left + box.width - 1, 5).round().astype(int),
                       np.linspace(box.top, box.top + box.height - 1, 5).round().astype(int))
  points = np.stack([xs.ravel(), ys.ravel()], -1).astype(np.float32)
  project = lambda pose: warp.observed_points(points, subject.depth_canonical, pose, meta.focal_px,
                                             meta.canonical_scale)
  pixels = np.asarray(jax.jit(jax.vmap(project))(subject.observed_from_canonical))
  extent = pixels.max(1) - pixels.min(1)
  return extent.max(0)[::-1]


def subject_geometry(subject: Subject, config: ConfigDict) -> Geometry:
  """Static shapes: the window holds the lip box of every frame, plus `config.blend.context` on each side."""
  meta = subject.meta
  context = config.blend.context * meta.width
  size = np.ceil((_lip_extent_observed(subject) + 1 + 2 * context) / BLEND_STRIDE).astype(int) * BLEND_STRIDE
  window = (min(int(size[0]), meta.height), min(int(size[1]), meta.width))
  return Geometry(meta.height, meta.width, meta.lip_box, window, meta.focal_px, meta.canonical_scale)


def subject_constants(subject: Subject, train_ids: np.ndarray) -> SubjectConstants:
  """What the model reads besides frames; the mean lips are of the training frames only."""
  meta = subject.meta
  height, width = meta.canonical_size
  rows, columns = np.mgrid[:height, :width].astype(np.float32)
  coords = (np.stack([columns, rows], -1) + 0.5) / meta.canonical_scale - 0.5
  frame = subject.frames[meta.canonical_frame].astype(np.float32) / 255
  mask_face = np.asarray(subject.mask_face_canonical) > 0
  mask_head = np.asarray(subject.mask_head_canonical) > 0
  rim = 0.05 * meta.canonical_size[1]
  outside_face = np.clip(ndimage.distance_transform_edt(~mask_face) / rim, 0, 1)
  # The canonical frame seen at its own pose: O2C is then the enlargement alone.
  rgb_face_canonical = np.asarray(warp.sample_image(frame, coords, 'bicubic', 'border')).clip(0, 1)
  return SubjectConstants(
      depth_tracked=np.asarray(subject.depth_canonical, np.float32),
      outside_face=outside_face.astype(np.float32),
      mask_head_only=(mask_head & ~mask_face).astype(np.float32),
      rgb_face_canonical=rgb_face_canonical,
      rgb_lip_mean=mean_lips(subject, train_ids))


def build_model(subject: Subject, config: ConfigDict, axis_name: str | None = None) -> Speech2Lip:
  """The model for this subject.

  Raises:
    InputError: a config value does not fit the model.
  """
  if config.audio.window_steps not in (16, 32, 64):
    raise InputError(f'config.audio.window_steps={config.audio.window_steps}: must be 16, 32 or 64')
  if config.audio.network not in AUDIO_NETS:
    raise InputError(f'config.audio.network={config.audio.network!r} is not known; one of {", ".join(map(repr, AUDIO_NETS))}')
  for name, value, known in (('field.kind', config.field.kind, FIELDS), ('compose.sampling', config.compose.sampling, SAMPLINGS)):
    if value not in known:
      raise InputError(f'config.{name}={value!r} is not known; one of {", ".join(map(repr, known))}')
  if config.field.kind == 'decoder':  # it knows no place between pixels, and no time
    for name, value, wanted in (('compose.sampling', config.compose.sampling, 'grid'),
                                ('field.ensemble', config.field.ensemble, False), ('field.use_time', config.field.use_time, False)):
      if value != wanted:
        raise InputError(f"config.{name}={value!r}: must be {wanted!r} with config.field.kind='decoder', which paints pixels alone")
  return Speech2Lip(FrozenConfigDict(config), subject_geometry(subject, config), axis_name)
