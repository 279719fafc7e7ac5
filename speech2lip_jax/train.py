"""Trains a subject's model, by a recipe.

    speech2lip train --workdir runs/anna --config.data.path=subjects/anna
    speech2lip train --config configs/smoke.py --workdir runs/try --config.data.path=subjects/anna --config.train.num_steps=20

The same command continues a stopped run; the values it logs are those of a run that never stopped. The folder then holds
checkpoints, log.jsonl, TensorBoard's events and sample images. At SIGTERM or SIGUSR1 a checkpoint is written, and the exit status
is 75. With --distributed, several processes train together; one that lost another exits with 76 (docs/scaling.md).
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes, usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import DISTRIBUTED_FLAGS, WORKDIR

_CONFIG = recipes.define_flag('config', 'default', 'The recipe: a file, or the name of an installed one.')
flags.declare_key_flag('workdir')
for _name in DISTRIBUTED_FLAGS:
  flags.declare_key_flag(_name)


def main() -> None:
  """The verb."""
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for checkpoints and logs')
  from speech2lip_jax.data.dataset import load_subject
  load_subject(_CONFIG.value.data.path)  # a mistake is told before JAX loads
  from speech2lip_jax.common import processes
  with processes.joined(can_stop=True):
    import jax

    from speech2lip_jax.training.loop import train_and_evaluate
    train_and_evaluate(_CONFIG.value, WORKDIR.value)
    is_main = jax.process_index() == 0
  if is_main:
    print(usage.next_command('evaluate', workdir=WORKDIR.value, out=f'{WORKDIR.value}/eval'))
    print(usage.next_command('render', workdir=WORKDIR.value, audio='SPEECH.wav', out=f'{WORKDIR.value}/speech.mp4'))


if __name__ == '__main__':
  cli.run_verb('train', sys.modules[__name__], sys.argv)
