"""Finished work on disk: each stage's record lies under OUT/stages/ with the fingerprint of what it was made from.

A result is there whole or not at all (temporary file, then rename), so an interrupted run continues where it stopped.
"""
import hashlib
import pathlib
from typing import Any

import numpy as np

from speech2lip_jax.common import npz
from speech2lip_jax.common.files import open_atomic


def fingerprint(*parts) -> str:
  """16 hex digits that change when any part (numbers, strings, tuples of them) changes."""
  return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def save(path: pathlib.Path, mark: str, **arrays: np.ndarray) -> None:
  """Writes arrays and the fingerprint `mark` to `path` (.npz), atomically."""
  path.parent.mkdir(parents=True, exist_ok=True)
  contents: dict[str, Any] = arrays | {'fingerprint': np.array(mark)}
  with open_atomic(path) as file:
    np.savez(file, **contents)


def is_done(path: pathlib.Path, mark: str) -> bool:
  """Whether `path` holds a result made with this fingerprint."""
  try:
    with npz.opened(path) as record:
      return str(record['fingerprint'].read()) == mark
  except ValueError:
    return False


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a finished stage."""
  return {name: array for name, array in npz.load(path).items() if name != 'fingerprint'}


def save_array(path: pathlib.Path, array: np.ndarray) -> None:
  """Writes one .npy file of the subject, atomically."""
  with open_atomic(path) as file:
    np.save(file, array)
