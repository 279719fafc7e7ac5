"""Trains and judges a sync expert on a subject's own clips.

    speech2lip expert --subject subjects/anna --workdir experts/anna

It learns to tell, from pictures of the lips alone, speech in time from speech of another moment or clip. Validation and test
frames stay out; on them it prints the share of 1 s windows that fit best at offset 0 ± 1 frame of ± 15. Below 90 % it warns:
such an expert is a weak judge.
"""
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes, usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import WORKDIR

_RECIPE = recipes.define_flag('recipe', 'expert', 'How the expert is trained: a file, or the name of an installed recipe.')
_SUBJECT = flags.DEFINE_string('subject', None, 'The subject folder that speech2lip preprocess wrote.')
_FOLDS = flags.DEFINE_integer('folds', 0, 'Judge by cross-validation instead: so many blocks of clips (of time, for few long '
                              'clips), each scored by an expert of the others; nothing but the scores is written.')
flags.declare_key_flag('workdir')


def main() -> None:
  """The verb."""
  if not _SUBJECT.value or not WORKDIR.value:
    raise InputError('--subject (a subject folder) and --workdir (a folder for the expert) are needed')
  if _FOLDS.value == 1 or _FOLDS.value < 0:
    raise InputError(f'--folds={_FOLDS.value}: must be 0, or 2 and more')
  from speech2lip_jax.common import devices
  from speech2lip_jax.data.dataset import load_subject
  from speech2lip_jax.sync.assess import train_and_judge
  subject = load_subject(_SUBJECT.value)
  devices.announce()
  train_and_judge(_RECIPE.value, subject, pathlib.Path(WORKDIR.value), _FOLDS.value)
  if not _FOLDS.value:
    print(usage.next_command('train', workdir='RUN', **{'config.data.path': _SUBJECT.value, 'config.sync.expert': WORKDIR.value}))


if __name__ == '__main__':
  cli.run_verb('expert', sys.modules[__name__], sys.argv)
