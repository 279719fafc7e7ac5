"""Putting lips into frames: ours, and the reference program's for parity.

Images [H, W, 3] float32 RGB 0..1. Canonical coordinates are pixels (x, y) of the canonical image, pixel centres at
integers.
"""
import jax
import jax.numpy as jnp

from speech2lip_jax.data.schema import LipBox
from speech2lip_jax.ops import warp


def smoothstep(fraction: jax.Array) -> jax.Array:
  """3t² − 2t³ of t clipped to 0..1."""
  t = jnp.clip(fraction, 0.0, 1.0)
  return t * t * (3 - 2 * t)


def lip_mask(coords_canonical: jax.Array, lip_size: tuple[int, int], lip_box_top_left: jax.Array, feather_px: float
             ) -> jax.Array:
  """Blending weight [...] of canonical points: 1 well inside the lip box, smoothly 0 at its rim and beyond.

  Args:
    coords_canonical: [..., 2] float32 (x, y) pixels of the canonical image.
    lip_size: (height, width) of the lip box. Its rim is half a pixel outside its outermost pixel centres.
    lip_box_top_left: (top, left) pixels.
    feather_px: width of the fall, canonical pixels; 0 gives a hard edge.
  """
  height, width = lip_size
  top, left = lip_box_top_left
  x, y = coords_canonical[..., 0] - left, coords_canonical[..., 1] - top
  feather = max(feather_px, 1e-6)
  inside_x = smoothstep(jnp.minimum(x + 0.5, width - 0.5 - x) / feather)
  inside_y = smoothstep(jnp.minimum(y + 0.5, height - 0.5 - y) / feather)
  return inside_x * inside_y


def read_lips(rgb_lip: jax.Array, coords_canonical: jax.Array, lip_box: LipBox) -> jax.Array:
  """A canonical lip image [h, w, C] read at canonical points [..., 2] by a cubic spline: [..., C]; it may overshoot its range."""
  corner = jnp.array([lip_box.left, lip_box.top])
  return warp.sample_image(warp.spline_coefficients(rgb_lip), coords_canonical - corner, 'bspline', 'border')


def merge_lips(lips: jax.Array, window: jax.Array, coords_canonical: jax.Array, lip_box: LipBox, feather_px: float) -> jax.Array:
  """Puts lips into a window of the observed frame, feathered at the lip box's rim.

  Args:
    lips: [hw, ww, 3] float32, the lips' colour at each pixel of the window.
    window: [hw, ww, 3] float32, the frame's own pixels.
    coords_canonical: [hw, ww, 2] float32 C2O of the window's pixels.
    lip_box: in pixels of the canonical image.
    feather_px: see `lip_mask`.

  Returns:
    [hw, ww, 3] float32; the window itself outside the lip box.
  """
  mask = lip_mask(coords_canonical, (lip_box.height, lip_box.width), (lip_box.top, lip_box.left), feather_px)
  return window + mask[..., None] * (lips - window)


def mouth_region(coords_canonical: jax.Array, lip_box: LipBox) -> jax.Array:
  """The mouth region [...] bool: points [..., 2] whose C2O falls on a pixel of the lip box."""
  x, y = coords_canonical[..., 0], coords_canonical[..., 1]
  inside_x = (x >= lip_box.left - 0.5) & (x < lip_box.left + lip_box.width - 0.5)
  return inside_x & (y >= lip_box.top - 0.5) & (y < lip_box.top + lip_box.height - 0.5)


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


def reference_merge(rgb_lip: jax.Array, rgb_face_canonical: jax.Array, rgb_face_observed: jax.Array,
                    mask_lip: jax.Array, grid: jax.Array, lip_box_top_left: tuple[int, int], offset_px: int,
                    expand_divisor: int | None,
                    noise: tuple[jax.Array, jax.Array] | None = None, mask_face: jax.Array | None = None
                    ) -> tuple[jax.Array, jax.Array]:
  """The reference program's composition: paste, warp, mix. One sample; callers vmap.

  The rectangle in which the warped image counts is clipped at the image's border; the reference program drops it whole.

  Args:
    rgb_lip: [h, w, 3] float32.
    rgb_face_canonical: [H, W, 3] float32.
    rgb_face_observed: [H, W, 3] float32, the true frame.
    mask_lip: [H, W, 3] float32, canonical.
    grid: [H, W, 2] float32 C2O of every pixel, −1..1 (align_corners=False), zeros read outside.
    lip_box_top_left: (top, left) pixels of the canonical face.
    offset_px: added to both when pasting: 0, or −1 for the reference program's default.
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
  coords = warp.pixels_from_grid(grid, height, width)
  pasted = warp.sample_image(merged_canonical, coords)
  mask = (warp.sample_image(mask, coords) != 0).astype(jnp.float32)
  frame = rgb_face_observed
  if noise is not None:
    keep = [jnp.where(mask_face == 0, 1.0, (draw[..., None] >= 1e-6).astype(jnp.float32)) for draw in noise]
    pasted, frame = keep[0] * pasted + (1 - keep[0]) * frame, keep[1] * frame + (1 - keep[1]) * pasted
  return merged_canonical, mask * pasted + (1 - mask) * frame
