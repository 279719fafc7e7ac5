"""Trains a subject's model, by a recipe.

    speech2lip train --workdir runs/anna --config.data.path=subjects/anna
    speech2lip train --config configs/smoke.py --workdir runs/try --config.data.path=subjects/anna --config.train.num_steps=20

The same command continues a stopped run; the values it logs are those of a run that never stopped. The folder then holds
checkpoints, log.jsonl, TensorBoard's events and sample images.
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes, usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import WORKDIR

_CONFIG = recipes.define_flag('config', 'default', 'The recipe: a file, or the name of an installed one.')
_DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'One of several processes: found by itself on SLURM and TPU pods, else by the next three flags.')
_COORDINATOR = flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes train together.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')
flags.declare_key_flag('workdir')


def main() -> None:
  """The verb."""
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for checkpoints and logs')
  from speech2lip_jax.data.dataset import load_subject
  load_subject(_CONFIG.value.data.path)  # a mistake is told before JAX loads
  import jax

  from speech2lip_jax.training.loop import train_and_evaluate
  if _DISTRIBUTED.value:
    try:
      jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except ValueError as error:
      raise InputError(f'--distributed: {error} Give --coordinator_address, --num_processes and --process_id, '
                       'or start it on a cluster that tells them') from error
  train_and_evaluate(_CONFIG.value, WORKDIR.value)
  if jax.process_index() == 0:
    print(usage.next_command('evaluate', workdir=WORKDIR.value, out=f'{WORKDIR.value}/eval'))
    print(usage.next_command('render', workdir=WORKDIR.value, audio='SPEECH.wav', out=f'{WORKDIR.value}/speech.mp4'))


if __name__ == '__main__':
  cli.run_verb('train', sys.modules[__name__], sys.argv)
