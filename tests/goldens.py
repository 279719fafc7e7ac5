"""Finds and loads the golden arrays that the parity tests compare with.

The folder is SPEECH2LIP_GOLDENS where that is set, otherwise tests/golden. Any set of the same layout serves: the tests read
every size from the files. A missing file is a failure, not a skip.
"""
import functools
import json
import os
import pathlib

import numpy as np

FIELD_ATOL = 2e-5  # Field, pose and warp, absolute.
CONV_ATOL = 2e-4  # Convolutional networks, absolute.
GRADIENT_RTOL = 1e-3  # Gradients, of the array's largest entry.


def folder() -> pathlib.Path:
  """Where the golden files lie."""
  return pathlib.Path(os.environ.get('SPEECH2LIP_GOLDENS') or pathlib.Path(__file__).resolve().parent / 'golden')


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
  """Arrays of NAME.npz, float32."""
  with np.load(folder() / f'{name}.npz', allow_pickle=False) as arrays:
    return dict(arrays)


def load_json(name: str):
  """Contents of NAME.json."""
  return json.loads((folder() / f'{name}.json').read_text())


def weights(name: str) -> dict[str, np.ndarray]:
  """The torch state dict inside NAME.npz: its arrays named p.*, without that prefix."""
  return {key[2:]: array for key, array in load(name).items() if key.startswith('p.')}


def assert_gradient_close(actual, expected, name: str, jump: float = 0.0) -> None:
  """Fails where any entry differs by more than 1e-3 of the largest expected, plus `jump` (test_golden_gradients)."""
  limit = GRADIENT_RTOL * np.abs(expected).max() + jump
  np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=name)
