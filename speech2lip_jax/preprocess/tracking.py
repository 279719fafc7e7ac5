"""Head pose of every frame, the head's rigid shape and the focal length, by one joint fit to the landmarks of all
frames.

A bundle adjustment: the unknowns are a rigid pose a frame, the 3-D positions of `RIGID_POINTS` (temples,
bridge of the nose, eye corners; nothing that speech, blinking or brows move) and one focal length. Residuals are
pixels under a Huber loss. The penalty on sudden motion is on the poses' second differences in time, inside clips and never
across them. Each Gauss-Newton step solves its linear system exactly: the poses form a banded system, from which shape and
focal length are separated by the Schur complement.

The fit has two stages. The first finds shape and focal length, with almost no penalty on motion. The second keeps both and
smooths the poses. In one stage the face came out twice too deep: a deep face needs smaller turns to explain the same
landmarks, and the penalty prefers small turns.

Thirteen points of the forehead were among the rigid ones. On real faces they go up by .16 to .76 px for each pixel that the brows
rise. Without them the canonical lips of GRID (30 clips at 256 px, 5 parts by clip of what is not held out) are predicted better by
their 8 nearest mel windows, 30.20 -> 30.53 dB, and as well on HD (28.25, 28.26). Eight points under the eyes in their place gave
no more (HD 28.25) and made a rendered still head's turns wrong by .36 instead of .23 degrees.

Head units: 1 is the distance between the outer eye corners. Head axes: origin midway between the outer eye corners, x
from the right eye to the left one (image right), y down the face, z into the head: equal to the camera's where the
face looks into it.
Camera: x right, y down, z forward, pixel centres at integers, principal point (size − 1)/2.
"""
import dataclasses
from typing import NamedTuple

import numpy as np
import scipy.linalg

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import rigid

RIGHT_EYE, LEFT_EYE, FOREHEAD, CHIN = 33, 263, 10, 152  # outer corners; top and bottom of the face
RIGID_POINTS = np.array([
    251, 389, 21, 162, 139, 34, 368, 264, 143, 372, 35, 265,  # temples; the forehead's slide with the brows
    168, 6, 197, 195, 122, 351, 196, 419, 193, 417, 188, 412, 174, 399, 236, 456, 3, 248,  # bridge of the nose
    33, 133, 362, 263, 130, 359])  # eye corners; the nose's tip is left out, for judging; before the ears points slide
NOSE_TIP = 4
NUM_FACE_POINTS = schema.NUM_FACE_POINTS  # the ten irises' points look about

SMOOTHNESS = 3.0  # weight of the pose's squared second differences (pixels) against all squared residuals
SHAPE_SMOOTHNESS = 0.02  # the same in the first stage, where only frames without landmarks need it
MIN_NOISE_FACE = 2e-4  # head units
HUBER_FACE = 0.01  # residuals beyond this many head units (as pixels in the image) count linearly
HUBER_FOLLOWED = 0.004  # the same for places followed in the pictures
FOCAL_PRIOR_WIDTHS = 1.5  # of the image; the focal length is nearly unobservable
FOCAL_PRIOR_SPREAD = 0.3  # natural logarithm; being off by this much must be worth `FOCAL_PRIOR_SHARE` of all residuals
FOCAL_PRIOR_SHARE = 0.01
FOCAL_PRIOR_SHARE_FOLLOWED = 0.1  # places followed below the brows tell less of the focal length
SHAPE_PRIOR_SPREAD = 0.1  # head units, around the landmarker's own mean shape
SHAPE_PRIOR_FRAMES = 100  # a landmarker errs alike in frames that look alike: so many count as one
GAUGE_WEIGHT = 1e8
MAX_STEPS = 30


@dataclasses.dataclass(frozen=True)
class Track:
  """The fit. observed_from_head: [N, 4, 4]; focal_px; points: [468, 3] head units; report: quality numbers."""
  observed_from_head: np.ndarray
  focal_px: float
  points: np.ndarray
  report: dict


