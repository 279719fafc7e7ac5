"""Trains a subject's model: `speech2lip train --config configs/default.py --workdir RUN --config.data.path=SUBJECT`.

The same command continues a stopped run; the values it logs are those of a run that never stopped.
"""
import os
import sys

import jax
from absl import flags
from ml_collections import config_flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import WORKDIR
from speech2lip_jax.training.loop import train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file('config', recipes.find('default'), 'The recipe: a file, or the name of an installed one.')
_DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'One of several processes: found by itself on SLURM and TPU pods, else by the next three flags.')
_COORDINATOR = flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes train together.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for checkpoints and logs')
  config_file = config_flags.get_config_filename(flags.FLAGS['config'])
  if not os.path.isfile(config_file):
    raise InputError(f'--config={config_file}: no such file; give a file, or one of: {", ".join(recipes.names())}')
  if _DISTRIBUTED.value:
    try:
      jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except ValueError as error:
      raise InputError(f'--distributed: {error} Give --coordinator_address, --num_processes and --process_id, '
                       'or start it on a cluster that tells them') from error
  train_and_evaluate(_CONFIG.value, WORKDIR.value)


if __name__ == '__main__':
  cli.run_verb('train', sys.modules[__name__], sys.argv)
