"""Networks with weights from elsewhere, used and never trained: LPIPS and SyncNet, as `speech2lip convert` wrote them."""
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from speech2lip_jax import weights
from speech2lip_jax.errors import InputError
from speech2lip_jax.models.lpips import MIN_SIZE, Lpips
from speech2lip_jax.models.syncnet import SyncNet

WEIGHTS_FILE, EXPERT_FILE = 'weights.npz', 'expert.json'

Tree = dict[str, Any]


def load_lpips(path: os.PathLike | str) -> Tree:
  """Variables of `Lpips`, float32.

  Args:
    path: FILE.npz of `speech2lip convert --kind lpips`.

  Raises:
    InputError: no such file, or not these weights.
  """
  return _load(path, 'make it by speech2lip convert --kind lpips', Lpips(), *_zeros((1, MIN_SIZE, MIN_SIZE, 3)) * 2)


def load_syncnet(folder: os.PathLike | str) -> Tree:
  """Variables of `SyncNet`, batch_stats included, float32.

  Args:
    folder: of `speech2lip convert --kind syncnet`: weights.npz and expert.json, whose kind says 'syncnet'.

  Raises:
    InputError: no such folder, the expert is of another kind, or these are not its weights.
  """
  remedy = 'make it by speech2lip convert --kind syncnet'
  description = pathlib.Path(folder, EXPERT_FILE)
  if not description.is_file():
    raise InputError(f'{description}: no such file; {remedy}')
  try:
    kind = json.loads(description.read_text())['kind']
  except (ValueError, KeyError, TypeError) as error:
    raise InputError(f"{description}: cannot be read as an expert's description; {remedy}") from error
  if kind != 'syncnet':
    raise InputError(f"{description}: kind is {kind!r}, expected 'syncnet'; {remedy}")
  return _load(pathlib.Path(folder, WEIGHTS_FILE), remedy, SyncNet(), *_zeros((1, 48, 96, 15), (1, 16, 80)))


def _zeros(*shapes):
  return tuple(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)


def _load(path, remedy, network, *inputs):
  """The file's tree, after a look at its names and shapes: those of the network."""
  variables = weights.load_tree(path, remedy)
  expected = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  shapes, wanted = ({jax.tree_util.keystr(key, simple=True, separator='/'): tuple(leaf.shape)
                     for key, leaf in jax.tree_util.tree_leaves_with_path(tree)} for tree in (variables, expected))
  for name in sorted(shapes.keys() | wanted.keys()):
    if shapes.get(name) != wanted.get(name):
      raise InputError(f'{path}: {name} is {shapes.get(name, "missing")}, expected {wanted.get(name, "no such weight")}; {remedy}')
  return variables
