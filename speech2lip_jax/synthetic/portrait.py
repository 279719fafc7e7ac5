"""The synthetic subject's head at rest: a photograph, the depth and rim of the head in it, and what lies behind the head.

The photograph is NASA's portrait of Eileen Collins (public domain), in the size that image libraries hand out as `astronaut`.
assets/portrait.webp is the window of it that is used, without loss; assets/portrait.npz holds what was read off it once: the
window's corner, MediaPipe's 478 landmarks (photo pixels, z in pixels) and the head's mask (GrabCut, two mask pixels a photo pixel).
Photo coordinates (u, v): pixels of the photograph, centres at integers.

The reference camera sees the photograph itself: a head point of depth D at photo place (u, v) lies at
((u − CENTER_U) / FOCAL · D, (v − CENTER_V) / FOCAL · D, D), in head units (1: between the outer eye corners).
"""
import dataclasses
import functools
import pathlib

import cv2
import numpy as np
import scipy.interpolate
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from speech2lip_jax.preprocess.canonical import FACE_OVAL
from speech2lip_jax.preprocess.tracking import LEFT_EYE, RIGHT_EYE

ASSETS = pathlib.Path(__file__).resolve().parents[1] / 'assets'
SPAN = 232.0  # photo pixels that the picture shows, across and down; the face is 108 high
CENTER_U, CENTER_V = 224.0, 119.0  # photo place in the picture's middle
FOCAL_WIDTHS = 2.2  # the camera's focal length in picture widths
FOCAL = FOCAL_WIDTHS * SPAN  # the same in photo pixels
WINDOW = 256  # side of the square of the photo that is kept, from the mask's corner
DEPTH_SCALE = 1.1  # the head is this much deeper than the landmark model believes, as a real one might be
BACK = 1.1  # head units behind the eyes where the hair's outline lies
WALL_START, WALL_SLOPE = 1.8, 0.4  # photo pixels outside the rim; head units of depth a photo pixel from there on
RIM = (0.6, 1.6)  # photo pixels outside the mask over which the head fades out
NECK_SHADOW = 0.3  # of the light that the chin takes from the neck right below it
NECK = np.array([(186, 180), (185, 164), (186, 120), (255, 120), (256, 164), (254, 184), (235, 188), (217, 184)], np.float64)


@dataclasses.dataclass(frozen=True)
class Portrait:
  """The window of the photo in photo resolution.

  corner: photo (u, v) of pixel (0, 0); rgb_head: [256, 256, 3] float32 0 … 1, the head's colours carried on past its rim;
  alpha: [256, 256] float32 0 … 1, 1 on the head; depth: [256, 256] float32, head units, rising steeply outside the head;
  rgb_behind: [256, 256, 3] float32, background, shoulders and neck without the head;
  landmarks: [478, 2] float64 photo (u, v); head_origin: [3] the eyes' middle in the reference camera.
  """
  corner: np.ndarray
  rgb_head: np.ndarray
  alpha: np.ndarray
  depth: np.ndarray
  rgb_behind: np.ndarray
  landmarks: np.ndarray
  head_origin: np.ndarray


@functools.cache
def load() -> Portrait:
  """Builds the head from the two assets, 1 s."""
  with np.load(ASSETS / 'portrait.npz') as asset:
    corner, landmarks = asset['left_top'], asset['landmarks'].astype(np.float64)
    fine = np.unpackbits(asset['mask_head'], axis=1).astype(np.float32)
  top = int(corner[1])
  photo = photograph().astype(np.float32) / 255
  away = _signed_distance(fine)
  alpha = np.clip((RIM[1] - away) / (RIM[1] - RIM[0]), 0, 1)
  # The rim's own pixels are mixed with the background, and the jaw's with its shadow: colours come from further inside.
  below = np.clip((np.arange(WINDOW)[:, None] + top - 135) / 10, 0, 1)
  is_pure = away < -1.5 - 1.0 * below
  nearest = scipy.ndimage.distance_transform_edt(~is_pure, return_distances=False, return_indices=True)
  rgb_head = np.where(is_pure[..., None], photo, cv2.GaussianBlur(photo[tuple(nearest)], (0, 0), 0.6))
  unit = np.linalg.norm(landmarks[LEFT_EYE, :2] - landmarks[RIGHT_EYE, :2])
  eye_depth = FOCAL / unit
  head_z = DEPTH_SCALE * (landmarks[:, 2] - landmarks[[RIGHT_EYE, LEFT_EYE], 2].mean()) / unit
  depth = eye_depth + _head_relief(landmarks[:468, :2] - corner, head_z[:468], away)
  middle = landmarks[[RIGHT_EYE, LEFT_EYE], :2].mean(0)
  origin = np.append((middle - (CENTER_U, CENTER_V)) / FOCAL * eye_depth, eye_depth)
  behind = _behind(photo, away < 4 + 2 * below, away, corner)
  return Portrait(corner, rgb_head, alpha.astype(np.float32), depth.astype(np.float32), behind, landmarks[:, :2], origin)


