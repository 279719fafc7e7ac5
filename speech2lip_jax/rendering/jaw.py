"""The jaw follows the painted lips: the frame's lower face is moved before they go in.

Where the points of the lower face lie in canonical space is a linear function of the canonical lips, fitted to the training frames'
landmarks: the picture of the lips, whose box the skin around them fills, tells more of the chin than the gap between them. What
goes with the head's pose is fitted beside it and left out, since it is the track's error and not speech. A frame is moved by what
its own lips and the painted ones differ by, so lips that are the frame's own move nothing. The motion fades out at the nose's base,
beside the face, and down the neck. Colours are read from the frame itself, once, by cubic interpolation.

A shape is [K] float32, the coordinates of a lower face among its main motions, about the training frames' mean.
"""
from collections.abc import Callable
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation

from speech2lip_jax.common.pool import mapped
from speech2lip_jax.data import regression
from speech2lip_jax.data.dataset import Subject, View, evenly_spaced
from speech2lip_jax.gamem import mapping
from speech2lip_jax.ops import sampling
from speech2lip_jax.ops.boxes import smoothstep

NUM_FACE_POINTS = 468  # of the landmarks; the others are irises
NOSE_BASE = 2
MAX_FRAMES, NUM_COMPONENT_FRAMES = 2000, 400  # training frames that it is fitted to, and that the lips' components are found on
NUM_LIP_COMPONENTS, NUM_MOTIONS = 48, 3
LIP_NOISE_STD, POSE_NOISE_STD = 0.05, 1e-3  # in components of lips (0 … 1 a pixel); radians and head units
CELL = 1 / 64  # of the picture's width: distance of the nodes that motions and displacements are known at
SMOOTH = 0.5  # cells: std of a Gaussian over the motions, which the detector's points make uneven
# Over which the motion fades, of the face's height and width.
BELOW_NOSE, BELOW_CHIN, ASIDE = 0.08, 0.16, 0.06
SIDE = 0.5, 0.9  # of half the face's width, from its middle
NUM_STEPS = 6  # fixed-point steps from a moved place to its place in the mean shape


class JawMotion(NamedTuple):
  """What is fitted to a subject.

  mean, probe: [P] and [P, K], of canonical lips with P = h · w · 3: a shape is (lips − mean) · probe. motions: [gh, gw, K, 2]
  canonical pixels (x, y) by which each coordinate moves the skin, at nodes `cell` pixels apart from `corner` (x, y) on; 0 at the
  rim.
  """
  mean: np.ndarray
  probe: np.ndarray
  motions: np.ndarray
  corner: tuple[int, int]
  cell: int

  def shapes(self, lips: np.ndarray) -> np.ndarray:
    """The shapes [n, K] that go with canonical lips [n, h, w, 3], uint8 or float32 0 … 1."""
    flat = lips.reshape(len(lips), -1)
    if flat.dtype == np.uint8:
      flat = flat / np.float32(255)
    return (flat - self.mean) @ self.probe


def fit_motion(subject: Subject, train_ids: np.ndarray) -> JawMotion | None:
  """The motion of the subject's lower face, or None where its landmarks do not move, as of a subject imported without them."""
  ids = evenly_spaced(train_ids, MAX_FRAMES)
  view = subject.landmarks[subject.meta.canonical_frame, :NUM_FACE_POINTS, 1]
  points = np.flatnonzero(view > view[NOSE_BASE])
  landmarks = np.asarray(subject.landmarks[ids][:, [NOSE_BASE, *points]], np.float32)
  if len(ids) < 2 or not np.isfinite(landmarks).all() or not np.ptp(landmarks):
    return None
  poses = subject.observed_from_canonical[ids]
  home = _canonical_points(subject, landmarks, poses)
  rest, home = home.mean(0), home[:, 1:]
  components = regression.LipComponents.of(subject.rgb_lip_canonical[evenly_spaced(ids, NUM_COMPONENT_FRAMES)], NUM_LIP_COMPONENTS)
  codes, _ = components.coefficients(subject.rgb_lip_canonical, ids)
  turns = np.concatenate([Rotation.from_matrix(poses[:, :3, :3]).as_rotvec(), poses[:, :3, 3]], 1)
  noise = np.repeat((LIP_NOISE_STD, POSE_NOISE_STD), (codes.shape[1], turns.shape[1]))
  kernel, _ = regression.ridge(np.concatenate([codes, turns], 1), home.reshape(len(ids), -1), noise)
  kernel = kernel[:codes.shape[1]]
  _, _, directions = np.linalg.svd(codes.std(0)[:, None] * kernel, full_matrices=False)  # codes hardly correlate
  directions = directions[:NUM_MOTIONS]
  mean = components.mean + components.axes @ codes.mean(0)
  moves = directions.reshape(-1, len(points), 2).transpose(1, 0, 2)
  motions, corner, cell = _motion_nodes(subject, rest[1:], moves, float(rest[0, 1]))
  return JawMotion(mean, (components.axes @ (kernel @ directions.T)).astype(np.float32), motions, corner, cell)


