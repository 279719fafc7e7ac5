"""Learning D_c over the whole head from how its pixels move when the head turns (Eq. 9).

The photometric error of Eq. 9, (I_n(O2C(p)) − I_c(p))² on head without face over frames n, is minimised by Gauss-Newton:
a pixel's residual depends on its own depth alone, so one forward-mode derivative gives the Jacobian of all pixels, and the
normal equations of the correction's nodes are small. It goes from coarse to fine, and a prior keeps the tracked depth
where the frames say nothing: a head that never turns shows no depth.
"""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from ml_collections import ConfigDict

from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.depth import cell_pixels, node_weights
from speech2lip_jax.gamem.module import Gamem
from speech2lip_jax.gamem.subject import Place, SubjectConstants
from speech2lip_jax.ops import sampling
from speech2lip_jax.ops.boxes import LipBox

BLURS = (0.03, 0.015, 0.007, 0.003)  # standard deviations of the pictures' blur, of their width: coarse to fine
STEPS_PER_BLUR = 5
ROBUST_SCALE = 0.05  # colour difference (of 1) from which a pixel counts less: moving hair, what is hidden, background
MIN_FACING = 0.3  # where the head's surface is seen at less than this share of its canonical area it is about to hide
BENDING_STD, VALUE_STD = 0.01, 0.3  # prior of the correction (log of depth): second difference of nodes, value


def varied_frames(poses: np.ndarray, count: int) -> np.ndarray:
  """Rows of `poses` [N, 4, 4], `count` of them (or N), that differ most: each next one is farthest from those before.

  Poses are relative to the canonical one; distance is that of the axes' ends and of the place, in head units.
  """
  axes = (poses[:, :3, :3] - np.eye(3)).reshape(len(poses), -1)
  places = np.concatenate([axes, poses[:, :3, 3] / np.linalg.norm(poses[:, :3, 3], axis=-1).clip(1.0)[:, None]], -1)
  distance = np.linalg.norm(places, axis=-1)
  chosen = []
  for _ in range(min(count, len(poses))):
    chosen.append(int(distance.argmax()))
    distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=-1))
  return np.array(chosen)


def _residual(gamem: Gamem, constants: SubjectConstants, rgb_canonical, depth, frame, pose):
  """Frame warped to canonical, in the canonical picture's brightness, minus it: [sH, sW, 3], and its weight [sH, sW]."""
  geometry = gamem.geometry
  coords, z = gamem.o2c(depth, pose)
  by_y, by_x = jnp.stack(jnp.gradient(coords, axis=(0, 1))) * geometry.canonical_scale
  facing = by_x[..., 0] * by_y[..., 1] - by_x[..., 1] * by_y[..., 0]
  inside = jnp.all((coords >= 0) & (coords <= jnp.array([geometry.width - 1, geometry.height - 1])), axis=-1)
  seen = constants.mask_head_only * inside * (facing > MIN_FACING) * (z > 0)
  warped = sampling.sample_image(frame, coords, outside='border')
  # Gain and offset of each colour, so that light that changes is not taken for shape.
  share = jax.lax.stop_gradient(seen / jnp.maximum(seen.sum(), 1.0))[..., None]
  mean = lambda x: jnp.sum(x * share, axis=(0, 1))
  mean_warped, mean_canonical = mean(warped), mean(rgb_canonical)
  gain = mean((warped - mean_warped) * (rgb_canonical - mean_canonical)) / (mean((warped - mean_warped)**2) + 1e-4)
  gain, mean_warped = jax.lax.stop_gradient((jnp.clip(gain, 0.7, 1.4), mean_warped))
  return gain * (warped - mean_warped) + mean_canonical - rgb_canonical, seen


