"""How good the videos are for this: trust in each frame for the fit, and plain warnings with their reason."""
import concurrent.futures
import itertools
import pathlib

import numpy as np
import scipy.ndimage

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import canonical, rigid, tracking

FACE_SIDE = 128  # px that the face's surroundings are shrunk to for measuring
CHUNK_FRAMES = 100
BLUR_NEIGHBOURS = 25  # frames whose median sharpness a frame is compared with
BLURRED = 0.5  # of its neighbours' sharpness: below this a frame is trusted less
PROFILE_DEGREES, HIDDEN_DEGREES = 35.0, 65.0  # of turn to the side: trust falls from 1 to its minimum between
MIN_TRUST = 0.1
RIGHT_SIDE, LEFT_SIDE = 234, 454  # face rim before the ears

MIN_FACE_PX = 80  # of the source's, width
MAX_LOST = 0.15  # share of the videos without a usable face
MAX_TURN_DEGREES = 30.0  # from straight on, 95 % of the frames
MAX_SHAKE = 0.02  # of the face's width: median second difference in time of the face's place
MAX_CUTS_PER_MINUTE, MIN_CUTS = 8.0, 3
MIN_SECONDS = 20.0
MIN_MOUTH_MOTION = 0.01  # standard deviation of the opening, in distances of the eye corners
MIN_GREY, MAX_GREY = 45.0, 215.0  # mean of the face
MAX_GREY_CHANGE = 14.0  # standard deviation over time of the face's mean, after smoothing
MAX_BLURRED = 0.2  # share of frames
MAX_REPROJECTION = 0.012  # of the face's width: median distance of fitted points from their landmarks
SMOOTHING_FRAMES = 12


def _measure(path: pathlib.Path, landmarks: np.ndarray, start: int) -> np.ndarray:
  """[n, 2] as `measure` of frames start, start + 1 … whose landmarks [n, 478, 2] are given."""
  import cv2
  frames = np.load(path, mmap_mode='r')
  result = np.zeros((len(landmarks), 2))
  for row, points in enumerate(landmarks[:, :tracking.NUM_FACE_POINTS]):
    low = np.clip(points.min(0), 0, frames.shape[1] - 2).astype(int)
    high = np.maximum(np.clip(points.max(0) + 1, 2, frames.shape[1]).astype(int), low + 2)
    face = np.ascontiguousarray(frames[start + row, low[1]:high[1], low[0]:high[0]])
    face = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA)
    result[row] = cv2.Laplacian(face, cv2.CV_32F).var(), face.mean()
  return result


def measure(path: pathlib.Path, landmarks: np.ndarray, pool: concurrent.futures.Executor) -> np.ndarray:
  """[N, 2] float64: sharpness (variance of the Laplacian) and mean grey (0 … 255) of each frame's face.

  Args:
    path: frames.npy.
    landmarks: [N, 478, ≥2] frame pixels.
    pool: where the frames are read.
  """
  starts = range(0, len(landmarks), CHUNK_FRAMES)
  parts = [landmarks[start:start + CHUNK_FRAMES, :, :2] for start in starts]
  return np.concatenate(list(pool.map(_measure, itertools.repeat(path), parts, starts)))


def side_turn(landmarks: np.ndarray) -> np.ndarray:
  """[N] degrees that the face looks to the side, by the landmarker's own depth [N, 478, 3]."""
  across = landmarks[:, LEFT_SIDE] - landmarks[:, RIGHT_SIDE]
  return np.degrees(np.arctan2(across[:, 2], across[:, 0]))


def frame_weights(landmarks: np.ndarray, is_interpolated: np.ndarray, sharpness: np.ndarray,
                  clip_lengths: list[int]) -> np.ndarray:
  """[N] trust in each frame's landmarks and picture: 0 without a face, low where blurred or in profile, else 1."""
  blur = np.ones(len(sharpness))
  for clip in np.split(np.arange(len(sharpness)), np.cumsum(clip_lengths)[:-1]):
    usual = scipy.ndimage.median_filter(sharpness[clip], BLUR_NEIGHBOURS, mode='nearest')
    blur[clip] = sharpness[clip] / np.maximum(usual, 1e-6) / BLURRED
  profile = (HIDDEN_DEGREES - np.abs(side_turn(landmarks))) / (HIDDEN_DEGREES - PROFILE_DEGREES)
  return np.where(is_interpolated, 0.0, np.clip(np.minimum(blur, profile), MIN_TRUST, 1.0))