class Anchors(NamedTuple):
  """P points of the face that poses are fitted to, in N frames. points: [P, 3] head units. seen: [N, P, 2] pixels of the
  frames. weight: [N, P] 0 … 1."""
  points: np.ndarray
  seen: np.ndarray
  weight: np.ndarray


def landmark_anchors(track: Track, landmarks: np.ndarray, frame_weight: np.ndarray) -> Anchors:
  """The rigid landmarks of landmarks [N, 478, ≥2] as anchors, frames weighted by [N]."""
  weight = np.repeat(frame_weight[:, None], len(RIGID_POINTS), axis=1)
  return Anchors(track.points[RIGID_POINTS], landmarks[:, RIGID_POINTS, :2].astype(np.float64), weight)


def turns_from_mean(poses: np.ndarray) -> np.ndarray:
  """[N, 3] rotation vectors (radians) of poses [N, 4, 4] from their mean turn."""
  return rigid.vector_from_rotation(poses[:, :3, :3] @ rigid.mean_rotation(poses[:, :3, :3]).T)


def project(points: np.ndarray, observed_from_head: np.ndarray, focal_px: float, size: int) -> np.ndarray:
  """Head points [P, 3] seen in poses [N, 4, 4] → pixels [N, P, 2]."""
  seen = points @ np.swapaxes(observed_from_head[:, :3, :3], -1, -2) + observed_from_head[:, None, :3, 3]
  return focal_px * seen[..., :2] / seen[..., 2:] + (size - 1) / 2


def fit(landmarks: np.ndarray, is_interpolated: np.ndarray, clip_lengths: list[int], size: int,
        smoothness: float = SMOOTHNESS, frame_weight: np.ndarray | None = None) -> Track:
  """Fits poses, shape and focal length to the landmarks of all clips.

  Args:
    landmarks: [N, 478, 3] crop pixels, z as the landmarker gives it.
    is_interpolated: [N] bool, frames without data.
    clip_lengths: frames of each clip, in order, summing to N.
    size: side of the square image, pixels.
    smoothness: weight of the poses' second differences.
    frame_weight: [N] 0 … 1, how far each frame is trusted (`quality.frame_weights`); all alike when left out.
  """
  weight = np.ones(len(landmarks)) if frame_weight is None else frame_weight
  weight = np.where(is_interpolated, 0.0, weight)
  model, rotations, scale, shift = _weak_perspective(landmarks.astype(np.float64), is_interpolated, size)
  anchors = Anchors(model[RIGID_POINTS], landmarks[:, RIGID_POINTS, :2].astype(np.float64),
                    np.repeat(weight[:, None], len(RIGID_POINTS), axis=1))
  solver = _Adjustment(anchors, rotations, scale, shift, FOCAL_PRIOR_WIDTHS * size, HUBER_FACE, FOCAL_PRIOR_SHARE,
                       clip_lengths, size)
  poses, focal, shape, num_steps = solver.run(smoothness)
  poses, shape, from_old = _head_axes(poses, shape, model)
  prior = model @ from_old[:3, :3].T + from_old[:3, 3]
  points = locate_points(landmarks[:, :NUM_FACE_POINTS, :2], poses, focal, size, ~is_interpolated, prior)
  points[RIGID_POINTS] = shape
  error = np.linalg.norm(project(shape, poses, focal, size) - landmarks[:, RIGID_POINTS, :2], axis=-1)[~is_interpolated]
  report = {'reprojection_median_px': float(np.median(error)), 'reprojection_p95_px': float(np.percentile(error, 95)),
            'jitter_px': jitter(poses, shape, focal, size, clip_lengths), 'num_rigid_points': len(RIGID_POINTS),
            'num_steps': num_steps, 'focal_widths': focal / size}
  return Track(poses.astype(np.float32), float(focal), points, report)


