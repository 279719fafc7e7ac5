"""Reads files that torch.save wrote, weights only: code that such a file may hold is never run."""
import itertools
import os
import pickletools
import re
import warnings
import zipfile
from typing import Any

import numpy as np

from speech2lip_jax.common.errors import InputError

_CUT_SHORT = 'was the download cut short?'
_MAGIC_NUMBER = 0x1950a86a20f9469cfc6c  # The older format begins with it.
_PARTS_OF_WEIGHTS = re.compile(r'collections\.OrderedDict|torch\._utils\.\w+|torch\.\w*Storage|torch\.Size|torch\.device|'
                               r'torch\.[a-z]+\d+|torch\.nn\.parameter\.Parameter')


def check(path: os.PathLike | str) -> None:
  """What can be told before the file is read.

  Raises:
    InputError: no such file, it is empty, or its end is missing.
  """
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file')
  size = os.path.getsize(path)
  if not size:
    raise InputError(f'{path}: is empty; {_CUT_SHORT}')
  if _is_archive(path) and not zipfile.is_zipfile(path):
    raise InputError(f'{path}: the archive has no end ({size} bytes are there); {_CUT_SHORT}')


def load_checkpoint(path: os.PathLike | str) -> Any:
  """Whatever torch.save wrote, on the CPU; tensors stay torch's.

  Raises:
    InputError: no such file, torch is absent, the file is damaged, is of another kind, or holds code.
  """
  check(path)
  try:
    import torch  # Heavy, and needed by conversion only.
  except ImportError as error:
    raise InputError(f"{path}: torch is needed to read it; in a checkout: pip install -e '.[convert]', "
                     'elsewhere: pip install torch') from error
  try:
    with warnings.catch_warnings(action='ignore'):  # of the pickle's protocol: told as an error or of no matter
      return torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # of every kind: torch's reader meets damage at any depth, and says so in a page
    if code := _foreign_name(path):
      raise InputError(f'{path}: holds code ({code}), which loading would run, and is refused; '
                       'save its state_dict() alone') from error
    if _is_archive(path) or _is_older_format(path):
      raise InputError(f'{path}: cannot be read to its end ({os.path.getsize(path)} bytes are there); {_CUT_SHORT}') from error
    raise InputError(f'{path}: is not a file of PyTorch weights (.pth, .pt, .tar)') from error


def state_dict(checkpoint: Any, path: os.PathLike | str) -> dict[str, np.ndarray]:
  """{torch name: float32 array} of a state dict or of a training checkpoint that holds one as 'state_dict'.

  The prefix 'module.' of a network that was trained on several devices is taken off.

  Args:
    checkpoint: what `load_checkpoint` returned.
    path: its file, for messages.

  Raises:
    InputError: it is no state dict, or a weight is not finite.
  """
  if isinstance(checkpoint, dict) and isinstance(checkpoint.get('state_dict'), dict):
    checkpoint = checkpoint['state_dict']
  if not isinstance(checkpoint, dict) or not checkpoint or not all(hasattr(value, 'detach') for value in checkpoint.values()):
    raise InputError(f'{path}: holds no weights by name (a state_dict)')
  arrays = {str(name).removeprefix('module.'): value.detach().float().numpy() for name, value in checkpoint.items()}
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise InputError(f'{path}: {name} holds values that are not finite; the file is damaged, or its training had diverged')
  return arrays


def _is_archive(path):
  with open(path, 'rb') as file:
    return file.read(2) == b'PK'


def _is_older_format(path):
  return any(argument == _MAGIC_NUMBER for _, argument in itertools.islice(next(_pickles(path)), 3))


def _foreign_name(path):
  """The first Python object that the file would have imported and that is no part of weights; None if there is none."""
  for instructions in _pickles(path):
    strings = []
    for code, argument in instructions:
      name = None
      if code == 'GLOBAL':
        name = argument.replace(' ', '.')
      elif code == 'STACK_GLOBAL':
        name = '.'.join(strings[-2:])
      elif isinstance(argument, str):
        strings.append(argument)
      if name and not _PARTS_OF_WEIGHTS.fullmatch(name):
        return name
  return None


def _pickles(path):
  """The instructions of every pickle in the file, [(name, argument)] each; nothing is run."""
  if _is_archive(path):
    try:
      with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
          if name.endswith('.pkl'):
            with archive.open(name) as stream:
              yield _instructions(stream)
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
      return  # Damaged, or packed as zipfile does not know (NotImplementedError): load_checkpoint tells that it cannot be read.
  else:
    with open(path, 'rb') as stream:
      for _ in range(5):  # The older format: magic number, version, machine, the object, names of its storages.
        yield _instructions(stream)


def _instructions(stream):
  instructions = []
  try:
    for code, argument, _ in pickletools.genops(stream):
      instructions.append((code.name, argument))
  except Exception:  # no pickle from here on: what came before is told
    pass
  return instructions
