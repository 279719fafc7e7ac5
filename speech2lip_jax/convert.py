"""Files of other programs → ours: `speech2lip convert --kind KIND --src FILE --out OUT`. Code in them is never run.

  lpips: --src alexnet-owt-7be5be79.pth,alex.pth (torchvision's AlexNet and LPIPS's linear weights, in any order; or one
    file of a whole LPIPS module) --out FILE.npz
  syncnet: --src lipsync_expert.pth (Wav2Lip) --out DIR
  speech2lip: --src CHECKPOINT [--dataset DIR] --out DIR (the authors' own)
"""
import contextlib
import hashlib
import importlib
import json
import os
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli, torch_file, torch_weights, weights
from speech2lip_jax.common_flags import OUT
from speech2lip_jax.errors import InputError
from speech2lip_jax.frozen import EXPERT_FILE, WEIGHTS_FILE

KINDS = ('lpips', 'syncnet', 'speech2lip')

_KIND = flags.DEFINE_string('kind', None, f'What the file holds: {", ".join(KINDS)}.')
_SRC = flags.DEFINE_string('src', None, "The file; for lpips two, with a comma between: torchvision's AlexNet and LPIPS's weights.")
_DATASET = flags.DEFINE_string('dataset', None, "With --kind speech2lip: the authors' data folder, to be converted too.")


def convert_lpips(src: list[str], out: str) -> None:
  """Writes the weights of `models.lpips.Lpips`, one .npz that `frozen.load_lpips` reads.

  Args:
    src: one or two files; together all names of LPIPS.
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
  state = {}
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
    weights.save_tree(out, variables)


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
    pathlib.Path(out, EXPERT_FILE).write_text(json.dumps(description, indent=2) + '\n')


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


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  kind, src, out, dataset = _KIND.value, _SRC.value, OUT.value, _DATASET.value
  if not kind or not src or not out:
    raise InputError(f'--kind ({", ".join(KINDS)}), --src and --out are needed')
  if kind not in KINDS:
    raise InputError(f'--kind={kind}: one of {", ".join(KINDS)}')
  if dataset and kind != 'speech2lip':
    raise InputError(f'--dataset={dataset}: goes with --kind speech2lip only')
  if kind == 'lpips':
    convert_lpips([path.strip() for path in src.split(',')], out)
  elif kind == 'syncnet':
    convert_syncnet(src, out)
  else:
    importlib.import_module('speech2lip_jax.import_reference').convert_speech2lip(src, dataset, out)
  print(f'{out}: {kind} of {src}')


if __name__ == '__main__':
  cli.run_verb('convert', sys.modules[__name__], sys.argv)
