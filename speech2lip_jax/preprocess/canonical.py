"""Canonical space: the frame and pose that all lips are brought to, its depth, its masks and the lip box.

The canonical view is one real frame: frontal for this video, sharp, mouth at rest. Its depth is the fitted face seen
from there, carried on smoothly past the face's rim. Pixels (x, y), centres at integers; depth in head units along the
camera's z.
"""
import numpy as np
import scipy.interpolate
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.ops import boxes
from speech2lip_jax.preprocess import rigid, tracking

FACE_OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109
])
OUTER_LIPS = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146])
INNER_LIPS = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95])
LIPS = np.concatenate([OUTER_LIPS, INNER_LIPS])
UPPER_INNER_LIP, LOWER_INNER_LIP = 13, 14

NUM_CANDIDATES = 60  # frames whose sharpness is measured
HEAD_DEPTH = 0.6  # head units behind the face's rim that the depth falls back to at the image border
TENSION = 0.1  # per coarse pixel squared: the slope at the rim dies out over about three of them, without overshoot
DEPTH_GRID = 125  # px of the coarse image on which depth is carried past the rim
LIP_MARGIN, LIP_MARGIN_BELOW = 0.12, 0.18  # of the mouth's width
HEAD_SCALE, HAIR_SCALE = (1.25, 1.45), (2.0, 1.9)  # likely and widest head: half axes over those of the landmarks (x, y)
BELOW_CHIN = 0.05  # of the face's height


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
  """Distance of the inner lips' middles over the distance of the outer eye corners, [N], from landmarks [N, 478, 2]."""
  gap = np.linalg.norm(landmarks[:, UPPER_INNER_LIP, :2] - landmarks[:, LOWER_INNER_LIP, :2], axis=-1)
  eyes = np.linalg.norm(landmarks[:, tracking.LEFT_EYE, :2] - landmarks[:, tracking.RIGHT_EYE, :2], axis=-1)
  return gap / eyes


def choose_frame(frames: np.ndarray, landmarks: np.ndarray, poses: np.ndarray, is_interpolated: np.ndarray) -> int:
  """The canonical frame: near the mean pose and place, mouth nearly shut, sharp, detected.

  Args:
    frames: [N, H, W, 3] uint8, may be memory-mapped: only candidates are read.
    landmarks: [N, 478, 2]; poses: [N, 4, 4]; is_interpolated: [N] bool.
  """
  import cv2
  turn = np.linalg.norm(rigid.vector_from_rotation(poses[:, :3, :3] @ rigid.mean_rotation(poses[:, :3, :3]).T), axis=-1)
  place = np.linalg.norm(poses[:, :3, 3] - np.median(poses[:, :3, 3], axis=0), axis=-1)
  opening = mouth_opening(landmarks)
  rest = np.percentile(opening, 20)
  # One unit is: 6 degrees of turn, 0.3 head units of place, 0.05 of mouth opening.
  distance = turn / np.radians(6) + place / 0.3 + np.abs(opening - rest) / 0.05
  distance[is_interpolated] = np.inf
  candidates = np.argsort(distance, kind='stable')[:NUM_CANDIDATES]
  candidates = candidates[np.isfinite(distance[candidates])]
  sharpness = []
  for frame in candidates.tolist():
    grey = cv2.cvtColor(np.ascontiguousarray(frames[frame]), cv2.COLOR_RGB2GRAY)
    inside = face_mask(landmarks[frame], grey.shape).astype(bool)
    sharpness.append(cv2.Laplacian(grey, cv2.CV_32F)[inside].var())
  score = distance[candidates] - 2.0 * np.log(np.array(sharpness) + 1e-6)
  return int(candidates[score.argmin()])


def face_mask(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """[H, W] uint8: 1 inside the convex hull of the face landmarks [≥468, 2]."""
  import cv2
  hull = cv2.convexHull(landmarks[:tracking.NUM_FACE_POINTS, :2].round().astype(np.int32))
  return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 1)


