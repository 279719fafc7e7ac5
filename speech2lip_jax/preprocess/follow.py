"""Places of the skin followed in the pictures, which do not slide on the face as a detector's landmarks do when it turns.

Every frame is brought to the canonical view by the fit so far; places with texture (upper face; nothing that moves by itself,
and not the nose's tip, which judges) are followed by Lucas-Kanade from the median picture to each of them and back, and what is
found is carried to the frame again. A slide that grows with the turn looks like another focal length and another depth, so the
joint fit is done anew with these places, and kept if they move more like one rigid body than the landmarks: real skin under
compression may not.

Rendered head whose brows move, the detector's landmarks, 256 px: rotation error 4.1 -> 0.60 degrees turning, 1.6 -> .24 nodding,
.62 -> .21 still. With the landmark fit's weaker prior the focal length drifts to 5.3 widths (true: 2.2): 1.6, .35 and .22 degrees.
Broadcast clip, where they move less rigidly (.95 px, landmarks .54): nose's tip held out .69 -> 1.17 px. More rounds gained
nothing; refining by `photometric` after it lost (turning 1.0).
"""
import concurrent.futures
import dataclasses
import itertools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.preprocess import canonical, photometric, projection, tracking

MAX_PLACES = 200
SPACING, WINDOW, MAX_RETURN = 0.025, 0.14, 0.005  # of the face's width: between places, of Lucas-Kanade, of the way back
MIN_PLACES, MIN_FOUND = 12, 0.3  # places; share of places and frames that are found
CHUNK_FRAMES = 50


class _View(NamedTuple):
  """The canonical view's window, for the worker processes. grid: [h, w, 2] pixels; depth: [S, S] head units."""
  path: pathlib.Path
  grid: np.ndarray
  depth: np.ndarray
  focal_px: float
  size: int


