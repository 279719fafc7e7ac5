"""A new video of a trained person: its head in the trained subject's axes, and whether it is that person.

The video is preprocessed by itself; the two faces, found separately, are laid over each other.
"""
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import Subject, View, evenly_spaced
from speech2lip_jax.dubbing.close_up import Tracked, close_up
from speech2lip_jax.preprocess import projection

NOSE_BASE = 2
AROUND_MOUTH = (2, 98, 327, 205, 425, 61, 291)  # nose's base and wings, cheeks, mouth's corners: where they are says where lips go
NUM_FRAMES = 200  # that their places are found from
ROUNDS = 2
STRANGER_RMS, DOUBTFUL_RMS = 0.12, 0.06  # of `Overlay`
STRANGER_LIKENESS, DOUBTFUL_LIKENESS = 0.4, 0.7  # of `likeness`
COARSE = 4.0  # points of a region: std of the Gaussian that fine structure is told from light by


class Overlay(NamedTuple):
  """How the trained head lies in the other one: point_other = scale · turn [3, 3] · point_trained + shift [3]; rms: of what is left
  of the upper face's points, head units."""
  scale: float
  turn: np.ndarray
  shift: np.ndarray
  rms: float

  def poses(self, observed_from_other: np.ndarray) -> np.ndarray:
    """Poses [n, 4, 4] of the other head → of the trained one, in its units."""
    poses = observed_from_other.copy()
    poses[:, :3, :3] = observed_from_other[:, :3, :3] @ self.turn
    poses[:, :3, 3] = (observed_from_other[:, :3, :3] @ self.shift + observed_from_other[:, :3, 3]) / self.scale
    return poses


def lay_over(trained: Subject, other: Subject) -> Overlay:
  """The best similarity of the two faces' points above the nose's base.

  Raises:
    InputError: a subject folder is of format 1, which does not hold the face's shape.
  """
  points, seen = (subject.origin().points_head.astype(np.float64) for subject in (trained, other))
  upper = points[:, 1] < points[NOSE_BASE, 1]
  points, seen = points[upper], seen[upper]
  middle, middle_seen = points.mean(0), seen.mean(0)
  u, sizes, vt = np.linalg.svd((seen - middle_seen).T @ (points - middle))
  sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
  turn = u @ sign @ vt
  scale = float((sizes * np.diag(sign)).sum() / np.square(points - middle).sum())
  shift = middle_seen - scale * turn @ middle
  rms = float(np.sqrt(np.square(points * scale @ turn.T + shift - seen).sum(1).mean()))
  return Overlay(scale, turn, shift, rms)


def in_trained_axes(trained: Subject, other: Subject, tracked: Tracked) -> tuple[Tracked, Overlay]:
  """The head of another video in the trained subject's axes, so that its mouth's surroundings lie where they lay in training."""
  overlay = lay_over(trained, other)
  ids = evenly_spaced(np.flatnonzero(~np.asarray(other.is_interpolated)), NUM_FRAMES)
  for _ in range(ROUNDS):
    off = _offset(trained, other, overlay, ids)
    overlay = overlay._replace(shift=overlay.shift + overlay.scale * overlay.turn @ off)
  return tracked._replace(observed_from_head=overlay.poses(tracked.observed_from_head)), overlay


def frames_view(trained: Subject, other: Subject, overlay: Overlay) -> View:
  """The `View` of the trained head in the frames of the other subject folder, by the trained field of view."""
  meta = other.meta
  middle = np.full((meta.num_frames, 2), (meta.width - 1) / 2)
  frames = Tracked(overlay.poses(np.asarray(other.observed_from_head, np.float64)), ~np.asarray(other.is_interpolated),
                   np.arange(meta.num_frames, dtype=np.float64), meta.focal_px, middle, meta.width)
  return close_up(frames, trained)[1]


def _offset(trained: Subject, other: Subject, overlay: Overlay, ids: np.ndarray) -> np.ndarray:
  """By how much the trained head must move in its own axes for the points around the mouth to lie where they do: [3] head units."""
  meta, depth = trained.meta, np.asarray(trained.depth_canonical)
  points = list(AROUND_MOUTH)
  own = evenly_spaced(np.flatnonzero(~np.asarray(trained.is_interpolated)), NUM_FRAMES)
  own_poses = trained.observed_from_canonical[own].astype(np.float64)
  home = projection.canonical_coords(trained.landmarks[own][:, points], depth, own_poses, meta.focal_px, meta.canonical_scale)
  home = home.mean((0, 1))
  view = frames_view(trained, other, overlay)
  seen = other.landmarks[ids][:, points] + (view.width - other.meta.width) / 2
  found = projection.canonical_coords(seen, depth, view.observed_from_canonical[ids].astype(np.float64), view.focal,
                                      view.canonical_scale).mean((0, 1))
  nearness = float(depth[tuple(np.round(home[::-1]).astype(int))]) / (meta.focal_px * meta.canonical_scale)
  move = np.append((found - home) * nearness, 0.0)  # in the canonical camera
  return trained.observed_from_head[meta.canonical_frame, :3, :3].astype(np.float64).T @ move


def lips(trained: Subject, other: Subject, view: View, ids: np.ndarray) -> np.ndarray:
  """The trained subject's lip box read from frames of the other subject folder: [n, h, w, 3] uint8. view: `frames_view`."""
  margin = (view.width - other.meta.width) // 2
  read = []
  for i in ids:
    frame = np.pad(other.frames[i], ((max(margin, 0),) * 2, (max(margin, 0),) * 2, (0, 0)), mode='edge')
    if margin < 0:
      frame = frame[-margin:margin, -margin:margin]
    read.append(projection.read_lips(frame, trained.meta.lip_box, trained.depth_canonical, view.observed_from_canonical[i],
                                     view.focal, view.canonical_scale))
  return np.stack(read)


def likeness(own: np.ndarray, other: np.ndarray) -> float:
  """How alike two persons' surroundings of the mouth look, −1 … 1: the correlation of the fine structure of their usual regions.

  own, other: regions [n, gh, gw, 3] and [m, gh, gw, 3].
  """
  fine = []
  for regions in (own, other):
    usual = np.median(regions, 0).mean(-1)
    usual = usual / ndimage.gaussian_filter(usual, COARSE, mode='nearest')
    fine.append((usual - usual.mean()).ravel())
  return float(fine[0] @ fine[1] / (np.linalg.norm(fine[0]) * np.linalg.norm(fine[1]) + 1e-9))


def check_person(own: np.ndarray, other: np.ndarray, overlay: Overlay, subject: Subject, path: str) -> list[str]:
  """Warnings where another video fits the trained person badly.

  own, other: regions [n, gh, gw, 3] and [m, gh, gw, 3], in one light.

  Raises:
    InputError: it shows somebody else.
  """
  alike = likeness(own, other)
  facts = (f"{path}: its face is {overlay.rms:.3f} eye distances off that of {subject.folder}, "
           f"the mouth's surroundings correlate {alike:.2f}")
  if overlay.rms > STRANGER_RMS or alike < STRANGER_LIKENESS:
    raise InputError(f'{facts}: this is another person; train this one: give a new --workdir')
  return [f'{facts}; look at the result'] if overlay.rms > DOUBTFUL_RMS or alike < DOUBTFUL_LIKENESS else []
