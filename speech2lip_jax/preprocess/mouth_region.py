"""What surrounds the mouth, small and in canonical space: whether something covers it, and in which light it is.

A region holds the lip box and as much of the face around it as is needed to see a hand, a microphone or a glass come in.
"""
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from speech2lip_jax.data.dataset import Subject, View, evenly_spaced
from speech2lip_jax.ops.boxes import LipBox
from speech2lip_jax.preprocess import projection

GRID = 24, 32  # rows and columns of a region
GROWN = 0.35  # of the lip box's width and height that a region reaches beyond it on each side
MAX_OWN, NUM_COMPONENTS = 400, 24  # frames that the usual regions are found from, and their principal components
FIRST_KEPT, ROUNDS = 0.6, 4  # share of these frames that are taken for uncovered at first, and how often they are chosen anew
FRAMES_A_COMPONENT = 6  # at least
LEAST_SCALE = 0.03  # of the usual brightness: differences below are noise
FAR, LEAST_SHARE = 4.0, 0.06  # times the usual difference from which on a point is strange; share of them that covers a mouth
USUAL_SHARES = 1.2  # times what the subject's own frames reach
LIGHT_BLUR = 0.2  # of a region's rows: light changes more slowly than that
MAX_LIGHT = 2.0  # a mouth is made at most that many times as light, or as dark
SHORT_GLIMPSE = 5  # frames: a mouth that is seen for less between two covers counts as covered


