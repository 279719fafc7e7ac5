"""Poses refined by the pictures: every frame's upper face is brought to agree with the median of all.

Landmarks slide on the skin as the head turns and tremble by half a pixel; pixels do not. Samples of the fitted surface
(temples, cheeks, bridge of the nose: nothing that moves by itself, and neither the nose's tip nor its base: they judge) are read in
every frame at the fitted pose, less their blurred surroundings, so that light does not count; gain and offset are free a
frame. The poses then minimise the samples' distance from their median over all frames, the landmarks' residuals and the second
differences in time, all at once, as one banded system a round. The landmarks stay in as a prior, since without them the poses
drift where the face has little texture.

Tried on a 512 px broadcast clip, standard deviation of the nose's tip, held out (1.09 px before): weight 1 0.84, 3 0.74, 6 0.71.
Lost, at weight 10 of an earlier trial: plain grey instead of the difference to the blurred picture 0.96 against 0.84. A free
relief of the face and focal length moved nothing there and made a rendered head's turns wrong by 2.9 instead of 1.2 degrees.

The forehead's skin follows the brows and drags the head along: on HD the correlation of the nose base's height with the brows'
(`nose_base`) was -.34 with it, -.03 cut at the brows and -.02 cut half way to the eyes; the rendered still head has -.30 and -.15
with the last two. Lost on HD and GRID: the nose's tip in the samples (the lips' 8 nearest 28.73 -> 28.54 dB on HD's validation
part), cheeks left out (nose's base followed in the pictures .223 -> .272 px), weight 2 (28.13 -> 28.09, 30.54 -> 30.50 dB).
"""
import concurrent.futures
import itertools
import pathlib

import numpy as np
import scipy.linalg

from speech2lip_jax.preprocess import rigid, tracking

ROUNDS = 3
WEIGHT = 10.0  # of a sample's squared residual (in its own spread) against a landmark's (in the landmarks' noise)
FACE_SIDE = 110  # px; the face is shrunk to about this width: poses need no finer pixels
SAMPLE_STEP = 2.0  # px of the shrunk picture between samples
BLUR_FACE = 0.055  # of the face's width: standard deviation of the surroundings that are taken off
HUBER = 1.5  # spreads beyond which a sample counts linearly
TIP_RADIUS = 0.25  # head units around the nose's tip that are left out
TEMPLATE_FRAMES = 300
CHUNK_FRAMES = 50
BROWS = [[70, 63, 105, 66, 107], [300, 293, 334, 296, 336]]  # their upper rims
EYE_CORNERS = [[33, 133], [362, 263]]
EYES = [[33, 133, 159, 145, 158, 153, 70, 105, 107, 55, 46], [362, 263, 386, 374, 385, 380, 300, 334, 336, 285, 276]]


