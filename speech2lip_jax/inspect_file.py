"""Tells what a video or picture says of itself: its signed manifest, its tags, and the invisible mark in the mouth.

    speech2lip inspect talk_says_speech.mp4

A line for each. Exit status: 0, something says that it was painted by a model; 1, nothing does; 2, it cannot be read; 3, it was
changed after its manifest was signed. An unmarked video is searched longest: minutes for one of 1920 × 1080.
"""
import sys
from typing import TYPE_CHECKING

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError

if TYPE_CHECKING:
  from speech2lip_jax.provenance.inspection import Findings

WORDS = 'FILE'


def main(files: list[str]) -> None:
  """The verb."""
  if len(files) != 1:
    raise InputError('give one file: speech2lip inspect FILE')
  from speech2lip_jax.provenance import inspection
  found = inspection.inspect(files[0])
  print('\n'.join(lines(found)))
  if found.told and not found.told.is_valid:
    sys.exit(3)
  is_told = any('AI-' in text for text in found.tags.values()) or 'AIGC' in found.tags
  if not (found.told or is_told or (found.mark and found.mark.is_marked)):
    sys.exit(1)


def lines(found: 'Findings') -> list[str]:
  """One for each place."""
  told, mark = found.told, found.mark
  if told is None:
    manifest = 'none'
  else:
    trust = 'on the list of known signers' if told.is_trusted else 'nobody known vouches for that name'
    state = 'valid, unchanged since it was signed' if told.is_valid else f'NOT VALID, changed since ({", ".join(told.problems)})'
    manifest = (f'{state}; signed by {told.signer} ({trust}); by {told.tool}: {", ".join(told.actions)}'
                + (f'; model {told.model}' if told.model else ''))
  tags = '; '.join(f'{name}: {text}' for name, text in found.tags.items()) or 'none'
  if mark is None:
    read = 'not looked for: it lies in moving pictures'
  elif mark.is_marked:
    from speech2lip_jax.provenance import code
    agreeing = int((mark.bits == code.bits_of(mark.number)).sum())
    read = (f'found, model number {mark.number}, {agreeing} of {code.NUM_BITS} bits; in an unmarked video below '
            f'10^{mark.log_chance / 2.302585:.0f}; scale {mark.scale:.2f}' + ('' if mark.is_whole else ', edges cut'))
  else:
    read = 'none found'
  return [f'manifest: {manifest}', f'tags:     {tags}', f'mark:     {read}']


if __name__ == '__main__':
  cli.run_verb('inspect', sys.modules[__name__], sys.argv)