def _warped(view: _View, chosen: np.ndarray, moves: np.ndarray) -> np.ndarray:
  """[n, h, w] float32 grey of frames `chosen` in the canonical view, of one mean and contrast."""
  import cv2
  frames = np.load(view.path, mmap_mode='r')
  rows, columns = view.grid[..., 1].astype(int), view.grid[..., 0].astype(int)
  pictures = []
  for frame, move in zip(chosen.tolist(), moves):
    at = projection.observed_coords(view.grid, view.depth[rows, columns], move, view.focal_px, view.size).astype(np.float32)
    grey = cv2.cvtColor(np.ascontiguousarray(frames[frame]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    picture = cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    pictures.append((picture - picture.mean()) / max(float(picture.std()), 1.0))
  return np.stack(pictures)


def _as_picture(values: np.ndarray) -> np.ndarray:
  return np.clip(128 + 50 * values, 0, 255).astype(np.uint8)


def _displacements(view: _View, chosen: np.ndarray, moves: np.ndarray, template: np.ndarray, places: np.ndarray, window: int,
                   max_return: float) -> tuple[np.ndarray, np.ndarray]:
  """How far each place [P, 2] of the window lies from where it should in each frame: [n, P, 2] pixels, and whether it was found
  [n, P]."""
  import cv2
  how: dict[str, Any] = {'winSize': (window, window), 'maxLevel': 2, 'flags': cv2.OPTFLOW_USE_INITIAL_FLOW}
  start = places[:, None].astype(np.float32)
  moved, found = [], []
  for picture in _warped(view, chosen, moves):
    there, is_there, _ = cv2.calcOpticalFlowPyrLK(template, _as_picture(picture), start, start.copy(), **how)
    back, is_back, _ = cv2.calcOpticalFlowPyrLK(_as_picture(picture), template, there, there.copy(), **how)
    moved.append(there[:, 0] - places)
    found.append((is_there[:, 0] > 0) & (is_back[:, 0] > 0)
                 & (np.linalg.norm(back[:, 0] - places, axis=-1) < max_return))
  return np.stack(moved), np.stack(found)


def follow(track: tracking.Track, landmarks: np.ndarray, frame_weight: np.ndarray, frames_path: pathlib.Path, size: int,
           pool: concurrent.futures.Executor) -> tracking.Anchors | None:
  """Places followed through all frames; None where the face has too little texture.

  Args:
    track: the fit so far.
    landmarks: [N, 478, ≥2] frame pixels.
    frame_weight: [N] 0 … 1.
    frames_path: frames.npy [N, size, size, 3] uint8.
    size: pixels.
    pool: where the frames are read.
  """
  import cv2
  poses, focal = track.observed_from_head.astype(np.float64), track.focal_px
  used = np.flatnonzero(frame_weight > 0)
  turn = np.linalg.norm(tracking.turns_from_mean(poses[used]), axis=-1)
  chosen = int(used[turn.argmin()])
  face = landmarks[chosen, :tracking.NUM_FACE_POINTS, :2]
  width = float(np.ptp(face[:, 0]))
  low = np.clip(np.floor(face.min(0)) - 8, 0, size - 2).astype(int)
  high = np.clip(np.ceil(face.max(0)) + 8, low + 2, size).astype(int)
  grid = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), -1).astype(np.float64)
  depth = canonical.depth_map(track.points, poses[chosen], focal, size).astype(np.float64)
  view = _View(frames_path, grid, depth, focal, size)
  moves = relative_pose(poses, poses[chosen])
  chunks = np.array_split(used, max(1, len(used) // CHUNK_FRAMES))
  shown = photometric.shown_frames(used)
  parts = np.array_split(shown, max(1, len(shown) // CHUNK_FRAMES))
  pictures = pool.map(_warped, itertools.repeat(view), parts, [moves[part] for part in parts])
  template = _as_picture(np.median(np.concatenate(list(pictures)), axis=0))
  mask = photometric.upper_face(landmarks[chosen], size)
  tip = face[tracking.NOSE_TIP]
  radius = photometric.TIP_RADIUS * focal / float(np.median(poses[:, 2, 3]))
  cv2.circle(mask, np.round(tip).astype(int).tolist(), round(radius), 0, -1)
  places = cv2.goodFeaturesToTrack(template, MAX_PLACES, 0.002, max(3.0, SPACING * width),
                                   mask=mask[low[1]:high[1], low[0]:high[0]], blockSize=7)
  if places is None or len(places) < MIN_PLACES:
    return None
  places = places[:, 0]
  results = pool.map(_displacements, itertools.repeat(view), chunks, [moves[chunk] for chunk in chunks], itertools.repeat(template),
                     itertools.repeat(places), itertools.repeat(int(WINDOW * width) | 1), itertools.repeat(MAX_RETURN * width))
  moved, found = (np.concatenate(values) for values in zip(*results))

  level = lambda at: cv2.remap(depth, at[..., 0].astype(np.float32), at[..., 1].astype(np.float32), cv2.INTER_LINEAR)
  there = places + low
  seen, weight = np.zeros((len(poses), len(places), 2)), np.zeros((len(poses), len(places)))
  for row, frame in enumerate(used.tolist()):
    at = np.where(found[row][:, None], there + moved[row], there)
    seen[frame] = projection.observed_coords(at, level(at[None])[0], moves[frame], focal, size)
    weight[frame] = frame_weight[frame] * found[row]
  rays = np.concatenate([(there - (size - 1) / 2) / focal, np.ones((len(there), 1))], axis=1)
  head_from_camera = np.linalg.inv(poses[chosen])
  points = rays * level(there[None])[0][:, None] @ head_from_camera[:3, :3].T + head_from_camera[:3, 3]
  return tracking.Anchors(points, seen, weight)


def _fitted(track: tracking.Track, landmarks: np.ndarray, frame_weight: np.ndarray, rows: np.ndarray, clip_lengths: list[int],
            frames_path: pathlib.Path, size: int, pool: concurrent.futures.Executor) -> tracking.Track | None:
  """As `refit`, of the frames `rows` [n], which hold all weight, alone."""
  places = follow(track, landmarks, frame_weight, frames_path, size, pool)
  if places is None or (places.weight[rows] > 0).mean() < MIN_FOUND:
    return None
  chosen = dataclasses.replace(track, observed_from_head=track.observed_from_head[rows])
  fitted, places = tracking.refit(chosen, places._replace(seen=places.seen[rows], weight=places.weight[rows]), clip_lengths, size)
  poses = fitted.observed_from_head.astype(np.float64)
  error = np.linalg.norm(tracking.project(places.points, poses, fitted.focal_px, size) - places.seen, axis=-1)[places.weight > 0]
  misfit = float(np.median(error))
  if not misfit < track.report['reprojection_median_px']:
    return None
  return dataclasses.replace(fitted, report=fitted.report | {'followed_median_px': misfit})


def refit(track: tracking.Track, landmarks: np.ndarray, frame_weight: np.ndarray, clip_lengths: list[int],
          frames_path: pathlib.Path, size: int, pool: concurrent.futures.Executor) -> tracking.Track | None:
  """The track fitted to followed places; None where they are too few or move less rigidly than the landmarks. See `follow`.

  Where some frames, each on its own, say that already, the others are not followed.
  """
  trial = photometric.shown_frames(np.flatnonzero(frame_weight > 0))
  if len(trial) < len(frame_weight) / 2:
    weight = np.zeros_like(frame_weight)
    weight[trial] = frame_weight[trial]
    if _fitted(track, landmarks, weight, trial, [1] * len(trial), frames_path, size, pool) is None:
      return None
  return _fitted(track, landmarks, frame_weight, np.arange(len(frame_weight)), clip_lengths, frames_path, size, pool)
