"""Small rotations and rigid alignment, batched NumPy float64."""
import numpy as np
from scipy.spatial.transform import Rotation


def skew(vectors: np.ndarray) -> np.ndarray:
  """[..., 3] → [..., 3, 3] with skew(a) @ b = a × b."""
  x, y, z = np.moveaxis(vectors, -1, 0)
  zero = np.zeros_like(x)
  return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def rotation_from_vector(vectors: np.ndarray) -> np.ndarray:
  """Rotation vectors [..., 3], radians → matrices [..., 3, 3]."""
  return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)


def vector_from_rotation(rotations: np.ndarray) -> np.ndarray:
  """Rotation vectors [..., 3] of matrices [..., 3, 3], angles below π."""
  return Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec().reshape(*rotations.shape[:-2], 3)


def left_jacobian(vectors: np.ndarray) -> np.ndarray:
  """[..., 3, 3] J with exp(v + d) ≈ exp(J d) exp(v)."""
  angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
  small = angle < 1e-4
  safe = np.where(small, 1.0, angle)
  first = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
  second = np.where(small, 1 / 6 - angle**2 / 120, (safe - np.sin(safe)) / safe**3)
  cross = skew(vectors)
  return np.eye(3) + first * cross + second * (cross @ cross)


def align(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The similarity that brings points [..., P, 3] onto others: target ≈ scale · source @ rotationᵀ + shift (least
  squares).

  Returns:
    rotation [..., 3, 3], scale [...], shift [..., 3].
  """
  source_mean, target_mean = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
  source, target = source - source_mean, target - target_mean
  left, values, right = np.linalg.svd(np.swapaxes(target, -1, -2) @ source)
  sign = np.ones(values.shape)
  sign[..., -1] = np.sign(np.linalg.det(left @ right))
  rotation = (left * sign[..., None, :]) @ right
  scale = (values * sign).sum(-1) / (source**2).sum((-1, -2))
  shift = target_mean - scale[..., None, None] * (source_mean @ np.swapaxes(rotation, -1, -2))
  return rotation, scale, shift[..., 0, :]


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
  """The rotation [3, 3] nearest to the mean of [N, 3, 3]."""
  left, _, right = np.linalg.svd(rotations.mean(0))
  return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
