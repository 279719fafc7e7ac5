"""Rigid poses, NumPy float64. Transforms [..., 4, 4] act on columns and read right to left."""
import numpy as np


def relative_pose(observed_from_head: np.ndarray, canonical_from_head: np.ndarray) -> np.ndarray:
  """`observed_from_canonical` [..., 4, 4] float64 = T_n · T_c⁻¹ (Eq. 3).

  Args:
    observed_from_head: [..., 4, 4] pose T_n of the frame, head → camera.
    canonical_from_head: [4, 4] pose T_c of the canonical frame.
  """
  return np.asarray(observed_from_head) @ np.linalg.inv(np.asarray(canonical_from_head, np.float64))
