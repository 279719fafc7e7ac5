"""LPIPS and SyncNet from their PyTorch files."""
import contextlib
import hashlib
import os
import pathlib
from typing import Any

from speech2lip_jax.common import weights
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.models.lpips import save_lpips
from speech2lip_jax.released import torch_file, torch_weights
from speech2lip_jax.sync.syncnet_expert import WEIGHTS_FILE, write_facts


def convert_lpips(src: list[str], out: str) -> None:
  """Writes the weights of `models.lpips.Lpips`, one .npz that `lpips.load_lpips` reads.

  Args:
    src: one or two files; together all names of LPIPS, or of ST-LPIPS with AlexNet or VGG.
    out: FILE.npz.

  Raises:
    InputError: a file cannot be read, is of another network, or two give the same weight.
  """
  if not out.endswith('.npz'):
    raise InputError(f'--out={out}: must end in .npz')
  if len(src) > 2:
    raise InputError(f"--src={','.join(src)}: {len(src)} files; give two, torchvision's AlexNet and LPIPS's linear weights")
  for path in src:
    torch_file.check(path)
  state: dict[str, Any] = {}
  for path in src:
    part = torch_file.state_dict(torch_file.load_checkpoint(path), path)
    if both := sorted(set(part) & set(state)):
      raise InputError(f"{path}: {both[0]} is in {src[0]} too; give torchvision's AlexNet and LPIPS's linear weights")
    state |= part
  if not any(name.startswith('lin0.') for name in state):
    raise InputError(f'{src[0]}: has no linear weights (lin0.model.1.weight …); add those of LPIPS: --src ALEXNET.pth,alex.pth')
  if not any(name.startswith(('features.', 'net.')) for name in state):
    raise InputError(f"{src[0]}: has no convolutions (features.0.weight …); add torchvision's AlexNet: --src ALEXNET.pth,alex.pth")
  variables = _named(torch_weights.lpips_from_torch, state, src)
  with _writing(out):
    save_lpips(out, torch_weights.lpips_trunk(state), variables)


def convert_syncnet(src: str, out: str) -> None:
  """Writes the weights of `models.syncnet.SyncNet` and their description, a folder that `frozen.load_syncnet` reads.

  Args:
    src: a training checkpoint of Wav2Lip's expert, or its state dict.
    out: the folder.

  Raises:
    InputError: the file cannot be read or is of another network, or the folder cannot be written.
  """
  if os.path.isfile(out):
    raise InputError(f'--out={out}: is a file; give a folder')
  variables = _named(torch_weights.syncnet_from_torch, torch_file.state_dict(torch_file.load_checkpoint(src), src), [src])
  with open(src, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  description = {'kind': 'syncnet', 'source': os.path.basename(src), 'sha256': digest}
  with _writing(out):
    weights.save_tree(pathlib.Path(out, WEIGHTS_FILE), variables)
    write_facts(out, description)


def _named(from_torch, state, src):
  """`from_torch(state)`; its complaints begin with the files."""
  try:
    return from_torch(state)
  except InputError as error:
    raise InputError(f'{",".join(src)}: {error}') from error


@contextlib.contextmanager
def _writing(out):
  """Where the disk refuses, one line says so."""
  try:
    yield
  except OSError as error:
    raise InputError(f'--out={out}: cannot be written ({error.strerror})') from error
