"""What a verb says about itself on the command line: its help, and the command that follows it."""
import pathlib
import shlex
import textwrap
import types
from typing import NamedTuple

from absl import flags

from speech2lip_jax.common import recipes

WIDTH = 100


def key_flags(module: types.ModuleType) -> list[flags.Flag]:
  """The flags that a verb reads: the shared ones that it declares, then those that it defines."""
  own = flags.FLAGS.get_flags_for_module(module)
  return [flag for flag in flags.FLAGS.get_key_flags_for_module(module) if flag not in own] + own


def help_of(flag: flags.Flag) -> str:
  """The flag's help on one line, without what absl adds to that of a flag which may repeat."""
  return ' '.join((flag.help or '').split(';\n')[0].split())


class Option(NamedTuple):
  """A flag as help shows it: '--size INT', its default in words, and its meaning on one line."""
  written: str
  default: str
  meaning: str


def options(module: types.ModuleType) -> list[Option]:
  """The verb's flags as help shows them."""
  recipe_files, found = recipes.flags_defined(), []
  for flag in key_flags(module):
    default = 'none' if flag.default is None else str(flag.default)
    if flag.name in recipe_files:
      written, default = f'--{flag.name} RECIPE', pathlib.Path(recipe_files[flag.name]).stem
    elif flag.boolean:
      written, default = f'--[no]{flag.name}', default.lower()
    elif values := getattr(flag.parser, 'enum_values', None):
      written = f'--{flag.name} {"|".join(values)}'
    else:
      written = f'--{flag.name} {flag.flag_type().removeprefix("multi ").upper()}'
    found.append(Option(written, default, help_of(flag)))
  return found


def help_text(verb: str, module: types.ModuleType) -> str:
  """The verb's usage line, its module's docstring, its flags with their defaults, and how config fields are set."""
  file = 'FILE ' if getattr(module, 'TAKES_FILES', False) else ''
  parts = [f'usage: speech2lip {verb} {file}[flags]\n', (module.__doc__ or '').strip(), '\nflags:']
  wrap = textwrap.TextWrapper(WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)
  for option in options(module):
    parts += [f'  {option.written}', *wrap.wrap(f'{option.meaning} (default: {option.default})')]
  names = {flag.name for flag in key_flags(module)}
  for name, path in recipes.flags_defined().items():
    if name in names:
      parts += ['', f'config fields: set as --{name}.train.num_steps=8000; --{name} comes before them. All of them, with their '
                'meanings:', f'  {path}']
  return '\n'.join(parts)


def next_command(verb: str, **values: object) -> str:
  """The line by which a verb names the command that follows it. values: of flags and, as 'config.data.path', of config fields."""
  words = [f'--{name}{"=" if "." in name else " "}{shlex.quote(str(value))}' for name, value in values.items()]
  return f'next: speech2lip {" ".join([verb, *words])}'
