"""Trees of weights in one .npz file: no pickle, written atomically. Keys are the tree's names joined by '/'."""
import os
import pathlib
import zipfile
from typing import Any

import numpy as np
from flax import traverse_util

from speech2lip_jax.errors import InputError


def save_tree(path: os.PathLike | str, tree: dict[str, Any]) -> None:
  """Writes nested dicts of arrays; the file appears under its name only when complete."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.part')
  flat = traverse_util.flatten_dict(tree, sep='/')
  with open(temporary, 'wb') as file:
    np.savez(file, **{name: np.asarray(value) for name, value in flat.items()})
  os.replace(temporary, path)


def load_tree(path: os.PathLike | str, remedy: str) -> dict[str, Any]:
  """Reads what `save_tree` wrote; `remedy` ends the message of an error.

  Raises:
    InputError: no such file, or it is damaged.
  """
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; {remedy}')
  try:
    with np.load(path, allow_pickle=False) as file:
      return traverse_util.unflatten_dict({name: file[name] for name in file.files}, sep='/')
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(f'{path}: cannot be read as weights ({error}); {remedy}') from error