def depth_map(points: np.ndarray, pose: np.ndarray, focal_px: float, size: int) -> np.ndarray:
  """[size, size] float32 depth > 0 of the face seen in `pose`, carried on smoothly over the whole image.

  Args:
    points: [468, 3] face points, head units.
    pose: [4, 4] canonical pose, head → camera.
    focal_px: pixels.
    size: side of the image.

  Raises:
    InputError: the face does not lie in the image.
  """
  import cv2
  seen = tracking.project(points, pose[None], focal_px, size)[0]
  depth = (points @ pose[:3, :3].T + pose[:3, 3])[:, 2]
  inside = cv2.fillPoly(np.zeros((size, size), np.uint8), [seen[FACE_OVAL].round().astype(np.int32)], 1).astype(bool)
  inside &= scipy.ndimage.binary_erosion(inside, iterations=max(1, size // 250))
  if not inside.any():
    raise InputError('the tracked face lies outside its crop; check that the video shows one face, large enough')
  face = np.full((size, size), np.nan)
  ys, xs = np.nonzero(inside)
  face[ys, xs] = scipy.interpolate.LinearNDInterpolator(seen, depth)(xs, ys)
  rim = float(np.median(depth[FACE_OVAL]))
  return _carry_on(np.nan_to_num(face), np.isfinite(face), rim + HEAD_DEPTH).astype(np.float32)


def _carry_on(values: np.ndarray, known: np.ndarray, border: float) -> np.ndarray:
  """Fills `values` [H, W] where not `known` by the smoothest surface that joins them with level and slope and ends at
  `border`.

  A thin plate under tension on a coarse grid; near the rim the known values are blended in, so that no step is left.
  """
  import cv2
  size = values.shape[0]
  coarse = min(DEPTH_GRID, size)
  weight = cv2.resize(known.astype(np.float64), (coarse, coarse), interpolation=cv2.INTER_AREA)
  level = cv2.resize(np.where(known, values, 0.0), (coarse, coarse), interpolation=cv2.INTER_AREA)
  fixed = weight > 0.999
  target = np.where(fixed, level / np.maximum(weight, 1e-9), border)
  fixed[[0, -1]] = fixed[:, [0, -1]] = True
  line = scipy.sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(coarse, coarse))
  unit = scipy.sparse.eye(coarse)
  laplacian = scipy.sparse.csr_matrix(scipy.sparse.kron(line, unit) + scipy.sparse.kron(unit, line))
  inner = np.zeros((coarse, coarse))
  inner[1:-1, 1:-1] = 1.0
  bending = scipy.sparse.diags(inner.ravel()) @ laplacian  # the outermost pixels lack neighbours: they do not bend
  plate = bending.T @ bending - TENSION * laplacian
  free = ~fixed.ravel()
  plate = plate.tocsr()[free]
  filled = target.ravel().copy()
  filled[free] = scipy.sparse.linalg.spsolve(plate[:, free].tocsc(), -plate[:, ~free] @ filled[~free])
  outside = cv2.resize(filled.reshape(coarse, coarse), (size, size), interpolation=cv2.INTER_CUBIC)
  inward = scipy.ndimage.distance_transform_edt(known)
  share = boxes.smoothstep(inward / (3.0 * size / coarse))
  smooth = scipy.ndimage.gaussian_filter(np.where(known, values, outside), size / 250)
  return share * smooth + (1 - share) * outside


def enlarge(image: np.ndarray, scale: float) -> np.ndarray:
  """The canonical picture [scale·H, scale·W, 3] uint8 of the canonical frame [H, W, 3] uint8."""
  import cv2
  height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
  return image if scale == 1 else cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_CUBIC)


def head_mask(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
  """[H, W] uint8: 1 on face, hair and ears of `frame` [H, W, 3] uint8 RGB, by GrabCut.

  It starts from the face, which is certain, and a likely head around it; hair may reach to a wider outline, and the neck
  ends a little below the chin. The likely head itself where GrabCut finds nearly all or nearly nothing.
  """
  import cv2
  shape = frame.shape[:2]
  face = face_mask(landmarks, shape)
  low, high = landmarks[:tracking.NUM_FACE_POINTS, :2].min(0), landmarks[:tracking.NUM_FACE_POINTS, :2].max(0)
  middle, half = (low + high) / 2, (high - low) / 2
  chin = high[1] + BELOW_CHIN * 2 * half[1]

  def outline(scale):
    """An ellipse around the head: its lower end is just below the chin, so that hair has room above."""
    axes = half * scale
    center = middle[0], chin - axes[1]
    return cv2.ellipse(np.zeros(shape, np.uint8), [round(float(c)) for c in center], [round(float(a)) for a in axes], 0, 0,
                       360, 1, -1)

  likely, possible = outline(HEAD_SCALE), outline(HAIR_SCALE) | outline(HEAD_SCALE)
  labels = np.where(likely, cv2.GC_PR_FGD, np.where(possible, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
  labels[face > 0] = cv2.GC_FGD
  try:
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(frame[..., ::-1]), labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 5,
                cv2.GC_INIT_WITH_MASK)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
  except cv2.error:  # no background pixel left, or one colour only
    found = face
  kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(3, shape[0] // 50),) * 2)
  found = cv2.morphologyEx(cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel) | face
  count, parts, sizes, _ = cv2.connectedComponentsWithStats(found)
  if count > 2:
    found = (parts == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
  found = scipy.ndimage.binary_fill_holes(found)
  extra = float((found & (face == 0)).sum()) / max(1.0, float((possible & (face == 0)).sum()))
  return (found if 0.05 < extra < 0.98 else likely | face).astype(np.uint8)


def lip_box(mouths: np.ndarray, size: int) -> boxes.LipBox:
  """Rectangle that holds the canonical lips [N, L, 2] of nearly all frames and a margin, even-sized, in the image."""
  low, high = np.percentile(mouths.min(1), 0.5, axis=0), np.percentile(mouths.max(1), 99.5, axis=0)
  mouth_width = float(np.median(np.ptp(mouths[..., 0], axis=1)))
  margin, below = LIP_MARGIN * mouth_width, LIP_MARGIN_BELOW * mouth_width
  left, top = np.clip(np.floor([low[0] - margin, low[1] - margin]), 0, size - 4).astype(int).tolist()
  right, bottom = np.clip(np.ceil([high[0] + margin + 1, high[1] + below + 1]), 4, size).astype(int).tolist()
  height, width = bottom - top, right - left
  height, width = max(4, height + height % 2), max(4, width + width % 2)
  return boxes.LipBox(min(top, size - height), min(left, size - width), height, width)
