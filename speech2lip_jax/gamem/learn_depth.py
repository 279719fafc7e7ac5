"""Learning D_c over the whole head from how its pixels move when the head turns (Eq. 9).

The photometric error of Eq. 9, (I_n(O2C(p)) − I_c(p))² on head without face over frames n, is minimised by Gauss-Newton:
a pixel's residual depends on its own depth alone, so one forward-mode derivative gives the Jacobian of all pixels, and the
normal equations of the correction's nodes are sparse. It goes from coarse to fine, and a prior keeps the tracked depth
where the frames say nothing: a head that never turns shows no depth.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from ml_collections import ConfigDict

from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.depth import cell_pixels, node_weights
from speech2lip_jax.gamem.module import Gamem
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.ops import sampling

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
def _seen_error(gamem, constants, depth, frame, pose):
  """Sum of squares over colours and visible pixels, and how many these are."""
  residual, seen = _residual(gamem, constants, constants.rgb_face_canonical, depth, frame / 255.0, pose)
  return jnp.sum(residual**2 * seen[..., None]), 3 * jnp.sum(seen)


def photometric_error(gamem: Gamem, depth: jax.Array, constants: SubjectConstants, frames: np.ndarray, poses: np.ndarray) -> float:
  """Root mean square of Eq. 9 over frames [B, H, W, 3] uint8 and the visible head without face, of 1: lower is better.

  Args:
    gamem: the subject's mapping.
    depth: [sH, sW] D_c to be judged, head units.
    constants: of the subject.
    frames, poses: [B, H, W, 3] uint8 and their observed_from_canonical [B, 4, 4].
  """
  total, count = 0.0, 0.0
  for frame, pose in zip(frames, poses, strict=True):
    error, seen = _seen_error(gamem, constants, depth, frame, pose)
    total, count = total + float(error), count + float(seen)
  return float(np.sqrt(total / max(count, 1.0)))


def _normal_terms(gamem, constants, rgb_canonical, depth, frame, pose):
  """Per pixel [sH, sW]: Σ w J² and Σ w J r over colours, J the derivative to the log of the pixel's depth."""
  residual = lambda depth: _residual(gamem, constants, rgb_canonical, depth, frame, pose)
  value, slope, seen = jax.jvp(residual, (depth,), (depth * constants.outside_face,), has_aux=True)
  weight = seen[..., None] / (1 + (value / ROBUST_SCALE)**2)**2
  return jnp.sum(weight * slope**2, -1), jnp.sum(weight * slope * value, -1)


def _softened(image, sigma):
  return scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode='nearest')


def learn(gamem: Gamem, subject: Subject, frame_ids: np.ndarray, constants: SubjectConstants,
          depth_config: ConfigDict, show_progress: bool = True) -> np.ndarray:
  """The learned nodes of `gamem.depth.CanonicalDepth`. A function of its arguments: every process finds the same.

  Args:
    gamem: the subject's mapping.
    subject: whose frames are read.
    frame_ids: [N] frames that may be used: the training part.
    constants: of the subject.
    depth_config: `config.depth`.
    show_progress: a progress bar.

  Returns:
    [nodes, nodes] float32, log of depth; 0 keeps the tracked depth.
  """
  poses = subject.observed_from_canonical[frame_ids]
  chosen = varied_frames(poses, depth_config.num_frames)
  frames, poses = subject.frames[frame_ids[chosen]].astype(np.float32) / 255, poses[chosen]
  height, width = constants.depth_tracked.shape
  cell = cell_pixels(depth_config.cell, width)
  rows, columns = (scipy.sparse.csr_matrix(node_weights(size, cell)) for size in (height, width))
  basis = scipy.sparse.kron(rows, columns).tocsr()
  shape = rows.shape[1], columns.shape[1]
  bend = [scipy.sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(max(n - 2, 0), n)) for n in shape]
  identity = [scipy.sparse.eye(n) for n in shape]
  twist = [scipy.sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n)) for n in shape]
  bending = [scipy.sparse.kron(bend[0], identity[1]), scipy.sparse.kron(identity[0], bend[1]),
             np.sqrt(2) * scipy.sparse.kron(*twist)]
  prior = sum(b.T @ b for b in bending) / BENDING_STD**2 + scipy.sparse.eye(shape[0] * shape[1]) / VALUE_STD**2
  nodes = np.zeros(shape[0] * shape[1])
  outside, tracked = np.asarray(constants.outside_face), np.asarray(constants.depth_tracked)
  terms = jax.jit(functools.partial(_normal_terms, gamem, constants))
  bar = Bar(total=len(BLURS) * STEPS_PER_BLUR, title='head depth', unit='step', show=show_progress, compiles=True)
  for blur in BLURS:
    soft_frames = [_softened(frame, blur * gamem.geometry.width) for frame in frames]
    rgb_canonical = _softened(np.asarray(constants.rgb_face_canonical), blur * width)
    independent = 1 + 4 * np.pi * (blur * width)**2  # pixels of one blur say the same thing
    for _ in range(STEPS_PER_BLUR):
      depth = (tracked * np.exp((basis @ nodes).reshape(height, width) * outside)).astype(np.float32)
      curvature, gradient = np.zeros(height * width), np.zeros(height * width)
      for frame, pose in zip(soft_frames, poses, strict=True):
        a, b = terms(rgb_canonical, depth, frame, pose)
        curvature += np.asarray(a, np.float64).ravel()
        gradient += np.asarray(b, np.float64).ravel()
      scale = depth_config.data_weight / (ROBUST_SCALE**2 * len(frames) * independent)
      normal = prior + scale * (basis.T @ scipy.sparse.diags(curvature) @ basis)
      nodes = nodes - scipy.sparse.linalg.spsolve(normal.tocsc(), prior @ nodes + scale * (basis.T @ gradient))
      bar.update()
  bar.close()
  return nodes.reshape(shape).astype(np.float32)
