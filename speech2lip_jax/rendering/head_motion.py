"""Moves the head of a finished frame to another pose: forward mapping through D_c, visibility, matte and background.

The head is a surface: the canonical image's pixels at depth D_c. In the frame it is seen at one pose (T_n · T_c⁻¹); the
wanted pose moves it there, each point by its share `weight` of the motion: all of it on the head, none on the torso, less
and less down the neck, so that the surface never tears. Colours are read from the frame where the point is seen in it.
What the head leaves is filled by a clean plate of the background.
"""
from collections.abc import Callable
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from speech2lip_jax.data.dataset import Subject, evenly_spaced
from speech2lip_jax.ops import camera, fill, sampling, splat
from speech2lip_jax.ops.boxes import smoothstep

# Lengths in picture widths, colours 0 … 1.
RIM = 0.05  # how far past the subject's head mask single hairs may reach; there colour decides what is head
EDGE = 0.012  # softness of the head's mask
NECK, ASIDE = 0.22, 0.16  # over which the motion fades out downwards, and sideways below the mouth
NECK_WIDTH = 0.75  # of the face's
KEY_LOW, KEY_HIGH = 0.04, 0.14  # difference from the background at which a pixel near the rim begins, and is, head
LIGHT = 0.15  # largest difference from the plate that counts as another light, not as something that moved
MAX_STRETCH = 3.0  # a surface seen that much longer than in the frame was not seen in the frame
HIDDEN = 0.04  # of the face's width: nearer by this much hides
BEHIND_RIM = 0.1  # of the face's width: the ears' canals and the neck's top lie a little behind the face's rim
WIDEST = 0.5  # of the face's width, behind the head's middle: no part of the head that is seen lies deeper
SOFT = 0.02  # of that depth: softness of the bound
EDGE_JUMP = 3.0  # pixels of the frame, between neighbours: from there on an edge of the head is softened
NUM_PLATE_FRAMES = 40
FILL_WINDOW = 64  # pixels: side of the windows in which holes are filled
FILL_ROUNDS = 12  # windows a frame at most


class Motion(NamedTuple):
  """How the head moves in a frame's camera: about `centre` by `turn`, then by `shift`. [..., 3] float32 each.

  turn: rotation vector, radians. centre, shift: head units.
  """
  turn: jax.Array
  centre: jax.Array
  shift: jax.Array


class HeadLayer(NamedTuple):
  """What is constant over a subject's frames, in canonical space, [h, w] float32 each but `centre`.

  weight: share of the motion, 1 on the head … 0 on the torso. sure: 1 where it is head (or neck) in every frame. may: 0
  where it never is. covers: 1 where the head may hide the background. centre: [3] what the head turns about, canonical
  camera. deepest, tolerance: scalars, see `canonical_points` and `splat.is_visible`.
  """
  weight: jax.Array
  sure: jax.Array
  may: jax.Array
  covers: jax.Array
  centre: jax.Array
  deepest: jax.Array
  tolerance: jax.Array


def motions(observed_from_canonical: np.ndarray, target_from_canonical: np.ndarray, centre: np.ndarray) -> Motion:
  """The motion from one pose [n, 4, 4] to another, about the canonical point `centre` [3]."""
  poses, targets = (np.asarray(x, np.float64) for x in (observed_from_canonical, target_from_canonical))
  turn = Rotation.from_matrix(targets[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1)).as_rotvec()
  at = lambda transforms: transforms[:, :3, :3] @ centre + transforms[:, :3, 3]
  return Motion(*(jnp.asarray(x, jnp.float32) for x in (turn, at(poses), at(targets) - at(poses))))


def _rim_depth(subject: Subject) -> float:
  face = np.asarray(subject.mask_face_canonical) > 0
  return float(np.median(subject.depth_canonical[face & ~ndimage.binary_erosion(face)]))


def _face_width(subject: Subject) -> float:
  """Of the face's mask at its rim's depth, head units."""
  columns = np.flatnonzero(subject.mask_face_canonical.any(0))
  return float(np.ptp(columns)) / (subject.meta.focal_px * subject.meta.canonical_scale) * _rim_depth(subject)


def head_centre(subject: Subject) -> np.ndarray:
  """What the head turns about: behind the middle of the face, between the ears. [3] float64, canonical camera."""
  mask = subject.mask_face_canonical
  ys, xs = np.nonzero(mask)
  away = np.array([xs.min() + xs.max(), ys.min() + ys.max()]) / 2 - np.array(camera.principal_point(*mask.shape))
  distance = _rim_depth(subject) + BEHIND_RIM * _face_width(subject)
  return np.append(away / (subject.meta.focal_px * subject.meta.canonical_scale) * distance, distance)


