"""Converts other programs' PyTorch files into ours; code in them is never run.

    speech2lip convert --kind lpips --src alexnet-owt-7be5be79.pth,alex.pth --out lpips.npz
    speech2lip convert --kind lpips --src vgg_shift_tolerant.pth --out st_lpips_vgg.npz
    speech2lip convert --kind syncnet --src lipsync_expert.pth --out syncnet
    speech2lip convert --kind speech2lip --src checkpoint.tar --dataset data/may --out runs/may

lpips: torchvision's AlexNet and LPIPS's linear weights, in any order, or one file of a whole LPIPS or
ST-LPIPS module (stlpips-pytorch 0.0.2 holds two, AlexNet's and VGG's). syncnet: Wav2Lip's
sync expert. speech2lip: a checkpoint of the authors' program, with --dataset its data folder too.
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import OUT

KINDS = ('lpips', 'syncnet', 'speech2lip')
_KIND = flags.DEFINE_enum('kind', None, KINDS, 'What the file holds.')
_SRC = flags.DEFINE_string('src', None, "The file; for lpips two, with a comma between: torchvision's AlexNet and LPIPS's weights.")
_DATASET = flags.DEFINE_string('dataset', None, "With --kind speech2lip: the authors' data folder, to be converted too.")
flags.declare_key_flag('out')


def main() -> None:
  """The verb."""
  kind, src, out, dataset = _KIND.value, _SRC.value, OUT.value, _DATASET.value
  if not kind or not src or not out:
    raise InputError(f'--kind ({", ".join(KINDS)}), --src and --out are needed')
  if dataset and kind != 'speech2lip':
    raise InputError(f'--dataset={dataset}: goes with --kind speech2lip only')
  if kind == 'speech2lip':
    from speech2lip_jax.released.import_workdir import convert_speech2lip
    convert_speech2lip(src, dataset, out)
  else:
    from speech2lip_jax.released.import_networks import convert_lpips, convert_syncnet
    if kind == 'lpips':
      convert_lpips([path.strip() for path in src.split(',')], out)
    else:
      convert_syncnet(src, out)
  print(f'{out}: {kind} of {src}')
  if kind != 'speech2lip' or dataset:  # the authors' networks without a subject are weights alone
    print({'lpips': usage.next_command('evaluate', workdir='RUN', out='RUN/eval', lpips=out),
           'syncnet': usage.next_command('evaluate', workdir='RUN', out='RUN/eval', judge=out),
           'speech2lip': usage.next_command('render', workdir=out, split='test', out=f'{out}/held_out.mp4')}[kind])


if __name__ == '__main__':
  cli.run_verb('convert', sys.modules[__name__], sys.argv)
