"""A subject's geometry and constants for the model, computed from its folder."""
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from speech2lip_jax.data.dataset import Subject, View, mean_lips
from speech2lip_jax.gamem import mapping
from speech2lip_jax.models.lip_field import pixel_coords
from speech2lip_jax.ops import sampling
from speech2lip_jax.ops.boxes import LipBox


class Place(NamedTuple):
  """Where one subject's lips are, in numbers that a compiled function may take as arrays (`Geometry.at`)."""
  lip_box: LipBox
  focal: float
  lip_pixel: float


class Geometry(NamedTuple):
  """What is static about a subject: shapes, so that one compilation serves all its frames.

  lip_size: rows and columns of canonical lip images: those of the box, or more; what is then below it and to its right carries
  its border on. lip_proportion: width over height of the pictures that a perceptual network sees of lips. window: (height,
  width) in pixels of the part of a frame that is composed and blended; it holds the lips of every frame with their context.
  focal: of the frame, pixels. canonical_scale: canonical over observed size. lip_pixel: side in canonical pixels of a pixel of
  the pictures that canonical lips were read from, at least 1.
  """
  height: int
  width: int
  lip_box: LipBox
  lip_size: tuple[int, int]
  lip_proportion: float
  window: tuple[int, int]
  focal: float
  canonical_scale: float
  lip_pixel: float

  @property
  def place(self) -> Place:
    """The numbers that are no shapes."""
    return Place(self.lip_box, self.focal, self.lip_pixel)

  def at(self, place: Place | None) -> 'Geometry':
    """These shapes with the numbers of `place`, arrays too; as it is without."""
    return self if place is None else self._replace(**place._asdict())

  @property
  def lip_blur(self) -> jax.Array:
    """The share of each neighbour (`sampling.blur`) that makes canonical lips as coarse as a frame, which samples them sparsely.

    Its variance is what a frame's pixel has more than one that the lips were read from: boxes of canonical_scale and lip_pixel.
    """
    return jnp.maximum(0.0, self.canonical_scale**2 - self.lip_pixel**2) / 24


class SubjectConstants(NamedTuple):
  """What is constant over a subject's frames and travels to the device once.

  depth_tracked: [sH, sW] head units. outside_face: [sH, sW] 0 on the face … 1. mask_head_only: [sH, sW] 1 on head
  without face. rgb_face_canonical: [sH, sW, 3]. rgb_lip_mean: [h, w, 3]. lip_coords: [h, w, 2] field
  coordinates of the lips' pixels. (s: canonical scale.) place: where the lips are, for a model that was built for the shapes of
  several subjects.
  """
  depth_tracked: jax.Array
  outside_face: jax.Array
  mask_head_only: jax.Array
  rgb_face_canonical: jax.Array
  rgb_lip_mean: jax.Array
  lip_coords: jax.Array
  place: Place | None = None


BLEND_STRIDE = 4  # Blend-Net halves its picture twice


def _lip_extent_observed(view: View, box: LipBox, depth_canonical: np.ndarray) -> np.ndarray:
  """Largest (height, width) in pixels that the lip box takes in any picture, from the corners and edges of the box."""
  xs, ys = np.meshgrid(np.linspace(box.left, box.left + box.width - 1, 5).round().astype(int),
                       np.linspace(box.top, box.top + box.height - 1, 5).round().astype(int))
  points = jnp.stack([xs.ravel(), ys.ravel()], -1).astype(jnp.float32)
  depth = jnp.asarray(depth_canonical)
  project = lambda pose: mapping.observed_points(points, depth, pose, view.focal, view.canonical_scale)
  pixels = jax.device_get(jax.jit(jax.vmap(project))(view.observed_from_canonical))
  extent = pixels.max(1) - pixels.min(1)
  return extent.max(0)[::-1]


def subject_geometry(subject: Subject, config: ConfigDict) -> Geometry:
  """Static shapes: the window holds the lip box of every frame, plus `config.blend.context` on each side."""
  meta = subject.meta
  return view_geometry(View.of_subject(subject), subject, config.blend.context * meta.width)


def view_geometry(view: View, subject: Subject, context: float) -> Geometry:
  """Static shapes of a view of a subject: the window holds the lip box of every picture, plus `context` pixels on each side."""
  box = subject.meta.lip_box
  extent = _lip_extent_observed(view, box, subject.depth_canonical)
  size = np.ceil((extent + 1 + 2 * context) / BLEND_STRIDE).astype(int) * BLEND_STRIDE
  window = (min(int(size[0]), view.height), min(int(size[1]), view.width))
  return Geometry(view.height, view.width, box, (box.height, box.width), box.width / box.height, window, view.focal,
                  view.canonical_scale, _lip_pixel(subject))


def _lip_pixel(subject: Subject) -> float:
  """`Geometry.lip_pixel`: lips of format 1, and those no larger than the frames, were read from the frames."""
  meta = subject.meta
  if subject.crop is None or meta.canonical_scale == 1:
    return meta.canonical_scale
  return max(1.0, meta.canonical_size[1] / float(np.median(subject.crop[:, 2])))


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
  rgb_face_canonical = sampling.sample_image(jnp.asarray(frame), jnp.asarray(coords), 'bicubic', 'border').clip(0, 1)
  return SubjectConstants(
      depth_tracked=jnp.asarray(subject.depth_canonical, jnp.float32),
      outside_face=jnp.asarray(outside_face, jnp.float32),
      mask_head_only=jnp.asarray(mask_head & ~mask_face, jnp.float32),
      rgb_face_canonical=rgb_face_canonical,
      rgb_lip_mean=jnp.asarray(mean_lips(subject, train_ids)),
      lip_coords=pixel_coords(meta.lip_box.height, meta.lip_box.width).reshape(meta.lip_box.height, meta.lip_box.width, 2))


def lip_points(subject: Subject) -> Callable[[np.ndarray], jax.Array]:
  """Where a frame shows the pixels of the lip box, by the tracked depth: its pose [4, 4] → (x, y) pixels [h, w, 2] float32."""
  meta, box = subject.meta, subject.meta.lip_box
  rows, columns = np.mgrid[box.top:box.top + box.height, box.left:box.left + box.width].astype(np.float32)
  grid, depth = jnp.stack([columns, rows], -1), jnp.asarray(subject.depth_canonical)
  return jax.jit(lambda pose: mapping.observed_points(grid, depth, pose, meta.focal_px, meta.canonical_scale))