def head_layer(subject: Subject) -> HeadLayer:
  """The head's layer from the subject's head and face mask, lip box and depth."""
  meta = subject.meta
  head = np.asarray(subject.mask_head_canonical) > 0
  face = np.asarray(subject.mask_face_canonical) > 0
  width = head.shape[1]
  outside = ndimage.distance_transform_edt(~head) - ndimage.distance_transform_edt(head)
  rows, columns = np.indices(head.shape).astype(np.float64)
  ease = lambda x: np.asarray(smoothstep(x))
  chin, half = np.flatnonzero(head.any(1)).max(), np.ptp(np.flatnonzero(face.any(0))) / 2
  # From the mouth down there is no edge to cut along: all moves, less and less away from the head. Above, the head is cut out.
  below = ease((rows - meta.lip_box.top) / (0.2 * half)) * np.ones(head.shape)
  rim = (RIM * (1 - below) + EDGE * below) * width
  reach = max(min(head.shape[0] - 1 - chin, NECK * width), 1.0), ASIDE * width
  fading = np.clip(1 - ndimage.distance_transform_edt(~head, sampling=(1 / reach[0], 1 / reach[1])), 0, 1)
  weight = np.maximum(1 - ease(outside / rim - 0.5), fading)
  sure = np.maximum(ease(-outside / (EDGE * width)), below * (fading > 0))
  may = np.maximum(1 - ease(outside / rim * 2 - 1), below * (fading > 0))
  aside = np.abs(columns - np.flatnonzero(face.any(0)).mean()) / half
  covers = (outside < rim) | ((rows > chin) & (aside < NECK_WIDTH) & (fading > 0.4))

  centre, face_width = head_centre(subject), _face_width(subject)
  deepest = centre[2] + WIDEST * face_width
  return HeadLayer(*(jnp.asarray(x, jnp.float32) for x in (weight, sure, may, covers, centre, deepest, HIDDEN * face_width)))


def canonical_points(depth_canonical: jax.Array, deepest: jax.Array, focal: float, scale: float) -> jax.Array:
  """The head's surface: each canonical pixel at its depth, [h, w, 3] float32 canonical camera, head units.

  The depth is limited softly to `deepest`. From the front, no part of a head behind its widest section is visible; but D_c
  extrapolates the steep slope at the face's rim and would grow without limit.

  Args:
    depth_canonical: [h, w] D_c.
    deepest: scalar, head units.
    focal: of the frame, pixels. scale: canonical over observed size.
  """
  height, width = depth_canonical.shape
  rows, columns = jnp.meshgrid(jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing='ij')
  soft = SOFT * deepest
  depth = -soft * jnp.logaddexp(-depth_canonical / soft, -deepest / soft)
  return camera.unproject(jnp.stack([columns, rows], -1), depth, focal * scale, height, width)


def covered_by_head(points: jax.Array, layer: HeadLayer, observed_from_canonical: jax.Array, focal: float,
                    size: tuple[int, int]) -> jax.Array:
  """[H, W] bool: pixels of the frame that the head or neck may cover."""
  pixels, z = camera.project(camera.transform_points(observed_from_canonical, points), focal, *size)
  return splat.nearest_surface(pixels, z, layer.covers > 0, size)[0] >= 0


def background(rgb_face: jax.Array, plate: jax.Array, is_covered: jax.Array) -> jax.Array:
  """The frame [H, W, 3] without its head: the plate there, brought to the frame's own colours around it."""
  return jnp.where(is_covered[..., None], plate + fill.diffuse(jnp.clip(rgb_face - plate, -LIGHT, LIGHT), ~is_covered), rgb_face)


def move_points(points: jax.Array, weight: jax.Array, motion: Motion) -> jax.Array:
  """Points [h, w, 3] in the frame's camera, each moved by its share [h, w] of the motion (Rodrigues)."""
  angle = jnp.linalg.norm(motion.turn)
  axis = motion.turn / jnp.maximum(angle, 1e-9)
  arm = points - motion.centre
  sine, cosine = jnp.sin(weight * angle)[..., None], jnp.cos(weight * angle)[..., None]
  along = jnp.sum(arm * axis, -1, keepdims=True)
  turned = arm * cosine + jnp.cross(axis, arm) * sine + axis * along * (1 - cosine)
  return motion.centre + turned + weight[..., None] * motion.shift