class Regions(NamedTuple):
  """Where regions lie in the canonical image: points [gh, gw, 2] (x, y) pixels; depth: [gh, gw] head units, there."""
  points: np.ndarray
  depth: np.ndarray

  @classmethod
  def of_subject(cls, subject: Subject) -> 'Regions':
    """Around the subject's lip box."""
    return cls.around(subject.meta.lip_box, np.asarray(subject.depth_canonical))

  @classmethod
  def around(cls, box: LipBox, depth: np.ndarray) -> 'Regions':
    """Around a lip box in the canonical image of that depth [sH, sW], head units."""
    reach = lambda first, size, count: np.linspace(first - GROWN * size, first + (1 + GROWN) * size - 1, count)
    xs, ys = np.meshgrid(reach(box.left, box.width, GRID[1]), reach(box.top, box.height, GRID[0]))
    xs, ys = np.clip(xs, 0, depth.shape[1] - 1), np.clip(ys, 0, depth.shape[0] - 1)
    return cls(np.stack([xs, ys], -1), ndimage.map_coordinates(depth, [ys, xs], order=1).astype(np.float64))

  def read(self, frames: np.ndarray, view: View, frame_ids: np.ndarray) -> np.ndarray:
    """The regions of some [n] of the frames [N, H, W, 3] uint8 of a subject folder: [n, gh, gw, 3] float32, 0 … 255.

    view: how the frames show the trained subject's head, by its field of view: their square, cut or continued to `view.width`.
    """
    coords = projection.observed_coords(self.points, self.depth, view.observed_from_canonical[frame_ids][:, None, None].astype(
        np.float64), view.focal, view.width, view.canonical_scale) - (view.width - frames.shape[2]) / 2
    blur = max(1, round(float(np.ptp(coords[0, 0, :, 0])) / GRID[1]))  # a point stands for all around it
    read = np.empty((len(frame_ids), *GRID, 3), np.float32)
    for region, frame_id, (xs, ys) in zip(read, frame_ids, np.moveaxis(coords, -1, 1).astype(np.float32), strict=True):
      picture = cv2.blur(frames[frame_id], (blur, blur))
      region[:] = cv2.remap(picture, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return read


class UsualRegions(NamedTuple):
  """The regions that a subject shows uncovered: mean [P], axes [P, K] and scale [gh, gw] of brightness; limit: the share of strange
  points that is not usual."""
  mean: np.ndarray
  axes: np.ndarray
  scale: np.ndarray
  limit: float

  @classmethod
  def of(cls, regions: np.ndarray) -> 'UsualRegions':
    """From a subject's own regions [n, gh, gw, 3], some of which may be covered."""
    flat = _in_usual_light(regions).reshape(len(regions), -1)
    usual = np.median(flat, 0)
    off = _misfit(flat, usual, np.zeros((flat.shape[1], 0))).mean((1, 2))
    kept = off <= np.quantile(off, FIRST_KEPT)
    for _ in range(ROUNDS):
      mean = flat[kept].mean(0)
      _, _, axes = np.linalg.svd(flat[kept] - mean, full_matrices=False)
      axes = axes[:min(NUM_COMPONENTS, kept.sum() // FRAMES_A_COMPONENT)].T
      off = _misfit(flat, mean, axes)
      scale = np.maximum(np.quantile(off[kept], 0.9, axis=0), LEAST_SCALE)
      shares = (off > FAR * scale).mean((1, 2))
      kept = shares <= max(LEAST_SHARE, float(np.quantile(shares, FIRST_KEPT)))
    return cls(mean, axes, scale, max(LEAST_SHARE, USUAL_SHARES * float(shares[kept].max())))

  def is_covered(self, regions: np.ndarray) -> np.ndarray:
    """Whether something covers the mouth or is close to it in regions [n, gh, gw, 3] of consecutive frames: [n] bool."""
    flat = _in_usual_light(regions).reshape(len(regions), -1)
    return (_misfit(flat, self.mean, self.axes) > FAR * self.scale).mean((1, 2)) > self.limit


def find_covered(regions: np.ndarray, is_interpolated: np.ndarray) -> np.ndarray:
  """Whether something covers the mouth or is close to it in a video's frames: [N] bool.

  regions: [N, gh, gw, 3] of all frames. is_interpolated: [N] bool, those without a detected face, which say nothing.
  """
  seen = np.flatnonzero(~is_interpolated)
  covered = UsualRegions.of(regions[evenly_spaced(seen, MAX_OWN)]).is_covered(regions)
  return ndimage.binary_closing(covered | is_interpolated, np.ones(SHORT_GLIMPSE)) & ~is_interpolated | covered


def _in_usual_light(regions: np.ndarray) -> np.ndarray:
  """Regions whose medians are 1 in each channel."""
  return regions / np.maximum(np.median(regions, (1, 2), keepdims=True), 1.0)


def _misfit(flat: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
  """How far regions [n, P] are from what the components can show: [n, gh, gw], the largest channel's."""
  off = flat - mean
  off = np.abs(off - off @ axes @ axes.T).reshape(-1, *GRID, 3).max(-1)
  return ndimage.uniform_filter(off, (0, 3, 3))


def light_ratio(trained: np.ndarray, other: np.ndarray) -> np.ndarray:
  """How much lighter another video is around the mouth than the trained one: [gh, gw, 3] float32, smooth.

  trained, other: regions [n, gh, gw, 3] and [m, gh, gw, 3], most of them uncovered.
  """
  blur = (LIGHT_BLUR * GRID[0], LIGHT_BLUR * GRID[0], 0)
  own, theirs = (ndimage.gaussian_filter(np.median(regions, 0), blur, mode='nearest') for regions in (trained, other))
  return np.clip((theirs + 1) / (own + 1), 1 / MAX_LIGHT, MAX_LIGHT)


def on_lips(ratio: np.ndarray, lip_size: tuple[int, int]) -> np.ndarray:
  """What [gh, gw, 3] of a region is at the pixels of the lip box, (h, w): [h, w, 3] float32."""
  rows, columns = (np.linspace(GROWN, 1 + GROWN, size) / (1 + 2 * GROWN) * (count - 1) for size, count in zip(lip_size, GRID))
  ys, xs = np.meshgrid(rows, columns, indexing='ij')
  return np.stack([ndimage.map_coordinates(ratio[..., c], [ys, xs], order=1) for c in range(3)], -1).astype(np.float32)
