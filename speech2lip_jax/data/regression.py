"""Regression from speech to lips in closed form: principal components of lips, ridge and kernel ridge regression. NumPy."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg

NUM_COMPONENT_FRAMES = 1000  # enough to find components on
_CHUNK = 512  # frames at once
_LEAST = 1e-6  # added where a sound without any change would divide by 0


class LipComponents(NamedTuple):
  """Principal components of canonical lips. mean: [P]. axes: [P, K] orthonormal, float32. shape: (h, w, 3) with P = h · w · 3."""
  mean: np.ndarray
  axes: np.ndarray
  shape: tuple[int, ...]

  @classmethod
  def of(cls, lips: np.ndarray, most: int) -> 'LipComponents':
    """At most so many of [n, h, w, 3] uint8."""
    flat = lips.reshape(len(lips), -1).astype(np.float32) / 255
    mean = flat.mean(0)
    flat -= mean
    # By the [n, n] matrix of products: frames are fewer than pixels.
    count = min(most, len(flat))
    squares, vectors = scipy.linalg.eigh(flat @ flat.T, subset_by_index=[len(flat) - count, len(flat) - 1])
    is_known = squares > 1e-6 * squares[-1]
    return cls(mean, flat.T @ (vectors[:, is_known] / np.sqrt(squares[is_known])), lips.shape[1:])

  def coefficients(self, lips: np.ndarray, frame_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, K] of those frames of lips [N, h, w, 3] uint8, and the squared distance [n] of each from what they paint."""
    coefficients, distances = [], []
    for start in range(0, len(frame_ids), _CHUNK):
      flat = lips[frame_ids[start:start + _CHUNK]].reshape(-1, len(self.mean)).astype(np.float32) / 255 - self.mean
      coefficients.append(flat @ self.axes)
      distances.append(np.square(flat).sum(1) - np.square(coefficients[-1]).sum(1))
    return np.concatenate(coefficients), np.maximum(np.concatenate(distances), 0)

  def painter(self, coefficients: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Rows [b] of coefficients [n, K] → lips [b, h, w, 3] float32 0 … 1."""
    return lambda rows: np.clip(self.mean + coefficients[rows] @ self.axes.T, 0, 1).reshape(-1, *self.shape)


def solve(matrix: np.ndarray, penalty: float, right: np.ndarray) -> np.ndarray:
  """(matrix + penalty)⁻¹ right, of a symmetric matrix that is overwritten."""
  matrix[np.diag_indices_from(matrix)] += penalty
  return scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True), right)  # .T: in LAPACK's order


def ridge(inputs: np.ndarray, outputs: np.ndarray, noise_std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The affine map that errs least where inputs are noisy: kernel [D, K] and bias [K] float32.

  inputs: [n, D]. outputs: [n, K]. noise_std: [D] > 0.
  """
  mean, mean_output = inputs.mean(0), outputs.mean(0)
  scaled = (inputs - mean) / noise_std
  if len(scaled) < scaled.shape[1]:
    kernel = scaled.T @ solve(scaled @ scaled.T, len(scaled), outputs - mean_output)
  else:
    kernel = solve(scaled.T @ scaled, len(scaled), scaled.T @ (outputs - mean_output))
  kernel = kernel / noise_std[:, None]
  return kernel.astype(np.float32), (mean_output - mean @ kernel).astype(np.float32)


class Ridge:
  """`ridge` with one noise for all inputs. Made of windows [n, D] float32 and the coefficients [n, K] that belong to them."""

  def __init__(self, windows: np.ndarray, coefficients: np.ndarray):
    self._windows, self._coefficients = windows, coefficients
    self._mean_variance = float(windows.var(0).mean(dtype=np.float64)) + _LEAST

  def __call__(self, windows: np.ndarray, penalty: float) -> np.ndarray:
    """Fits, and gives the coefficients [m, K] of other windows [m, D]. penalty: the noise's variance, of the inputs' mean one."""
    noise_std = np.full(windows.shape[1], np.sqrt(penalty * self._mean_variance), np.float32)
    kernel, bias = ridge(self._windows, self._coefficients, noise_std)
    return windows @ kernel + bias


class KernelRidge:
  """With the kernel exp(−½ (distance / width)²). Made as `Ridge`."""

  def __init__(self, windows: np.ndarray, coefficients: np.ndarray):
    self._windows, self._mean_coefficients = windows, coefficients.mean(0)
    self._right = coefficients - self._mean_coefficients
    self._squares = self._squared_distances(windows)
    self._mean_square = float(self._squares.mean(dtype=np.float64)) + _LEAST

  def __call__(self, windows: np.ndarray, penalty: float, width: float) -> np.ndarray:
    """As `Ridge`. penalty: of the kernel's diagonal, which is 1. width: of the root mean square distance of two windows."""
    kernel = lambda squares: np.exp(squares * (-0.5 / (width**2 * self._mean_square)))
    weights = solve(kernel(self._squares), penalty, self._right)
    parts = [kernel(self._squared_distances(windows[start:start + _CHUNK])) @ weights for start in range(0, len(windows), _CHUNK)]
    return np.concatenate(parts) + self._mean_coefficients

  def _squared_distances(self, windows: np.ndarray) -> np.ndarray:
    """From windows [m, D] to those of the fit: [m, n]."""
    lengths = np.square(self._windows).sum(1)
    squares = windows @ self._windows.T
    squares *= -2
    squares += np.square(windows).sum(1)[:, None]
    squares += lengths
    return np.maximum(squares, 0, out=squares)
