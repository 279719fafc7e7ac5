"""The depth D_c behind the warps (C2O) that the released program keeps for every frame. NumPy.

Pixels (x, y) with centres at integers; camera and units as in `ops.camera`.
"""
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from speech2lip_jax.ops import camera, fill

MAX_RESIDUAL = 1.0  # pixels: a C2O vector farther from its ray's image is no point of the head
DEPTH_RANGE = (0.5, 2.0)  # of the head's distance: the program gives depth 0 to what is not face
MIN_PARALLAX = 2.0  # pixels over all frames that a change of the depth by the head's distance would move a point
BEHIND_RIM = 0.4  # of the face's width: how far the depth falls back at the picture's border


def pixels_by_edges(grid: np.ndarray, height: int, width: int) -> np.ndarray:
  """Pixels [..., 2] of grid coords that count −1 … 1 from edge to edge, as they are sampled."""
  return ((grid + 1) * (width, height) - 1) / 2


def pixels_by_centres(grid: np.ndarray, height: int, width: int) -> np.ndarray:
  """Pixels [..., 2] of grid coords that count −1 … 1 from the first pixel's centre to the last's."""
  return (grid + 1) / 2 * (width - 1, height - 1)


def depth_from_coords(coords_canonical: Iterable[np.ndarray], poses: np.ndarray, focal_px: float, distance: float
                      ) -> tuple[np.ndarray, np.ndarray]:
  """D_c by the frames' C2O: each vector's depth along its ray, carried to canonical space, weighted by its parallax.

  Args:
    coords_canonical: of each frame [H, W, 2] pixels of the canonical image.
    poses: [F, 4, 4] their observed_from_canonical.
    focal_px: pixels.
    distance: of the head, head units: depths far from it are no head.

  Returns:
    depth: [H, W] float64, 0 where not known.
    parallax: [H, W] pixels², how far a change of the depth by `distance` would move the point, squared, over all frames.
  """
  total, height, width = np.zeros((4, 0)), 0, 0
  for coords, pose in zip(coords_canonical, poses, strict=True):
    height, width = coords.shape[:2]
    if not total.size:
      total = np.zeros((4, height * width))
    centre = np.array(camera.principal_point(height, width))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rays = np.stack([(x - centre[0]) / focal_px, (y - centre[1]) / focal_px, np.ones_like(x)], -1)
    inverse = np.linalg.inv(pose.astype(np.float64))
    turned, shift = rays @ inverse[:3, :3].T, inverse[:3, 3]
    target = (coords - centre) / focal_px
    # (d·turned + shift) projects to target: two equations, linear in d.
    slope = turned[..., :2] - target * turned[..., 2:]
    right = target * shift[2] - shift[:2]
    square = np.sum(slope**2, -1)
    observed = np.sum(slope * right, -1) / np.maximum(square, 1e-18)
    depth = observed * turned[..., 2] + shift[2]
    to_pixels = focal_px / np.maximum(depth, 1e-6)
    residual = np.linalg.norm(slope * observed[..., None] - right, axis=-1) * to_pixels
    weight = square * (to_pixels * distance)**2
    nearest = np.round(np.clip(coords, -2, max(height, width) + 2))
    column, row = np.moveaxis(nearest.astype(int), -1, 0)
    good = (observed > DEPTH_RANGE[0] * distance) & (observed < DEPTH_RANGE[1] * distance) & (residual < MAX_RESIDUAL)
    good &= (depth > DEPTH_RANGE[0] * distance) & (depth < DEPTH_RANGE[1] * distance)
    good &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index, share = (row * width + column)[good], weight[good]
    away_x, away_y = np.moveaxis((coords - nearest)[good], -1, 0)
    for i, values in enumerate((share, share * depth[good], share * away_x, share * away_y)):
      total[i] += np.bincount(index, values, minlength=height * width)
  parallax, *sums = total.reshape(4, height, width)
  known = parallax > MIN_PARALLAX**2
  depth, away_x, away_y = np.where(known, sums / np.maximum(parallax, 1e-18), 0.0)
  # What fell into a pixel did not fall on its centre: carried there along the surface's slope.
  slope_y, slope_x = np.gradient(depth)
  smooth = ndimage.binary_erosion(known)
  return depth - np.where(smooth, slope_x * away_x + slope_y * away_y, 0.0), parallax


def carry_on(depth: np.ndarray, known: np.ndarray, focal_px: float) -> np.ndarray:
  """D_c [H, W] float32 of the whole picture: `depth` where known, smoothly falling back behind the face towards the border."""
  rim = known & ~ndimage.binary_erosion(known)
  level = float(np.median(depth[rim]))
  face_width = np.ptp(np.nonzero(known.any(0))[0]) * level / focal_px
  values, fixed = np.where(known, depth, level + BEHIND_RIM * face_width), known.copy()
  fixed[[0, -1]] = fixed[:, [0, -1]] = True
  return np.asarray(fill.diffuse(jnp.asarray(values[..., None], jnp.float32), jnp.asarray(fixed))[..., 0])


def largest_part(known: np.ndarray) -> np.ndarray:
  """The largest connected part of `known` [H, W] bool, its holes closed."""
  closed = ndimage.binary_closing(np.pad(known, 4), iterations=2)[4:-4, 4:-4] | known
  parts, count = ndimage.label(closed)
  if count > 1:
    closed = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
  return ndimage.binary_fill_holes(closed)
