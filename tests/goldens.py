"""Finds and loads the golden arrays that the parity tests compare with.

The folder is SPEECH2LIP_GOLDENS where that is set, otherwise tests/golden where it is there, otherwise
../shared/goldens/A beside the repository. Any set of the same layout serves: the tests read every size from the files.
"""
import functools
import json
import os
import pathlib

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]

FIELD_ATOL = 2e-5  # Field, pose and warp, absolute.
CONV_ATOL = 2e-4  # Convolutional networks, absolute.
GRADIENT_RTOL = 1e-3  # Gradients, of the array's largest entry.


def _folders():
  if 'SPEECH2LIP_GOLDENS' in os.environ:
    return [pathlib.Path(os.environ['SPEECH2LIP_GOLDENS'])]
  return [_ROOT / 'tests' / 'golden', _ROOT.parent / 'shared' / 'goldens' / 'A']


def _find(file: str) -> pathlib.Path:
  for folder in _folders():
    if (folder / file).is_file():
      return folder / file
  pytest.skip(f'{file} is in none of: {", ".join(map(str, _folders()))}')


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
  """Arrays of NAME.npz, float32; skips the calling test where no folder has the file."""
  with np.load(_find(f'{name}.npz'), allow_pickle=False) as arrays:
    return dict(arrays)


def load_json(name: str) -> dict[str, float]:
  """Contents of NAME.json; skips the calling test where no folder has the file."""
  return json.loads(_find(f'{name}.json').read_text())


def weights(name: str) -> dict[str, np.ndarray]:
  """The torch state dict inside NAME.npz: its arrays named p.*, without that prefix."""
  return {key[2:]: array for key, array in load(name).items() if key.startswith('p.')}


def assert_gradient_close(actual, expected, name: str, jump: float = 0.0) -> None:
  """Fails where any entry differs by more than 1e-3 of the largest expected, plus `jump` (test_golden_gradients)."""
  limit = GRADIENT_RTOL * np.abs(expected).max() + jump
  np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=name)