def _canonical_points(subject: Subject, landmarks: np.ndarray, poses: np.ndarray) -> np.ndarray:
  """Landmarks [n, P, 2] of frames, in canonical space."""
  meta, depth = subject.meta, jnp.asarray(subject.depth_canonical)
  solve = lambda points, pose: mapping.canonical_coords(points, depth, pose, meta.focal_px, scale=meta.canonical_scale)
  return jax.device_get(jax.jit(lambda *each: jax.lax.map(lambda one: solve(*one), each))(landmarks, poses)).astype(np.float64)


def _motion_nodes(subject: Subject, points: np.ndarray, moves: np.ndarray, nose_base: float
                  ) -> tuple[np.ndarray, tuple[int, int], int]:
  """`JawMotion.motions`, corner and cell from moves [P, K, 2] of points [P, 2]; nose_base: its y."""
  face = np.asarray(subject.mask_face_canonical) > 0
  rows, columns = np.flatnonzero(face.any(1)), np.flatnonzero(face.any(0))
  height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
  cell = max(1, round(CELL * face.shape[1]))
  left, top = (round(x) - cell for x in (columns[0] - ASIDE * width, nose_base))
  chin = max(rows[-1], points[:, 1].max())  # it hangs lower in the mean shape than in the canonical view
  right, bottom = (round(x) + cell for x in (columns[-1] + ASIDE * width, chin + BELOW_CHIN * height))
  ys, xs = np.mgrid[top:bottom + cell:cell, left:right + cell:cell]
  shift = np.array([max(0, -left), max(0, -top)])  # the nodes may reach beyond the picture
  outline = cv2.convexHull((np.concatenate([np.argwhere(face)[:, ::-1], points]) + shift).round().astype(np.int32))
  inside = cv2.fillConvexPoly(np.zeros((ys.max() + 1 + shift[1], xs.max() + 1 + shift[0]), np.uint8), outline, 1)
  away, nearest = ndimage.distance_transform_edt(inside == 0, sampling=(1 / (BELOW_CHIN * height), 1 / (ASIDE * width)),
                                                 return_indices=True)
  at = ys + shift[1], xs + shift[0]
  aside = np.abs(xs - (columns[0] + columns[-1]) / 2) / (width / 2)
  weight = smoothstep((ys - nose_base) / (BELOW_NOSE * height)) * (1 - smoothstep(away[at]))
  weight = weight * (1 - smoothstep((aside - SIDE[0]) / (SIDE[1] - SIDE[0])))
  nearest = np.stack([nearest[1][at], nearest[0][at]], -1) - shift.astype(np.float64)
  spread = RBFInterpolator(points, moves.reshape(len(points), -1), kernel='thin_plate_spline', smoothing=0.1)
  nodes = spread(nearest.reshape(-1, 2)).reshape(*ys.shape, *moves.shape[1:])
  nodes = ndimage.gaussian_filter(nodes, (SMOOTH, SMOOTH, 0, 0), mode='nearest') * np.asarray(weight)[..., None, None]
  nodes[[0, -1]] = nodes[:, [0, -1]] = 0
  return nodes.astype(np.float32), (left, top), cell