def assess(measured: np.ndarray, weight: np.ndarray, poses: np.ndarray, landmarks: np.ndarray, source_scale: np.ndarray,
           is_interpolated: np.ndarray, clip_lengths: list[int], num_source: int, num_cuts: int,
           reprojection_px: float) -> tuple[dict[str, float], list[str]]:
  """The numbers of meta.report['quality'], and one line for each that makes the result worse, with reason and remedy.

  Args:
    measured: [N, 2] of `measure`.
    weight: [N] of `frame_weights`.
    poses: [N, 4, 4] head → camera.
    landmarks: [N, 478, ≥2] frame pixels.
    source_scale: [N] source pixels of one frame pixel.
    is_interpolated: [N] bool.
    clip_lengths: frames of each clip.
    num_source: frames of all videos at 25 fps, kept or not.
    num_cuts: in all videos.
    reprojection_px: median distance of the fitted points from their landmarks.
  """
  seen = ~is_interpolated
  width = np.ptp(landmarks[:, :tracking.NUM_FACE_POINTS, 0], axis=1)
  turn = np.degrees(np.linalg.norm(rigid.vector_from_rotation(poses[:, :3, :3])[:, :2], axis=-1))
  clips = np.split(measured[:, 1], np.cumsum(clip_lengths)[:-1])
  smooth = np.concatenate([scipy.ndimage.uniform_filter1d(clip, SMOOTHING_FRAMES, mode='nearest') for clip in clips])
  place = np.split(np.median(landmarks[:, tracking.RIGID_POINTS, :2], axis=1), np.cumsum(clip_lengths)[:-1])
  jumps = np.concatenate([np.linalg.norm(np.diff(clip, n=2, axis=0), axis=-1) for clip in place])
  numbers = {
      'face_width_source_px': float(np.median((width * source_scale)[seen])),
      'lost_share': 1 - float(seen.sum()) / num_source,
      'turn_p95_degrees': float(np.percentile(turn[seen], 95)),
      'shake_px': float(np.median(jumps)),
      'mouth_motion': float(canonical.mouth_opening(landmarks)[seen].std()),
      'cuts_per_minute': num_cuts * 60 * schema.FPS / num_source,
      'face_grey': float(np.median(measured[seen, 1])),
      'face_grey_change': float(smooth[seen].std()),
      'blurred_share': float((weight[seen] < 0.9).mean()),
      'face_width_px': float(np.median(width[seen])),
      'reprojection_median_px': reprojection_px}
  n, face = numbers, numbers['face_width_px']
  checks = [
      (len(landmarks) < MIN_SECONDS * schema.FPS, f'only {len(landmarks) / schema.FPS:.1f} s are usable; a minute of speech is '
       'enough to see it work, three are better'),
      (n['mouth_motion'] < MIN_MOUTH_MOTION, 'the mouth does not move: nothing can be learnt; use a video of speech'),
      (n['face_width_source_px'] < MIN_FACE_PX, f'the face is {n["face_width_source_px"]:.0f} px wide, below {MIN_FACE_PX}: lips '
       'will be blurred; use a closer or larger shot'),
      (n['lost_share'] > MAX_LOST, f'{100 * n["lost_share"]:.0f} % of the video shows no usable face; cut those parts out or use '
       'another take'),
      (n['turn_p95_degrees'] > MAX_TURN_DEGREES, f'the head turns {n["turn_p95_degrees"]:.0f} degrees away from the camera, more '
       f'than {MAX_TURN_DEGREES:.0f}: lips of those frames are poor; face the camera'),
      (n['shake_px'] > MAX_SHAKE * face, f'camera or head shakes by {100 * n["shake_px"] / face:.0f} % of the face\'s width from '
       'frame to frame; use a tripod'),
      (num_cuts >= MIN_CUTS and n['cuts_per_minute'] > MAX_CUTS_PER_MINUTE, f'{n["cuts_per_minute"]:.0f} cuts a minute, each '
       'begins a new clip; use an unedited take'),
      (n['face_grey'] < MIN_GREY, f'the face is dark (grey {n["face_grey"]:.0f} of 255); light it from the front'),
      (n['face_grey'] > MAX_GREY, f'the face is overexposed (grey {n["face_grey"]:.0f} of 255); lower the exposure'),
      (n['face_grey_change'] > MAX_GREY_CHANGE, f'the light on the face changes by {n["face_grey_change"]:.0f} grey levels; use '
       'steady light and fixed exposure'),
      (n['blurred_share'] > MAX_BLURRED, f'{100 * n["blurred_share"]:.0f} % of the frames are blurred or in profile; use a shorter '
       'exposure, face the camera'),
      (reprojection_px > MAX_REPROJECTION * face, f'the face does not fit one rigid head (landmarks off by {reprojection_px:.1f} '
       'px): is it one person, and a real face?')]
  return numbers, [text for is_bad, text in checks if is_bad]