@functools.partial(jax.jit, static_argnums=0)
def _seen_errors(shapes: Gamem, place: Place, constants, depth, frames, poses):
  """Of each frame [B] the sum of squares over colours and visible pixels, and how many these are."""
  gamem = shapes.clone(geometry=shapes.geometry.at(place))

  def one(arguments):
    frame, pose = arguments
    residual, seen = _residual(gamem, constants, constants.rgb_face_canonical, depth, frame / 255.0, pose)
    return jnp.sum(residual**2 * seen[..., None]), 3 * jnp.sum(seen)
  return jax.lax.map(one, (frames, poses))


def photometric_error(gamem: Gamem, depth: jax.Array, constants: SubjectConstants, frames: np.ndarray, poses: np.ndarray) -> float:
  """Root mean square of Eq. 9 over frames [B, H, W, 3] uint8 and the visible head without face, of 1: lower is better.

  Args:
    gamem: the subject's mapping.
    depth: [sH, sW] D_c to be judged, head units.
    constants: of the subject.
    frames, poses: [B, H, W, 3] uint8 and their observed_from_canonical [B, 4, 4].
  """
  errors, seen = jax.device_get(_seen_errors(*_shared(gamem), _own(constants), depth, frames, poses))
  return float(np.sqrt(errors.sum(dtype=np.float64) / max(seen.sum(dtype=np.float64), 1.0)))


def _shared(gamem: Gamem) -> tuple[Gamem, Place]:
  """The mapping without a person's own numbers, which hashes alike for all of the same size, and those numbers as arrays."""
  geometry = gamem.geometry
  nobody = geometry._replace(lip_box=LipBox(0, 0, 0, 0), lip_size=(0, 0), lip_proportion=1.0, window=(0, 0), focal=1.0,
                             lip_pixel=1.0)
  return gamem.clone(geometry=nobody), jax.tree.map(np.float32, geometry.place)


def _own(constants: SubjectConstants) -> SubjectConstants:
  """What is read of the constants: nothing of the lips, whose shapes differ between people."""
  return constants._replace(rgb_lip_mean=jnp.zeros(0), lip_coords=jnp.zeros(0), place=None)


def _normal_terms(gamem, constants, rgb_canonical, depth, frame, pose):
  """Per pixel [sH, sW]: Σ w J² and Σ w J r over colours, J the derivative to the log of the pixel's depth."""
  residual = lambda depth: _residual(gamem, constants, rgb_canonical, depth, frame, pose)
  value, slope, seen = jax.jvp(residual, (depth,), (depth * constants.outside_face,), has_aux=True)
  weight = seen[..., None] / (1 + (value / ROBUST_SCALE)**2)**2
  return jnp.sum(weight * slope**2, -1), jnp.sum(weight * slope * value, -1)


class _Softening(NamedTuple):
  """One blur: a matrix for each axis of the frames and of the canonical picture, and the weight of a squared difference."""
  frame_rows: np.ndarray
  frame_columns: np.ndarray
  rows: np.ndarray
  columns: np.ndarray
  scale: np.float32


def _softened(image, rows, columns):
  return jnp.einsum('ij,kl,jlc->ikc', rows, columns, image, precision='highest')