def refit(track: Track, anchors: Anchors, clip_lengths: list[int], size: int, smoothness: float = SMOOTHNESS
          ) -> tuple[Track, Anchors]:
  """The track fitted anew to other points than landmarks, and these at their new places.

  The face's points keep their arrangement; its relief follows that of the anchors (one factor and a slant).
  """
  poses = track.observed_from_head.astype(np.float64)
  depth = poses[:, 2, 3]
  origin = track.focal_px * poses[:, :2, 3] / depth[:, None]
  solver = _Adjustment(anchors, poses[:, :3, :3], track.focal_px / depth, origin, track.focal_px, HUBER_FOLLOWED,
                       FOCAL_PRIOR_SHARE_FOLLOWED, clip_lengths, size)
  poses, focal, found, num_steps = solver.run(smoothness)
  slant = lambda points: np.stack([points[:, 2], points[:, 0], points[:, 1], np.ones(len(points))], axis=1)
  trust = np.ones(len(found))
  for _ in range(10):
    factors = np.linalg.lstsq(slant(anchors.points) * trust[:, None], found[:, 2] * trust, rcond=None)[0]
    error = np.abs(found[:, 2] - slant(anchors.points) @ factors)
    trust = 1 / np.sqrt(1 + (error / (3 * np.median(error) + 1e-9))**2)
  points = np.concatenate([track.points[:, :2], (slant(track.points) @ factors)[:, None]], axis=1)
  report = track.report | {'num_rigid_points': len(found), 'num_steps': track.report['num_steps'] + num_steps,
                           'focal_widths': focal / size}
  return Track(poses.astype(np.float32), focal, points, report), Anchors(found, *anchors[1:])


def with_quality(track: Track, landmarks: np.ndarray, is_used: np.ndarray, clip_lengths: list[int], size: int) -> Track:
  """The track, its report brought up to date after refining: how far the rigid landmarks lie off now, and its jitter."""
  shape, poses = track.points[RIGID_POINTS], track.observed_from_head.astype(np.float64)
  error = np.linalg.norm(project(shape, poses, track.focal_px, size) - landmarks[:, RIGID_POINTS, :2], axis=-1)[is_used]
  report = track.report | {
      'landmarks_off_median_px': float(np.median(error)), 'landmarks_off_p95_px': float(np.percentile(error, 95)),
      'jitter_px': jitter(poses, shape, track.focal_px, size, clip_lengths)}
  return dataclasses.replace(track, report=report)


def jitter(poses: np.ndarray, shape: np.ndarray, focal: float, size: int, clip_lengths: list[int]) -> float:
  """Median second difference of the projected rigid points in time, pixels."""
  seen = project(shape, poses, focal, size)
  seconds = np.linalg.norm(np.diff(seen, n=2, axis=0), axis=-1).mean(-1)
  return float(np.median(seconds[_inner_triples(clip_lengths)]))


def _inner_triples(clip_lengths: list[int]) -> np.ndarray:
  """[N − 2] bool: frames i, i + 1, i + 2 lie in one clip."""
  clip_of = np.repeat(np.arange(len(clip_lengths)), clip_lengths)
  return clip_of[:-2] == clip_of[2:]


