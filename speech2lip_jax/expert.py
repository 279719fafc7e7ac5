"""Trains and judges a sync expert on a subject's own clips: `speech2lip expert --subject SUBJECT --workdir EXPERT`.

It learns to tell, from pictures of the lips alone, speech in time from speech of another moment or clip. Validation and test
frames stay out; on them it prints the share of 1 s windows that fit best at offset 0 ± 1 frame of ± 15.
"""
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import WORKDIR
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.sync.assess import train_and_judge

_RECIPE = config_flags.DEFINE_config_file('recipe', recipes.find('expert'),
                                                'How the expert is trained; --recipe.data.part=odd and so on.')
_SUBJECT = flags.DEFINE_string('subject', None, 'The subject folder that speech2lip preprocess wrote.')
_FOLDS = flags.DEFINE_integer('folds', 0, 'Judge by cross-validation instead: so many blocks of clips (of time, for few long '
                              'clips), each scored by an expert of the others; nothing but the scores is written.')


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not _SUBJECT.value or not WORKDIR.value:
    raise InputError('--subject (a subject folder) and --workdir (a folder for the expert) are needed')
  if _FOLDS.value == 1 or _FOLDS.value < 0:
    raise InputError(f'--folds={_FOLDS.value}: must be 0, or 2 and more')
  train_and_judge(_RECIPE.value, load_subject(_SUBJECT.value), pathlib.Path(WORKDIR.value), _FOLDS.value)


if __name__ == '__main__':
  cli.run_verb('expert', sys.modules[__name__], sys.argv)