def photograph() -> np.ndarray:
  """[256, 256, 3] uint8 RGB: the window of the photograph that is kept; its pixel (0, 0) is the asset's corner."""
  picture = cv2.imread(str(ASSETS / 'portrait.webp'))
  assert picture is not None
  return np.ascontiguousarray(picture[..., ::-1])


def _behind(photo: np.ndarray, near_head: np.ndarray, away: np.ndarray, corner: np.ndarray) -> np.ndarray:
  """[256, 256, 3] float32: the photo with background and neck carried on behind the head, and the chin's shadow on the neck."""
  neck = cv2.fillPoly(np.zeros(away.shape, np.uint8), [np.round(NECK - corner).astype(np.int32)], 1) > 0
  soft = cv2.GaussianBlur(neck.astype(np.float32), (0, 0), 0.8)[..., None]
  mixed = soft * fill(photo, neck & ~near_head) + (1 - soft) * fill(photo, ~near_head & ~neck)
  shadow = 1 - NECK_SHADOW * np.exp(-np.maximum(away, 0) / 9)[..., None]
  behind = np.where(near_head[..., None], mixed, photo) * np.where(neck[..., None], shadow, 1)
  return behind.astype(np.float32)


def _signed_distance(fine: np.ndarray) -> np.ndarray:
  """[256, 256] float32 photo pixels to the outline of a mask [512, 512] of 0 and 1, negative inside; the outline is rounded."""
  inside = cv2.GaussianBlur(fine, (0, 0), 4.0) > 0.5
  outer, inner = scipy.ndimage.distance_transform_edt(~inside), scipy.ndimage.distance_transform_edt(inside)
  away = cv2.GaussianBlur(np.where(inside, 0.5 - inner, outer - 0.5).astype(np.float32), (0, 0), 2.0) / 2
  return cv2.resize(away, (WINDOW, WINDOW), interpolation=cv2.INTER_AREA)


def fill(values: np.ndarray, known: np.ndarray) -> np.ndarray:
  """`values` [H, W, C] where `known` [H, W]; elsewhere a smooth continuation: blurs of growing width, the first that reaches."""
  weight = known.astype(np.float32)
  result, reached = np.where(known[..., None], values, 0).astype(np.float32), weight.copy()
  for sigma in (1.5, 3, 6, 12, 24, 48, 96):
    near = cv2.GaussianBlur(weight, (0, 0), sigma)
    colour = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma) / np.maximum(near, 1e-6)[..., None]
    share = np.clip(near / 0.2, 0, 1) * (1 - reached)
    result += share[..., None] * colour
    reached += share
  return result / np.maximum(reached, 1e-6)[..., None]


def _head_relief(points: np.ndarray, z: np.ndarray, away: np.ndarray) -> np.ndarray:
  """[256, 256] head units behind the eyes: the landmarks' mesh on the face, a skull from its rim to the mask's, a wall outside.

  With q = (BACK − z)² harmonic between both rims, z nears the outline as an ellipsoid does.
  """
  mask = away < 0
  oval = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [np.round(points[FACE_OVAL]).astype(np.int32)], 1) > 0
  ys, xs = np.mgrid[:WINDOW, :WINDOW]
  face = scipy.interpolate.LinearNDInterpolator(points, z)(xs, ys)
  is_face = oval & np.isfinite(face)
  q = np.where(is_face, (BACK - np.nan_to_num(face))**2, 0)
  free = mask & ~is_face
  index = -np.ones(mask.shape, int)
  index[free] = np.arange(free.sum())
  rows, columns, right = [], [], np.zeros(free.sum())
  at_y, at_x = np.nonzero(free)
  for step_y, step_x in ((0, 1), (0, -1), (1, 0), (-1, 0)):
    neighbour = np.clip(at_y + step_y, 0, WINDOW - 1), np.clip(at_x + step_x, 0, WINDOW - 1)
    inside = free[neighbour]
    rows.append(np.nonzero(inside)[0])
    columns.append(index[neighbour][inside])
    right += np.where(inside, 0, q[neighbour])
  places = np.concatenate(rows), np.concatenate(columns)
  system = 4 * scipy.sparse.eye(len(right)) - scipy.sparse.csr_matrix((np.ones(len(places[0])), places), (len(right),) * 2)
  q[free] = scipy.sparse.linalg.spsolve(system.tocsc(), right)
  relief = BACK - np.sqrt(np.maximum(q, 0))
  solid = mask | is_face
  nearest = scipy.ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
  relief = relief[tuple(nearest)]
  beside = np.clip((away + 3) / 3, 0, 1)  # the outline itself is to be smooth
  relief = (1 - beside) * cv2.GaussianBlur(relief, (0, 0), 1.5) + beside * cv2.GaussianBlur(relief, (0, 0), 3)
  return relief + WALL_SLOPE * np.maximum(away - WALL_START, 0)
