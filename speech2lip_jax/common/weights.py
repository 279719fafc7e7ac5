"""Trees of weights in one .npz file: no pickle, written atomically. Keys are the tree's names joined by '/'."""
import os
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic

Tree = dict[str, Any]


def shapes_of(*shapes: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
  """Float32 arrays of these shapes, as `load_for` takes them."""
  return tuple(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)


def load_for(network: nn.Module, path: os.PathLike | str, remedy: str, *inputs: jax.ShapeDtypeStruct) -> Tree:
  """The weights of `network` in a file of `save_tree`, after a look at their names and shapes.

  Args:
    network: whose weights they are.
    path: the file.
    remedy: ends the message of an error.
    inputs: what the network takes, by shape.

  Raises:
    InputError: no such file, it is damaged, or a weight is missing, too many or of another shape.
  """
  variables = load_tree(path, remedy)
  expected = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  shapes, wanted = ({jax.tree_util.keystr(key, simple=True, separator='/'): tuple(leaf.shape)
                     for key, leaf in jax.tree_util.tree_leaves_with_path(tree)} for tree in (variables, expected))
  for name in sorted(shapes.keys() | wanted.keys()):
    if shapes.get(name) != wanted.get(name):
      raise InputError(f'{path}: {name} is {shapes.get(name, "missing")}, expected {wanted.get(name, "no such weight")}; {remedy}')
  return variables


def save_tree(path: os.PathLike | str, tree: dict[str, Any]) -> None:
  """Writes nested dicts of arrays; the file appears under its name only when complete."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  arrays: dict[str, Any] = {name: np.asarray(value) for name, value in traverse_util.flatten_dict(tree, sep='/').items()}
  with open_atomic(path) as file:
    np.savez(file, **arrays)


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
