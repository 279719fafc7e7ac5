"""Putting lips into frames: the window of a frame that is composed, its mask, its rim, and pasting it back.

Images [H, W, 3] float32 RGB 0..1. Canonical coordinates are pixels (x, y) of the canonical image, pixel centres at integers.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.ops import sampling
from speech2lip_jax.ops.boxes import LipBox, smoothstep


class MouthWindows(NamedTuple):
  """Where B frames are composed. origin: [B, 2] int32 (top, left) in the frame. observed: [B, wh, ww, 3], the true frame's
  window. coords: [B, wh, ww, 2], C2O of its pixels: (x, y) pixels of the canonical image.
  """
  origin: jax.Array
  observed: jax.Array
  coords: jax.Array


class Composition(NamedTuple):
  """The window of B frames. origin: [B, 2] int32 (top, left) in the frame. observed: the true frame's window.

  merged: lips carried in, before Blend-Net. All images [B, wh, ww, 3]. mask_mouth: [B, wh, ww] bool, pixels whose
  C2O falls in the lip box.
  """
  origin: jax.Array
  observed: jax.Array
  merged: jax.Array
  mask_mouth: jax.Array


def window_fade(height: int, width: int, edge: float) -> np.ndarray:
  """Weight of the blended picture in the window: [height, width, 1] float32, 0 at the rim, 1 from `edge` pixels on."""
  def ramp(size):
    distance = np.minimum(np.arange(size), np.arange(size)[::-1])
    return np.clip(distance / max(edge, 1.0), 0, 1)
  return np.minimum(ramp(height)[:, None], ramp(width)[None])[..., None].astype(np.float32)


def paste_windows(rgb_face_observed: jax.Array, windows: jax.Array, origin: jax.Array) -> jax.Array:
  """Frames [B, H, W, 3] with windows [B, wh, ww, 3] put at origin [B, 2] (top, left); every other pixel untouched."""
  paste = lambda frame, window, at: jax.lax.dynamic_update_slice(frame, window, (at[0], at[1], 0))
  return jax.vmap(paste)(rgb_face_observed, windows, origin)


def lip_mask(coords_canonical: jax.Array, lip_size: tuple[int, int], lip_box_top_left: tuple[int, int], feather_px: float
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
  feather = jnp.maximum(feather_px, 1e-6)
  inside_x = smoothstep(jnp.minimum(x + 0.5, width - 0.5 - x) / feather)
  inside_y = smoothstep(jnp.minimum(y + 0.5, height - 0.5 - y) / feather)
  return inside_x * inside_y


def read_lips(rgb_lip: jax.Array, coords_canonical: jax.Array, lip_box: LipBox) -> jax.Array:
  """A canonical lip image [h, w, C] read at canonical points [..., 2] by a cubic spline: [..., C]; it may overshoot its range."""
  corner = jnp.array([lip_box.left, lip_box.top])
  return sampling.sample_image(sampling.spline_coefficients(rgb_lip), coords_canonical - corner, 'bspline', 'border')


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