@functools.partial(jax.jit, static_argnums=0)
def _learned(shapes: Gamem, place: Place, constants, frames, poses, prior, nodes, soft: _Softening) -> jax.Array:
  """The nodes [nodes · nodes] after the steps at one blur."""
  gamem = shapes.clone(geometry=shapes.geometry.at(place))
  rows, columns = (jnp.asarray(node_weights(size, cell_pixels(shapes.canonical_depth.cell, constants.depth_tracked.shape[1])),
                               jnp.float32) for size in constants.depth_tracked.shape)
  shape = rows.shape[1], columns.shape[1]
  pairs = lambda weights: jnp.einsum('pi,pk->pik', weights, weights).reshape(len(weights), -1)

  def step(nodes, rgb_canonical, soft_frames, scale):
    correction = jnp.einsum('yi,ij,xj->yx', rows, nodes.reshape(shape), columns, precision='highest')
    depth = constants.depth_tracked * jnp.exp(correction * constants.outside_face)

    def add(total, arguments):
      terms = _normal_terms(gamem, constants, rgb_canonical, depth, *arguments)
      return jax.tree.map(jnp.add, total, terms), None
    (curvature, gradient), _ = jax.lax.scan(add, (jnp.zeros_like(depth),) * 2, (soft_frames, poses))
    of_pairs = jnp.einsum('ya,yx,xb->ab', pairs(rows), curvature, pairs(columns), precision='highest')
    of_nodes = of_pairs.reshape(shape[0], shape[0], shape[1], shape[1]).transpose(0, 2, 1, 3).reshape(prior.shape)
    slope = jnp.einsum('yi,yx,xj->ij', rows, gradient, columns, precision='highest').reshape(-1)
    factor = jax.scipy.linalg.cho_factor(prior + scale * of_nodes)
    return nodes - jax.scipy.linalg.cho_solve(factor, prior @ nodes + scale * slope)

  soft_frames = jax.lax.map(lambda frame: _softened(frame / 255.0, soft.frame_rows, soft.frame_columns), frames)
  rgb_canonical = _softened(constants.rgb_face_canonical, soft.rows, soft.columns)
  steps = lambda nodes, _: (step(nodes, rgb_canonical, soft_frames, soft.scale), None)
  return jax.lax.scan(steps, nodes, None, STEPS_PER_BLUR)[0]


def _prior(shape: tuple[int, int]) -> np.ndarray:
  """The inverse covariance of nodes of that shape, flat."""
  bend = [np.diff(np.eye(n), 2, axis=0) for n in shape]
  twist = [np.diff(np.eye(n), axis=0) for n in shape]
  identity = [np.eye(n) for n in shape]
  bending = [np.kron(bend[0], identity[1]), np.kron(identity[0], bend[1]), np.sqrt(2) * np.kron(*twist)]
  return sum(b.T @ b for b in bending) / BENDING_STD**2 + np.eye(shape[0] * shape[1]) / VALUE_STD**2


def learn(gamem: Gamem, subject: Subject, frame_ids: np.ndarray, constants: SubjectConstants,
          depth_config: ConfigDict) -> np.ndarray:
  """The learned nodes of `gamem.depth.CanonicalDepth`, by a call of the device for each blur. Every process finds the same.

  Args:
    gamem: the subject's mapping.
    subject: whose frames are read.
    frame_ids: [N] frames that may be used: the training part.
    constants: of the subject.
    depth_config: `config.depth`.

  Returns:
    [nodes, nodes] float32, log of depth; 0 keeps the tracked depth.
  """
  poses = subject.observed_from_canonical[frame_ids]
  chosen = varied_frames(poses, depth_config.num_frames)
  size, frame_size = constants.depth_tracked.shape, (gamem.geometry.height, gamem.geometry.width)
  cell = cell_pixels(depth_config.cell, size[1])
  shape = node_weights(size[0], cell).shape[1], node_weights(size[1], cell).shape[1]

  def softening(blur: float) -> _Softening:
    def matrix(length, sigma):
      return scipy.ndimage.gaussian_filter1d(np.eye(length), sigma, axis=0, mode='nearest').astype(np.float32)
    frame_rows, frame_columns = (matrix(length, blur * frame_size[1]) for length in frame_size)
    rows, columns = (matrix(length, blur * size[1]) for length in size)
    independent = 1 + 4 * np.pi * (blur * size[1])**2  # pixels of one blur say the same thing
    return _Softening(frame_rows, frame_columns, rows, columns,
                      np.float32(depth_config.data_weight / (ROBUST_SCALE**2 * len(chosen) * independent)))
  given = (*_shared(gamem), _own(constants), subject.frames[frame_ids[chosen]], poses[chosen], _prior(shape).astype(np.float32))
  nodes = jnp.zeros(shape[0] * shape[1])
  for blur in Bar(BLURS, title='head depth', unit='blur', compiles=True, show=jax.process_index() == 0):
    nodes = jax.block_until_ready(_learned(*given, nodes, softening(blur)))
  return np.asarray(nodes).reshape(shape)