class Jaw:
  """Moves the lower faces of one subject in the pictures of a view."""

  def __init__(self, motion: JawMotion, depth_canonical: np.ndarray, view: View, own_shapes: Callable[[np.ndarray], np.ndarray]):
    """own_shapes: picture ids [n] → the shapes [n, K] of the lower faces that they show."""
    self.motion, self._depth, self._view, self._own_shapes = motion, depth_canonical, view, own_shapes
    self._cell = max(1, round(CELL * view.width))
    self._size, self._corner = self._windows()
    self._displace = jax.jit(jax.vmap(self._displacement))

  @classmethod
  def of_subject(cls, subject: Subject, motion: JawMotion) -> 'Jaw':
    """For the subject's own frames."""
    own_shapes = lambda frame_ids: motion.shapes(subject.rgb_lip_canonical[frame_ids])
    return cls(motion, subject.depth_canonical, View.of_subject(subject), own_shapes)

  def on(self, view: View, own_shapes: Callable[[np.ndarray], np.ndarray]) -> 'Jaw':
    """For other pictures of the subject."""
    return Jaw(self.motion, self._depth, view, own_shapes)

  def move(self, rgb_face: np.ndarray, frame_ids: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Those pictures [n, H, W, 3] uint8 of the view with lower faces of other shapes [n, K]: [n, H, W, 3] uint8."""
    own, corner, poses = self._own_shapes(frame_ids), self._corner[frame_ids], self._view.observed_from_canonical[frame_ids]
    displacement = jax.device_get(self._displace(poses, corner, own, shapes))
    return np.stack(list(mapped(lambda each: _read(*each, self._cell), zip(rgb_face, displacement, corner, strict=True))))

  def part_of_frame(self, frame_id: int) -> tuple[int, int, int, int]:
    """The part of a frame outside of which nothing moves: (top, left, height, width) pixels."""
    ends = np.stack([self._corner[frame_id], self._corner[frame_id] + np.array(self._size[::-1]) * self._cell])
    (left, top), (right, bottom) = np.clip(ends, 0, (self._view.width, self._view.height)).tolist()
    return top, left, bottom - top, right - left

  def _windows(self) -> tuple[tuple[int, int], np.ndarray]:
    """The part of the frame that may move: its size (rows, columns) in cells, and its corner [N, 2] (x, y) pixels in each frame.

    The corner may lie outside of the frame.
    """
    view, motion = self._view, self.motion
    depth, (rows, columns) = jnp.asarray(self._depth), motion.motions.shape[:2]
    places = np.mgrid[:rows, :columns][::-1].reshape(2, -1).T * motion.cell + np.array(motion.corner)
    places = jnp.asarray(places[(motion.motions != 0).any((2, 3)).ravel()], jnp.float32)

    def extent(pose):
      pixels = mapping.observed_points(places, depth, pose, view.focal, view.canonical_scale)
      return pixels.min(0), pixels.max(0)
    low, high = jax.device_get(jax.jit(lambda poses: jax.lax.map(extent, poses))(view.observed_from_canonical))
    corner = np.floor(low).astype(np.int32) - 2 * self._cell
    width, height = np.ceil((np.ceil(high).astype(int) + 2 * self._cell - corner).max(0) / self._cell).astype(int).tolist()
    return (height, width), corner

  def _displacement(self, pose, corner, own, shape):
    """How far beside each node of a frame's window its colour is to be read: [rows, columns, 2] (x, y) pixels."""
    view, motion = self._view, self.motion
    depth, (rows, columns) = jnp.asarray(self._depth), self._size
    nodes = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), -1) * self._cell + (self._cell - 1) / 2
    there = mapping.canonical_coords(nodes + corner, depth, pose, view.focal, scale=view.canonical_scale)
    flat = jnp.asarray(motion.motions.reshape(*motion.motions.shape[:2], -1))

    def moved_by(rest, shape):
      motions = sampling.sample_image(flat, (rest - jnp.array(motion.corner)) / motion.cell)
      return jnp.einsum('yxkc,k->yxc', motions.reshape(*rest.shape[:2], -1, 2), shape)
    rest = jax.lax.fori_loop(0, NUM_STEPS, lambda _, rest: there - moved_by(rest, shape), there)
    source = there + moved_by(rest, own - shape)
    to_frame = lambda points: mapping.observed_points(points, depth, pose, view.focal, view.canonical_scale)
    return to_frame(source) - to_frame(there)


def open_jaw(subject: Subject, train_ids: np.ndarray) -> Jaw | None:
  """The jaw of a subject by its training frames; None where its landmarks tell no motion."""
  motion = fit_motion(subject, train_ids)
  return None if motion is None else Jaw.of_subject(subject, motion)


def _read(rgb_face: np.ndarray, displacement: np.ndarray, corner: np.ndarray, cell: int) -> np.ndarray:
  """The frame [H, W, 3] uint8, read beside its pixels in the window that begins at `corner` (x, y)."""
  height, width = np.array(displacement.shape[:2]) * cell
  dense = cv2.resize(displacement, (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
  left, top = np.maximum(corner, 0)
  right, bottom = np.minimum(corner + (width, height), rgb_face.shape[1::-1])
  dense = dense[top - corner[1]:bottom - corner[1], left - corner[0]:right - corner[0]]
  if not dense.size:
    return rgb_face
  xs, ys = (np.arange(*ends, dtype=np.float32) for ends in ((left, right), (top, bottom)))
  moved = rgb_face.copy()
  moved[top:bottom, left:right] = cv2.remap(rgb_face, dense[..., 0] + xs, dense[..., 1] + ys[:, None], cv2.INTER_CUBIC,
                                            borderMode=cv2.BORDER_REPLICATE)
  return moved
