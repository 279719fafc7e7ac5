"""Trees of weights in one .npz file: no pickle, written atomically. Keys are the tree's names joined by '/'."""
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping
from typing import IO, Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from speech2lip_jax.common import checksums, npz
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
  check_for(network, variables, path, remedy, *inputs)
  return variables


def check_for(network: nn.Module, variables: Tree, path: os.PathLike | str, remedy: str, *inputs: jax.ShapeDtypeStruct) -> None:
  """Looks at names and shapes of what a file gave for `network`; see `load_for`.

  Raises:
    InputError: a weight is missing, too many or of another shape.
  """
  expected = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  shapes, wanted = ({jax.tree_util.keystr(key, simple=True, separator='/'): tuple(leaf.shape)
                     for key, leaf in jax.tree_util.tree_leaves_with_path(tree)} for tree in (variables, expected))
  for name in sorted(shapes.keys() | wanted.keys()):
    if shapes.get(name) != wanted.get(name):
      raise InputError(f'{path}: {name} is {shapes.get(name, "missing")}, expected {wanted.get(name, "no such weight")}; {remedy}')


def save_tree(path: os.PathLike | str, tree: dict[str, Any]) -> None:
  """Writes nested dicts of arrays; the file appears under its name only when complete."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open_atomic(path) as file:
    _write_tree(file, tree)


def save_with_description(folder: os.PathLike | str, weights_file: str, tree: Tree, json_file: str, description: dict[str, Any]
                          ) -> None:
  """Writes a network into a folder: its weights as `save_tree` does, and what it is, with checksums of the weights and of itself.

  The two replace those that are there together: stopped in between, the folder has no description and is no network, never the old
  one with new weights.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with open_atomic(folder / json_file, 'w') as text:
    with open_atomic(folder / weights_file) as file:
      _write_tree(file, tree)
      file.flush()
      record = checksums.sealed({'weights_blake2b': checksums.of_file(file.name)} | description)
      text.write(json.dumps(record, indent=1) + '\n')
      text.flush()
      (folder / json_file).unlink(missing_ok=True)


def _write_tree(file: IO[bytes], tree: Tree) -> None:
  arrays: dict[str, Any] = {name: np.asarray(value) for name, value in traverse_util.flatten_dict(tree, sep='/').items()}
  np.savez(file, **arrays)


def unpacked(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Float32 weights from packed ones {NAME: array}, where an array may be int8 with its scales beside it.

  NAME/scale: [out] for NAME [out, …], or of as many axes as NAME, against which it is broadcast.
  """
  arrays, scales = {}, {f'{name}/scale' for name in packed}
  for name in packed:
    if name not in scales:
      value = packed[name].astype(np.float32)
      if f'{name}/scale' in packed:
        scale = packed[f'{name}/scale'].astype(np.float32)
        value *= scale if scale.ndim == value.ndim else scale.reshape(-1, *[1] * (value.ndim - 1))
      arrays[name] = value
  return arrays


def asset(name: str) -> importlib.resources.abc.Traversable:
  """A file of weights that the package brings."""
  return importlib.resources.files('speech2lip_jax').joinpath('assets', name)


def load_asset(name: str) -> dict[str, np.ndarray]:
  """`unpacked` of an .npz that the package brings: {NAME: float32 array}."""
  with asset(name).open('rb') as file, np.load(file, allow_pickle=False) as packed:
    return unpacked(packed)


def load_tree(path: os.PathLike | str, remedy: str) -> dict[str, Any]:
  """Reads what `save_tree` wrote; `remedy` ends the message of an error.

  Raises:
    InputError: no such file, or it is damaged.
  """
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; {remedy}')
  try:
    return traverse_util.unflatten_dict(npz.load(path), sep='/')
  except (ValueError, TypeError, IndexError) as error:  # a name may stand for an array and for a tree
    raise InputError(f'{path}: cannot be read as weights ({error}); {remedy}') from error