class _Adjustment:
  """State of the fit. Poses [N, 6], pixels: rotation vector · radius, image of the origin, log depth · radius."""

  def __init__(self, anchors, rotations, scale, shift, focal, huber_face, focal_share, clip_lengths, size):
    self.focal_share = focal_share  # `FOCAL_PRIOR_SHARE`
    self.center = (size - 1) / 2
    self.seen, self.weight = anchors.seen - self.center, anchors.weight
    self.log_focal_prior, self.log_focal = np.log(FOCAL_PRIOR_WIDTHS * size), np.log(focal)
    self.shape = self.shape_prior = anchors.points
    self.gauge = _similarity_directions(self.shape)
    self.radius = float(np.median(scale))  # pixels of one head unit: brings all six pose numbers to pixels
    self.huber = huber_face * self.radius
    self.noise = self.huber / 3  # what the priors reckon the landmarks' noise to be, pixels
    self.turn = rigid.mean_rotation(rotations)
    self.poses = np.concatenate([rigid.vector_from_rotation(rotations @ self.turn.T) * self.radius, shift[:, :2],
                                 (self.log_focal - np.log(scale))[:, None] * self.radius], axis=1)
    self.difference_bands = second_difference_bands(clip_lengths)
    self.smooth_bands = SHAPE_SMOOTHNESS * self.difference_bands
    self.is_shape_held = False

  def run(self, smoothness: float) -> tuple[np.ndarray, float, np.ndarray, int]:
    """Shape, focal length and rough poses, then smooth poses: poses [N, 4, 4], focal (pixels), shape [P, 3], steps taken."""
    num_steps = self.solve()
    if self.lower_noise():
      num_steps += self.solve()
    self.is_shape_held, self.smooth_bands = True, smoothness * self.difference_bands
    num_steps += self.solve()
    return *self.result(), num_steps

  def _camera(self, poses, log_focal):
    rotations = rigid.rotation_from_vector(poses[:, :3] / self.radius) @ self.turn
    depth = np.exp(poses[:, 5] / self.radius)
    shift = np.concatenate([poses[:, 3:5] / np.exp(log_focal), np.ones((len(poses), 1))], axis=1) * depth[:, None]
    return rotations, shift, depth

  def _residuals(self, poses, shape, log_focal):
    rotations, shift, _ = self._camera(poses, log_focal)
    turned = shape @ np.swapaxes(rotations, -1, -2)
    points = turned + shift[:, None]
    return np.exp(log_focal) * points[..., :2] / points[..., 2:] - self.seen, turned, points

  @property
  def focal_weight(self):
    """Weight of the prior on log focal, pixels²."""
    return self.focal_share / FOCAL_PRIOR_SPREAD**2 * self.noise**2 * self.weight.sum()

  def lower_noise(self) -> bool:
    """Weakens the priors where landmarks prove far better than they reckon; whether they were."""
    size = np.linalg.norm(self._residuals(self.poses, self.shape, self.log_focal)[0], axis=-1)
    noise = max(float(np.median(size[self.weight > 0])) / 1.18, MIN_NOISE_FACE * self.radius)
    is_lower = noise < self.noise / 2
    if is_lower:
      self.noise = noise
    return is_lower

  def cost(self, poses, shape, log_focal):
    """Huber loss of the residuals, smoothness and priors, pixels²."""
    residual, _, _ = self._residuals(poses, shape, log_focal)
    size = np.linalg.norm(residual, axis=-1)
    loss = np.where(size < self.huber, size**2, 2 * self.huber * size - self.huber**2)
    return ((self.weight * loss).sum() + (poses * banded_product(self.smooth_bands, poses)).sum()
            + (shape - self.shape_prior).ravel() @ self._prior_matrix @ (shape - self.shape_prior).ravel()
            + self.focal_weight * (log_focal - self.log_focal_prior)**2)

  @property
  def _prior_weight(self):
    """A prior of `SHAPE_PRIOR_SPREAD` against residuals of `noise`, correlated over `SHAPE_PRIOR_FRAMES`."""
    return (self.noise / SHAPE_PRIOR_SPREAD)**2 * SHAPE_PRIOR_FRAMES

  @property
  def _prior_matrix(self):
    """[3P, 3P] weights of the shape's prior, which also pins position, turn and scale: poses could undo those."""
    return self._prior_weight * np.eye(self.shape.size) + GAUGE_WEIGHT * self.huber**2 * self.gauge @ self.gauge.T

  def step(self):
    """Gauss-Newton change (poses [N, 6], shape [P, 3], log focal)."""
    num_frames, num_points = self.seen.shape[:2]
    residual, turned, points = self._residuals(self.poses, self.shape, self.log_focal)
    rotations, shift, depth = self._camera(self.poses, self.log_focal)
    focal = np.exp(self.log_focal)
    size = np.linalg.norm(residual, axis=-1)
    weight = self.weight * np.minimum(1.0, self.huber / np.maximum(size, 1e-12))

    # d(pixel)/d(camera point) [N, P, 2, 3], then the chain to the six pose numbers, to the point and to log focal.
    by_point = np.zeros((num_frames, num_points, 2, 3))
    by_point[..., 0, 0] = by_point[..., 1, 1] = focal / points[..., 2]
    by_point[..., 2] = -focal * points[..., :2] / points[..., 2:]**2
    turn = -rigid.skew(turned) @ rigid.left_jacobian(self.poses[:, :3] / self.radius)[:, None] / self.radius
    moves = np.zeros((num_frames, 3, 3))
    moves[:, 0, 0] = moves[:, 1, 1] = depth / focal
    moves[:, :, 2] = shift / self.radius
    by_pose = np.concatenate([by_point @ turn, by_point @ moves[:, None]], axis=-1)
    by_shape = by_point @ rotations[:, None]
    # A longer focal length scales the offset from the centre, while shift_xy = pixel · depth / focal shrinks.
    by_focal = points[..., :2] * focal / points[..., 2:] - focal / points[..., 2:] * shift[:, None, :2]

    weighted = by_pose * weight[..., None, None]
    pose_pose = np.einsum('npki,npkj->nij', weighted, by_pose, optimize=True)
    pose_gradient = np.einsum('npki,npk->ni', weighted, residual) + banded_product(self.smooth_bands, self.poses)
    pose_rest = np.concatenate([np.einsum('npki,npkj->nipj', weighted, by_shape).reshape(num_frames, 6, -1),
                                np.einsum('npki,npk->ni', weighted, by_focal)[..., None]], axis=-1)
    shape_shape = np.einsum('npki,npkj->pij', by_shape * weight[..., None, None], by_shape)
    shape_focal = np.einsum('npki,npk->pi', by_shape, by_focal * weight[..., None])
    num_rest = 3 * num_points + 1
    rest_rest = np.zeros((num_rest, num_rest))
    for point in range(num_points):
      rows = slice(3 * point, 3 * point + 3)
      rest_rest[rows, rows] = shape_shape[point]
      rest_rest[rows, -1] = rest_rest[-1, rows] = shape_focal[point]
    rest_rest[:-1, :-1] += self._prior_matrix
    rest_rest[-1, -1] = (weight[..., None] * by_focal**2).sum() + self.focal_weight
    rest_gradient = np.append(
        np.einsum('npki,npk->pi', by_shape, residual * weight[..., None]).ravel()
        + self._prior_matrix @ (self.shape - self.shape_prior).ravel(),
        (weight[..., None] * by_focal * residual).sum() + self.focal_weight * (self.log_focal - self.log_focal_prior))

    bands = pose_bands(pose_pose, self.smooth_bands)
    right = np.concatenate([pose_gradient[..., None], pose_rest], axis=-1).reshape(6 * num_frames, -1)
    solved = scipy.linalg.solveh_banded(bands, right, overwrite_ab=True, check_finite=False)
    if self.is_shape_held:
      return -solved[:, 0].reshape(-1, 6), np.zeros_like(self.shape), 0.0
    coupling = pose_rest.reshape(6 * num_frames, -1)
    reduced = rest_rest - coupling.T @ solved[:, 1:]
    rest = -np.linalg.solve(reduced + 1e-9 * np.trace(reduced) / num_rest * np.eye(num_rest),
                            rest_gradient - coupling.T @ solved[:, 0])
    poses = -(solved[:, 0] + solved[:, 1:] @ rest)
    return poses.reshape(-1, 6), rest[:-1].reshape(-1, 3), rest[-1]

  def solve(self) -> int:
    """Steps until the cost settles; a step that does not lower it is halved. Returns the number of steps."""
    cost = self.cost(self.poses, self.shape, self.log_focal)
    for count in range(1, MAX_STEPS + 1):
      change = self.step()
      for share in (1.0, 0.5, 0.25, 0.1, 0.02):
        trial = self.poses + share * change[0], self.shape + share * change[1], self.log_focal + share * change[2]
        trial_cost = self.cost(*trial)
        if trial_cost < cost:
          break
      else:
        return count
      (self.poses, self.shape, self.log_focal), last_cost, cost = trial, cost, trial_cost
      if last_cost - cost < 1e-5 * cost:
        return count
    return MAX_STEPS

  def result(self) -> tuple[np.ndarray, float, np.ndarray]:
    """Poses [N, 4, 4], focal length (pixels), shape [P, 3]."""
    rotations, shift, _ = self._camera(self.poses, self.log_focal)
    poses = np.tile(np.eye(4), (len(shift), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotations, shift
    return poses, float(np.exp(self.log_focal)), self.shape


def _weak_perspective(landmarks, is_interpolated, size):
  """The mean shape [468, 3] (head units) of the landmarker's own x, y, z, and how each frame shows it: rotations [N, 3, 3], scale
  [N] pixels, place [N, 3] pixels from the centre."""
  center = (size - 1) / 2
  clouds = landmarks[:, :NUM_FACE_POINTS] - (center, center, 0)
  good = clouds[~is_interpolated]
  mean = good[0] - good[0].mean(0)
  for _ in range(3):
    rotation, scale, shift = rigid.align(good[:, RIGID_POINTS], mean[RIGID_POINTS])
    mean = (scale[:, None, None] * good @ np.swapaxes(rotation, -1, -2) + shift[:, None]).mean(0)
  mean = mean - mean[[RIGHT_EYE, LEFT_EYE]].mean(0)
  mean /= np.linalg.norm(mean[LEFT_EYE] - mean[RIGHT_EYE])
  return mean, *rigid.align(mean[RIGID_POINTS], clouds[:, RIGID_POINTS])


def _similarity_directions(shape: np.ndarray) -> np.ndarray:
  """[3P, 7] orthonormal: how points [P, 3] move under small shifts, turns and scaling."""
  shifts = np.tile(np.eye(3), (len(shape), 1))
  turns = -rigid.skew(shape - shape.mean(0)).reshape(-1, 3)
  return np.linalg.qr(np.concatenate([shifts, turns, (shape - shape.mean(0)).reshape(-1, 1)], axis=1))[0]


def second_difference_bands(clip_lengths: list[int]) -> np.ndarray:
  """Diagonals 0, 1, 2 [3, N] of DᵀD, D the second differences in time inside clips."""
  bands = np.zeros((3, sum(clip_lengths)))
  starts = np.flatnonzero(_inner_triples(clip_lengths))
  for offset, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
    for other, other_value in ((0, 1.0), (1, -2.0), (2, 1.0)):
      if other >= offset:
        np.add.at(bands[other - offset], starts + offset, value * other_value)
  return bands


def banded_product(bands: np.ndarray, values: np.ndarray) -> np.ndarray:
  """The symmetric matrix of diagonals 0, 1, 2 (bands[k, i] = entry (i, i + k)) times values [N, C]."""
  product = bands[0][:, None] * values
  for offset in (1, 2):
    band = bands[offset, :-offset, None]
    product[:-offset] += band * values[offset:]
    product[offset:] += band * values[:-offset]
  return product


def pose_bands(pose_pose: np.ndarray, smooth_bands: np.ndarray) -> np.ndarray:
  """Upper banded form [13, 6N] (scipy.linalg.solveh_banded) of blocks [N, 6, 6] plus smoothness on each of the six."""
  num_frames = len(pose_pose)
  bands = np.zeros((13, num_frames, 6))
  for row in range(6):
    for column in range(row, 6):
      bands[12 - (column - row), :, column] = pose_pose[:, row, column]
  bands[12] += smooth_bands[0][:, None] + 1e-6
  bands[6, 1:] += smooth_bands[1, :-1, None]
  bands[0, 2:] += smooth_bands[2, :-2, None]
  return bands.reshape(13, -1)


def _head_axes(poses, shape, landmarker_points):
  """Poses and shape in head units and axes, and the similarity [4, 4] that leads there from the landmarker's shape."""
  rotation, scale, shift = rigid.align(landmarker_points[RIGID_POINTS], shape)
  whole = scale * landmarker_points @ rotation.T + shift
  index = {point: row for row, point in enumerate(RIGID_POINTS.tolist())}
  right, left = shape[index[RIGHT_EYE]], shape[index[LEFT_EYE]]
  unit = np.linalg.norm(left - right)
  x = (left - right) / unit
  y = whole[CHIN] - whole[FOREHEAD]
  y = y - x * (x @ y)
  y /= np.linalg.norm(y)
  axes = np.stack([x, y, np.cross(x, y)])  # rows: new axes in old coordinates
  origin = (left + right) / 2
  moved = poses.copy()
  moved[:, :3, 3] = (poses[:, :3, 3] + poses[:, :3, :3] @ origin) / unit
  moved[:, :3, :3] = poses[:, :3, :3] @ axes.T
  from_landmarker = np.eye(4)
  from_landmarker[:3, :3] = scale / unit * axes @ rotation
  from_landmarker[:3, 3] = axes @ (shift - origin) / unit
  return moved, (shape - origin) @ axes.T / unit, from_landmarker


def locate_points(seen: np.ndarray, poses: np.ndarray, focal: float, size: int, is_used: np.ndarray, prior: np.ndarray,
                  max_frames: int = 1500) -> np.ndarray:
  """Positions [P, 3] of points seen at pixels [N, P, 2], robustly triangulated from the poses, drawn to a prior shape
  [P, 3].

  The prior decides what the views do not: depth where the head hardly turns, and of points that move by themselves.
  """
  chosen = np.flatnonzero(is_used)
  chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(max_frames, len(chosen))).round().astype(int))]
  seen, poses = np.swapaxes(seen[chosen].astype(np.float64) - (size - 1) / 2, 0, 1), poses[chosen]  # [P, n, 2]: a matrix a point
  points = prior.copy()
  unit_px = focal / np.median(poses[:, 2, 3])
  prior_weight = (0.02 * unit_px / SHAPE_PRIOR_SPREAD)**2 * 25
  for _ in range(8):
    camera = np.einsum('nij,pj->pni', poses[:, :3, :3], points, optimize=True) + poses[:, :3, 3]
    residual = focal * camera[..., :2] / camera[..., 2:] - seen
    weight = 1 / np.sqrt(np.maximum(1.0, np.linalg.norm(residual, axis=-1) / (2 * HUBER_FACE * unit_px)))
    by_point = (poses[:, :2, :3] - (camera[..., :2] / camera[..., 2:])[..., None] * poses[:, 2:3, :3]) * (
        focal * weight / camera[..., 2])[..., None, None]  # [P, n, 2, 3]
    rows, off = by_point.reshape(len(points), -1, 3), (residual * weight[..., None]).reshape(len(points), -1, 1)
    matrix = np.swapaxes(rows, -1, -2) @ rows + prior_weight * np.eye(3)
    gradient = (np.swapaxes(rows, -1, -2) @ off)[..., 0] + prior_weight * (points - prior)
    points = points - np.linalg.solve(matrix, gradient[..., None])[..., 0]
  return points
