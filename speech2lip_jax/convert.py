"""Files of other programs → ours: `speech2lip convert --kind KIND --src FILE --out OUT`. Code in them is never run.

  lpips: --src alexnet-owt-7be5be79.pth,alex.pth (torchvision's AlexNet and LPIPS's linear weights, in any order; or one
    file of a whole LPIPS module) --out FILE.npz
  syncnet: --src lipsync_expert.pth (Wav2Lip) --out DIR
  speech2lip: --src CHECKPOINT [--dataset DIR] --out DIR (the authors' own)
"""
import importlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import OUT
from speech2lip_jax.released.import_networks import convert_lpips, convert_syncnet

KINDS = ('lpips', 'syncnet', 'speech2lip')
_KIND = flags.DEFINE_string('kind', None, f'What the file holds: {", ".join(KINDS)}.')
_SRC = flags.DEFINE_string('src', None, "The file; for lpips two, with a comma between: torchvision's AlexNet and LPIPS's weights.")
_DATASET = flags.DEFINE_string('dataset', None, "With --kind speech2lip: the authors' data folder, to be converted too.")


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
    importlib.import_module('speech2lip_jax.released.import_workdir').convert_speech2lip(src, dataset, out)
  print(f'{out}: {kind} of {src}')


if __name__ == '__main__':
  cli.run_verb('convert', sys.modules[__name__], sys.argv)
