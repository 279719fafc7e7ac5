"""The released program's warp, paste and pixel conventions, and the camera of its head tracker: for parity and imports.

Images [H, W, C] float32 RGB 0..1, one sample at a time; callers vmap. A `grid` is −1..1 from edge to edge of the image.
"""

import jax
import jax.numpy as jnp

from speech2lip_jax.ops import camera, sampling
from speech2lip_jax.ops.camera import rigid
from speech2lip_jax.ops.sampling import _pixel_grid, pixels_from_grid, sample_image


def rotation_from_euler(euler: jax.Array) -> jax.Array:
  """R = Rx · Ry · Rz of the released program's head tracker, whose Rz turns clockwise.

  Args:
    euler: [..., 3] float32 radians about x, y, z.

  Returns:
    [..., 3, 3] float32 in the tracker's camera (y up, z backward).
  """
  (sx, sy, sz), (cx, cy, cz) = (jnp.moveaxis(wave(euler), -1, 0) for wave in (jnp.sin, jnp.cos))
  rows = [cy * cz, cy * sz, sy,
          sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, -sx * cy,
          -cx * sy * cz - sx * sz, -cx * sy * sz + sx * cz, cx * cy]
  return jnp.stack(rows, axis=-1).reshape(*euler.shape[:-1], 3, 3)


def observed_from_head_of_tracker(euler: jax.typing.ArrayLike, translation: jax.typing.ArrayLike) -> jax.Array:
  """Turns a pose of the released program's head tracker into ours, by reversing y and z of camera and head.

  Args:
    euler: [..., 3] float32 radians.
    translation: [..., 3] float32, tracker units, the head at negative z.

  Returns:
    observed_from_head [..., 4, 4] float32, the head at positive z.
  """
  flip = jnp.array([1, -1, -1], jnp.float32)
  return rigid(rotation_from_euler(jnp.asarray(euler) * flip), jnp.asarray(translation) * flip)


def _rectangle(height, width, top, left, bottom, right):
  """[H, W, 1] float32: 1 in rows top..bottom − 1 and columns left..right − 1, clipped at the image."""
  rows, columns = jnp.arange(height), jnp.arange(width)
  inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
  return inside[..., None].astype(jnp.float32)


def _paste(rgb_lip, height, width, top, left):
  """[H, W, 3]: rgb_lip with its corner at (top, left), zeros around; what falls outside the image is dropped."""
  lip_height, lip_width = rgb_lip.shape[:2]
  framed = jnp.zeros((height + 2 * lip_height, width + 2 * lip_width, 3), rgb_lip.dtype)
  framed = jax.lax.dynamic_update_slice(framed, rgb_lip, (top + lip_height, left + lip_width, 0))
  return framed[lip_height:lip_height + height, lip_width:lip_width + width]


def merge(rgb_lip: jax.Array, rgb_face_canonical: jax.Array, rgb_face_observed: jax.Array, mask_lip: jax.Array, grid: jax.Array,
          lip_box_top_left: jax.Array | tuple[int, int], offset_px: int, expand_divisor: int | None,
          noise: tuple[jax.Array, jax.Array] | None = None, mask_face: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
  """The released program's composition: paste, warp, mix. One sample; callers vmap.

  The rectangle in which the warped image counts is clipped at the image's border; the released program drops it whole.

  Args:
    rgb_lip: [h, w, 3] float32.
    rgb_face_canonical: [H, W, 3] float32.
    rgb_face_observed: [H, W, 3] float32, the true frame.
    mask_lip: [H, W, 3] float32, canonical.
    grid: [H, W, 2] float32 C2O of every pixel, −1..1 (align_corners=False), zeros read outside.
    lip_box_top_left: (top, left) pixels of the canonical face.
    offset_px: added to both when pasting: 0, or −1 for the released program's default.
    expand_divisor: the lip box is grown by p = w // expand_divisor at top, left, right and 2p at the bottom (5 or 12);
      None keeps `mask_lip`.
    noise: the black-hole augmentation's normal draws for pasted and true image, [H, W] each; None leaves it out.
    mask_face: [H, W, 3] float32, needed with noise: pixels at 0 never swap.

  Returns:
    merged_canonical: [H, W, 3] float32, the lips in the canonical face.
    merged: [H, W, 3] float32, Blend-Net's input.
  """
  height, width = rgb_face_canonical.shape[:2]
  lip_height, lip_width = rgb_lip.shape[:2]
  top, left = lip_box_top_left
  padded = _paste(rgb_lip, height, width, top + offset_px, left + offset_px)
  merged_canonical = mask_lip * padded + (1 - mask_lip) * rgb_face_canonical
  mask = mask_lip
  if expand_divisor is not None:
    grown = lip_width // expand_divisor
    mask = _rectangle(height, width, top - grown, left - grown, top + lip_height + 2 * grown, left + lip_width + grown)
  coords = sampling.pixels_from_grid(grid, height, width)
  pasted = sampling.sample_image(merged_canonical, coords)
  mask = (sampling.sample_image(mask, coords) != 0).astype(jnp.float32)
  frame = rgb_face_observed
  if noise is not None:
    keep = [jnp.where(mask_face == 0, 1.0, (draw[..., None] >= 1e-6).astype(jnp.float32)) for draw in noise]
    pasted, frame = keep[0] * pasted + (1 - keep[0]) * frame, keep[1] * frame + (1 - keep[1]) * pasted
  return merged_canonical, mask * pasted + (1 - mask) * frame


def pixel_coords(depth: jax.Array, transform: jax.Array, focal: jax.Array | float
                           ) -> tuple[jax.Array, jax.Array]:
  """Where the released program reads for each pixel of a depth map.

  Its principal point is (W/2, H/2), it divides by z + 1e-7, and it normalises by W − 1 what `warp` then reads
  as if it were normalised by W: a slip of up to half a pixel, kept for parity.

  Args:
    depth: [H, W] float32 along z.
    transform: [4, 4] rigid, camera of the depth map → camera of the image to read.
    focal: pixels.

  Returns:
    grid: [H, W, 2] float32, −1..1.
    z: [H, W] float32 depth in the camera of the image to read.
  """
  height, width = depth.shape
  centre = jnp.array([width / 2, height / 2], jnp.float32)
  rays = (_pixel_grid(height, width) - centre) / focal
  rays = jnp.concatenate([rays, jnp.ones_like(rays[..., :1])], axis=-1)
  points = camera.transform_points(transform, depth[..., None] * rays)
  z = points[..., 2]
  pixels = (focal * points[..., :2] + centre * z[..., None]) / (z[..., None] + 1e-7)
  return pixels / jnp.array([width - 1, height - 1], jnp.float32) * 2 - 1, z


def warp(image: jax.Array, depth: jax.Array, transform: jax.Array, focal: jax.Array | float) -> jax.Array:
  """The released program's warp [H, W, C] of `image` [H, W, C] to the view of `depth` [H, W]; bilinear, border."""
  grid, _ = pixel_coords(depth, transform, focal)
  return sample_image(image, pixels_from_grid(grid, *image.shape[:2]), outside='border')