class Moved(NamedTuple):
  """A frame whose head was moved. rgb_face: [H, W, 3]. hole: [H, W] bool, head that the frame does not show.

  source: [H, W, 2] float32 (x, y), the frame's pixel that is seen there; the pixel itself on the background.
  """
  rgb_face: jax.Array
  hole: jax.Array
  source: jax.Array


def _soften_edges(rgb, source, place):
  """Smooths across the lines where a nearer part of the head ends: there neighbours come from far apart in the frame."""
  drift = source - place
  padded = jnp.pad(drift, ((1, 1), (1, 1), (0, 0)), mode='edge')
  around = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
  jump = jnp.max(jnp.stack([jnp.abs(other - drift).max(-1) for other in around]), 0)
  share = smoothstep((jump - EDGE_JUMP) / EDGE_JUMP)[..., None]
  framed = jnp.pad(rgb, ((1, 1), (1, 1), (0, 0)), mode='edge')
  across = framed[:, :-2] + 2 * framed[:, 1:-1] + framed[:, 2:]
  blurred = (across[:-2] + 2 * across[1:-1] + across[2:]) / 16
  return rgb + share * (blurred - rgb)


def move_head(rgb_face: jax.Array, observed_from_canonical: jax.Array, motion: Motion, plate: jax.Array,
              points: jax.Array, layer: HeadLayer, focal: float) -> Moved:
  """One frame with its head moved.

  Args:
    rgb_face: [H, W, 3] float32 0 … 1, the frame, lips composed.
    observed_from_canonical: [4, 4] its own pose.
    motion: of this frame.
    plate: [H, W, 3] float32, the background.
    points: [h, w, 3] of `canonical_points`.
    layer: of the subject.
    focal: pixels.
  """
  size = (rgb_face.shape[0], rgb_face.shape[1])
  observed = camera.transform_points(observed_from_canonical, points)
  pixels_from, z_from = camera.project(observed, focal, *size)
  pixels_to, z_to = camera.project(move_points(observed, layer.weight, motion), focal, *size)
  is_layer = (layer.may > 0) & splat.is_facing(pixels_to)
  _, z_seen = splat.nearest_surface(pixels_from, z_from, (layer.may > 0) & splat.is_facing(pixels_from), size)
  coords, is_met = splat.surface_coords(pixels_to, z_to, is_layer, *splat.nearest_surface(pixels_to, z_to, is_layer, size))
  is_covered = covered_by_head(points, layer, observed_from_canonical, focal, size)
  empty = background(rgb_face, plate, is_covered)

  attributes = [pixels_to, pixels_from, z_from[..., None], splat.stretch(pixels_from, pixels_to)[..., None], layer.sure[..., None],
                layer.may[..., None], layer.weight[..., None]]
  read, _ = splat.read_surface(jnp.concatenate(attributes, -1), coords)
  landed, source = read[..., :2], read[..., 2:4]
  z_source, longer, sure, may, weight = jnp.moveaxis(read[..., 4:], -1, 0)
  rows, columns = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in size), indexing='ij')
  place = jnp.stack([columns, rows], -1)
  source = source + jnp.clip(place - landed, -2.0, 2.0)  # what Newton's method left over
  both = sampling.sample_image(jnp.concatenate([rgb_face, empty], -1), source, 'bicubic', 'border')
  colour, behind = both[..., :3], both[..., 3:]
  difference = jnp.max(jnp.abs(colour - behind), -1)
  key = smoothstep((difference - KEY_LOW) / (KEY_HIGH - KEY_LOW))
  matte = jnp.where(is_met, jnp.maximum(sure, may * key), 0.0)[..., None]
  rgb = jnp.where(is_met[..., None], colour + (1 - matte) * (empty - behind), empty)
  was_seen = splat.is_visible(source, z_source, z_seen, layer.tolerance) & ((longer < MAX_STRETCH) | (weight < 0.99))
  rgb = _soften_edges(rgb, jnp.where(is_met[..., None], source, place), place)
  has_moved = jnp.max(jnp.abs(place - source), -1) > 0.25
  source = jnp.where(is_met[..., None], source, place)
  return Moved(rgb, is_met & (sure > 0.5) & has_moved & ~was_seen, source)