class _Poses:
  """Poses as six numbers in pixels (`tracking`): turn from the mean · radius, image of the origin, log depth · radius."""

  def __init__(self, poses: np.ndarray, focal_px: float, size: int):
    self.focal, self.center = focal_px, (size - 1) / 2
    self.radius = focal_px / float(np.median(poses[:, 2, 3]))
    self.turn = rigid.mean_rotation(poses[:, :3, :3])

  def numbers(self, poses: np.ndarray) -> np.ndarray:
    """[N, 4, 4] → [N, 6]."""
    shift = poses[:, :3, 3]
    turn = rigid.vector_from_rotation(poses[:, :3, :3] @ self.turn.T) * self.radius
    return np.concatenate([turn, self.focal * shift[:, :2] / shift[:, 2:], np.log(shift[:, 2:]) * self.radius], axis=1)

  def matrices(self, numbers: np.ndarray) -> np.ndarray:
    """[N, 6] → [N, 4, 4]."""
    poses = np.tile(np.eye(4), (len(numbers), 1, 1))
    poses[:, :3, :3] = rigid.rotation_from_vector(numbers[:, :3] / self.radius) @ self.turn
    depth = np.exp(numbers[:, 5:] / self.radius)
    poses[:, :3, 3] = np.concatenate([numbers[:, 3:5] * depth / self.focal, depth], axis=1)
    return poses

  def by_numbers(self, pose: np.ndarray, numbers: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera points [P, 3] of head points in one pose, and their derivative [P, 3, 6]."""
    turned = points @ pose[:3, :3].T
    moves = np.zeros((3, 3))
    moves[0, 0] = moves[1, 1] = pose[2, 3] / self.focal
    moves[:, 2] = pose[:3, 3] / self.radius
    turn = -rigid.skew(turned) @ (rigid.left_jacobian(numbers[:3] / self.radius) / self.radius)
    return turned + pose[:3, 3], np.concatenate([turn, np.broadcast_to(moves, turn.shape)], axis=-1)


class _Pictures:
  """Frames as the refinement sees them; travels to the worker processes."""

  def __init__(self, path: pathlib.Path, camera: _Poses, points: np.ndarray, shrink: float, blur: float):
    self.path, self.camera, self.points, self.shrink, self.blur = path, camera, points, shrink, blur

  def read(self, frames: np.ndarray, frame: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [P] and slopes [P, 2] (per pixel of the frame) at camera points [P, 3] of one frame."""
    import cv2
    at = self.camera.focal * points[:, :2] / points[:, 2:] + self.camera.center
    pad = 3 * self.blur / self.shrink + 2
    size = frames.shape[1]
    low = np.clip(np.floor(at.min(0) - pad), 0, size - 2).astype(int)
    high = np.clip(np.ceil(at.max(0) + pad), low + 2, size).astype(int)
    grey = cv2.cvtColor(np.ascontiguousarray(frames[frame, low[1]:high[1], low[0]:high[0]]), cv2.COLOR_RGB2GRAY)
    width, height = np.maximum(np.round((high - low) * self.shrink), 2).astype(int).tolist()
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = grey - cv2.GaussianBlur(grey, (0, 0), self.blur)
    scale = np.array([width, height]) / (high - low)
    where = ((at - low + 0.5) * scale - 0.5).astype(np.float32)[None]
    slopes = [cv2.Sobel(grey, cv2.CV_32F, *axes, ksize=3, scale=1 / 8) for axes in ((1, 0), (0, 1))]
    values, *slopes = [cv2.remap(plane, where[..., 0], where[..., 1], cv2.INTER_LINEAR)[0] for plane in (grey, *slopes)]
    return values.astype(np.float64), np.stack(slopes, -1) * scale

  def values(self, chosen: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """[n, P] samples of the frames `chosen` [n] in poses [n, 4, 4]."""
    frames = np.load(self.path, mmap_mode='r')
    return np.stack([self.read(frames, frame, self.points @ pose[:3, :3].T + pose[:3, 3])[0]
                     for frame, pose in zip(chosen.tolist(), poses)])

  def systems(self, chosen: np.ndarray, numbers: np.ndarray, template: np.ndarray, spread: float) -> np.ndarray:
    """[n, 6, 7] Gauss-Newton matrix and gradient of each frame `chosen` [n] about its pose numbers [n, 6]."""
    frames, camera, result = np.load(self.path, mmap_mode='r'), self.camera, np.zeros((len(chosen), 6, 7))
    for row, (frame, pose) in enumerate(zip(chosen.tolist(), camera.matrices(numbers))):
      points, by_numbers = camera.by_numbers(pose, numbers[row], self.points)
      values, slopes = self.read(frames, frame, points)
      weight = np.ones(len(values))
      for _ in range(2):
        gain, offset = _match(values, template, weight)
        residual = gain * values + offset - template
        weight = np.minimum(1.0, HUBER * spread / np.maximum(np.abs(residual), 1e-9))
      slopes = gain * slopes * camera.focal / points[:, 2:]
      by_point = np.concatenate([slopes, -(slopes * points[:, :2]).sum(-1, keepdims=True) / points[:, 2:]], axis=1)
      columns = np.concatenate([np.einsum('pi,pij->pj', by_point, by_numbers), residual[:, None]], axis=1)
      light = np.stack([values, np.ones_like(values)], axis=1)  # gain and offset follow whatever the pose does
      weighted = light * weight[:, None]
      columns -= light @ np.linalg.solve(weighted.T @ light + 1e-6 * np.eye(2), weighted.T @ columns)
      result[row] = ((columns * weight[:, None]).T @ columns / spread**2)[:6]
    return result


def _match(values: np.ndarray, template: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
  """Gain and offset that bring values [P] nearest to the template [P]."""
  total = weight.sum()
  mean, target = (weight * values).sum() / total, (weight * template).sum() / total
  gain = (weight * (values - mean) * (template - target)).sum() / max((weight * (values - mean)**2).sum(), 1e-9)
  return gain, target - gain * mean


def _median(values: np.ndarray) -> tuple[np.ndarray, float]:
  """The median [P] of samples [n, P] after each row's gain and offset, and the samples' spread around it."""
  median = np.median(values, axis=0)
  even = np.ones(len(median))
  for _ in range(2):
    matched = []
    for row in values:
      gain, offset = _match(row, median, even)
      matched.append(gain * row + offset)
    median = np.median(matched, axis=0)
  return median, max(1.4826 * float(np.median(np.abs(np.array(matched) - median))), 0.1)


def upper_face(landmarks: np.ndarray, size: int) -> np.ndarray:
  """[size, size] uint8: 1 where nothing moves by itself: inside the face of landmarks [478, ≥2], above the nose's tip, without
  eyes and brows, and below the line half way between brows and eyes: forehead and glabella move with the brows."""
  import cv2
  points = landmarks[:tracking.NUM_FACE_POINTS, :2].round().astype(np.int32)
  width = int(np.ptp(points[:, 0]))
  mask = cv2.fillConvexPoly(np.zeros((size, size), np.uint8), cv2.convexHull(points), 1)
  mask = cv2.erode(mask, np.ones((width // 15 + 1,) * 2))
  for eye in EYES:
    cv2.fillConvexPoly(mask, cv2.convexHull(points[eye]), 0)
    cv2.polylines(mask, [cv2.convexHull(points[eye])], True, 0, max(1, width // 20))
  mask[max(points[tracking.NOSE_TIP, 1], 0):] = 0
  right, left = ((points[brow].mean(0) + points[corners].mean(0)) / 2 for brow, corners in zip(BROWS, EYE_CORNERS))
  rows, columns = np.mgrid[:size, :size]
  mask[rows < right[1] + (columns - right[0]) * (left[1] - right[1]) / max(left[0] - right[0], 1)] = 0
  return mask


def shown_frames(used: np.ndarray) -> np.ndarray:
  """The frames whose median is the template: at most `TEMPLATE_FRAMES` of `used` [n], evenly spaced."""
  return used[np.unique(np.linspace(0, len(used) - 1, min(TEMPLATE_FRAMES, len(used))).round().astype(int))]


def face_samples(track: tracking.Track, landmarks: np.ndarray, frame: int, size: int, step: float) -> np.ndarray:
  """[P, 3] points of the upper face's surface in head units, about `step` pixels apart in the given frame.

  Args:
    track: the fit to landmarks.
    landmarks: [478, ≥2] of that frame, pixels.
    frame: one that shows the face from the front.
    size: side of the frame, pixels.
    step: pixels.
  """
  from scipy.spatial import Delaunay
  mask = upper_face(landmarks, size)
  pose = track.observed_from_head[frame].astype(np.float64)
  seen = tracking.project(track.points, pose[None], track.focal_px, size)[0]
  along = np.arange(0, size - 0.5, step)
  at = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
  at = at[mask[at[:, 1].round().astype(int), at[:, 0].round().astype(int)] > 0]
  surface = Delaunay(seen)
  inside = surface.find_simplex(at)
  at, inside = at[inside >= 0], inside[inside >= 0]
  transform = surface.transform[inside]
  shares = np.einsum('pij,pj->pi', transform[:, :2], at - transform[:, 2])
  shares = np.concatenate([shares, 1 - shares.sum(1, keepdims=True)], axis=1)
  found = np.einsum('pi,pij->pj', shares, track.points[surface.simplices[inside]])
  return found[np.linalg.norm(found - track.points[tracking.NOSE_TIP], axis=-1) > TIP_RADIUS]


def _anchor_systems(camera: _Poses, numbers: np.ndarray, shape: np.ndarray, seen: np.ndarray, weight: np.ndarray) -> np.ndarray:
  """[N, 6, 7] Gauss-Newton matrix and gradient of the points seen at [N, P, 2], weights [N, P], Huber-weighted, pixels²."""
  huber = tracking.HUBER_FACE * camera.radius
  result = np.zeros((len(numbers), 6, 7))
  for frame, pose in enumerate(camera.matrices(numbers)):
    points, by_numbers = camera.by_numbers(pose, numbers[frame], shape)
    residual = camera.focal * points[:, :2] / points[:, 2:] + camera.center - seen[frame]
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0] = by_point[:, 1, 1] = camera.focal / points[:, 2]
    by_point[..., 2] = -camera.focal * points[:, :2] / points[:, 2:]**2
    columns = np.concatenate([by_point @ by_numbers, residual[..., None]], axis=-1).reshape(-1, 7)
    trust = (weight[frame] * np.minimum(1.0, huber / np.maximum(np.linalg.norm(residual, axis=-1), 1e-12))).repeat(2)
    result[frame] = ((columns * trust[:, None]).T @ columns)[:6]
  return result


def refine(track: tracking.Track, landmarks: np.ndarray, anchors: tracking.Anchors, frame_weight: np.ndarray,
           clip_lengths: list[int], frames_path: pathlib.Path, size: int, pool: concurrent.futures.Executor) -> tracking.Track:
  """The track with refined poses; shape and focal length stay.

  Args:
    track: the fit so far.
    landmarks: [N, 478, ≥2] frame pixels.
    anchors: what the poses are drawn to besides: the points of that fit.
    frame_weight: [N] 0 … 1; 0 where there is no data.
    clip_lengths: frames of each clip.
    frames_path: frames.npy [N, size, size, 3] uint8.
    size: pixels.
    pool: where the frames are read.
  """
  poses = track.observed_from_head.astype(np.float64)
  camera = _Poses(poses, track.focal_px, size)
  numbers = camera.numbers(poses)
  used = np.flatnonzero(frame_weight > 0)
  frontal = used[np.linalg.norm(numbers[used, :3], axis=-1).argmin()]
  face_width = float(np.median(np.ptp(landmarks[used, :tracking.NUM_FACE_POINTS, 0], axis=1)))
  shrink = min(1.0, FACE_SIDE / face_width)
  samples = face_samples(track, landmarks[frontal], int(frontal), size, SAMPLE_STEP / shrink)
  if len(samples) < 50:  # a face of a few pixels
    return track
  pictures = _Pictures(frames_path, camera, samples, shrink, max(1.0, BLUR_FACE * face_width * shrink))
  error = np.linalg.norm(tracking.project(anchors.points, poses, track.focal_px, size) - anchors.seen, axis=-1)
  noise = max(float(np.median(error[anchors.weight > 0])) / 1.18, tracking.MIN_NOISE_FACE * camera.radius)
  smooth = tracking.SMOOTHNESS * tracking.second_difference_bands(clip_lengths)
  shown = shown_frames(used)
  chunks = np.array_split(used, max(1, len(used) // CHUNK_FRAMES))
  for _ in range(ROUNDS):
    poses = camera.matrices(numbers)
    parts = np.array_split(shown, max(1, len(shown) // CHUNK_FRAMES))
    template, spread = _median(np.concatenate(list(pool.map(pictures.values, parts, [poses[part] for part in parts]))))
    systems = _anchor_systems(camera, numbers, *anchors)
    found = pool.map(pictures.systems, chunks, [numbers[chunk] for chunk in chunks], itertools.repeat(template),
                     itertools.repeat(spread))
    systems[used] += WEIGHT * noise**2 * frame_weight[used, None, None] * np.concatenate(list(found))
    gradient = systems[..., 6] + tracking.banded_product(smooth, numbers)
    bands = tracking.pose_bands(systems[..., :6], smooth)
    numbers = numbers - scipy.linalg.solveh_banded(bands, gradient.ravel()).reshape(-1, 6)
  poses = camera.matrices(numbers)
  report = track.report | {'grey_spread': spread, 'num_samples': len(samples)}
  return tracking.Track(poses.astype(np.float32), track.focal_px, track.points, report)