def clean_plate(subject: Subject, points: jax.Array, layer: HeadLayer, frame_ids: np.ndarray) -> np.ndarray:
  """The background [H, W, 3] uint8: the median over frames of what the head does not cover; the rest is painted in.

  Looks at NUM_PLATE_FRAMES of `frame_ids`.
  """
  meta = subject.meta
  ids = evenly_spaced(np.unique(frame_ids), NUM_PLATE_FRAMES)
  covered = jax.jit(lambda pose: covered_by_head(points, layer, pose, meta.focal_px, (meta.height, meta.width)))
  hidden = np.int16(999)
  stack = np.empty((len(ids), meta.height, meta.width, 3), np.int16)
  for row, (frame_id, pose) in enumerate(zip(ids, subject.observed_from_canonical[ids], strict=True)):
    stack[row] = np.where(np.asarray(covered(pose))[..., None], hidden, subject.frames[frame_id])
  stack.sort(axis=0)  # what is hidden comes last
  count = (stack[..., :1] != hidden).sum(0)
  median = np.take_along_axis(stack, np.broadcast_to(np.maximum(count - 1, 0) // 2, stack.shape[1:])[None], 0)[0]
  unseen = (count[..., 0] == 0).astype(np.uint8)
  return cv2.inpaint(np.where(unseen[..., None], 0, median).astype(np.uint8), unseen, 5, cv2.INPAINT_TELEA)


class Stage(NamedTuple):
  """Everything that moving the head of a subject's frames needs besides them. plate: [H, W, 3] uint8."""
  points: jax.Array
  layer: HeadLayer
  plate: np.ndarray


def prepare(subject: Subject, depth_canonical: jax.Array, frame_ids: np.ndarray) -> Stage:
  """The stage for frames `frame_ids` of a subject, with D_c [h, w]."""
  layer = head_layer(subject)
  points = canonical_points(depth_canonical, layer.deepest, subject.meta.focal_px, subject.meta.canonical_scale)
  return Stage(points, layer, clean_plate(subject, points, layer, frame_ids))


def fill_holes(refine: Callable[[jax.Array, jax.Array], jax.Array], rgb: jax.Array, hole: jax.Array) -> jax.Array:
  """The frame [H, W, 3] with its holes [H, W] bool filled, window by window, where most of them are first.

  refine: windows [1, k, k, 3] and their holes [1, k, k] → the windows filled. Only hole pixels are taken from it. What
  FILL_ROUNDS windows do not reach is filled smoothly.
  """
  height, width = hole.shape
  side = min(FILL_WINDOW, height, width) // 4 * 4
  margin = side // 5
  rows, columns = jnp.arange(height - side + 1), jnp.arange(width - side + 1)

  def densest(hole):
    """Corner of the window with most holes in its inner part."""
    sums = jnp.pad(jnp.cumsum(jnp.cumsum(hole.astype(jnp.float32), 0), 1), ((1, 0), (1, 0)))
    # At the picture's border the inner part reaches the border.
    top, left = jnp.where(rows == 0, 0, rows + margin), jnp.where(columns == 0, 0, columns + margin)
    bottom = jnp.where(rows == height - side, height, rows + side - margin)
    right = jnp.where(columns == width - side, width, columns + side - margin)
    box = lambda y, x: sums[y[:, None], x[None]]
    count = box(bottom, right) - box(top, right) - box(bottom, left) + box(top, left)
    row, column = jnp.divmod(jnp.argmax(count), width - side + 1)
    inner = (jnp.arange(height) >= top[row]) & (jnp.arange(height) < bottom[row])
    return row, column, inner[:, None] & (jnp.arange(width) >= left[column]) & (jnp.arange(width) < right[column])

  def fill_one(state):
    rgb, hole, count = state
    row, column, inner = densest(hole)
    window = jax.lax.dynamic_slice(rgb, (row, column, 0), (side, side, 3))
    filled = refine(window[None], jax.lax.dynamic_slice(hole, (row, column), (side, side))[None])[0]
    filled = jax.lax.dynamic_update_slice(rgb, filled, (row, column, 0))
    now = hole & inner
    return jnp.where(now[..., None], filled, rgb), hole & ~now, count + 1

  more = lambda state: state[1].any() & (state[2] < FILL_ROUNDS)
  smooth = jax.lax.cond(hole.any(), lambda: fill.diffuse(rgb, ~hole), lambda: rgb)
  return jax.lax.while_loop(more, fill_one, (smooth, hole, 0))[0]
