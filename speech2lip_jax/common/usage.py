"""What a verb says about itself on the command line: its help, and the command that follows it."""
import pathlib
import shlex
import textwrap
import types

from absl import flags

from speech2lip_jax.common import recipes

WIDTH = 100


def key_flags(module: types.ModuleType) -> list[flags.Flag]:
  """The flags that a verb defines, then the shared ones that it declares to read."""
  return flags.FLAGS.get_key_flags_for_module(module)


def help_of(flag: flags.Flag) -> str:
  """The flag's help on one line, without what absl adds to that of a flag which may repeat."""
  return ' '.join((flag.help or '').split(';\n')[0].split())


def help_text(verb: str, module: types.ModuleType) -> str:
  """The verb's usage line, its module's docstring, its flags with their defaults, and how config fields are set."""
  parts = [f'usage: speech2lip {verb} [flags]\n', (module.__doc__ or '').strip(), '\nflags:']
  wrap = textwrap.TextWrapper(WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)
  defaults, configs = recipes.flags_defined(), []
  for flag in key_flags(module):
    kind, default = flag.flag_type(), flag.default
    if flag.name in defaults:
      configs.append(flag.name)
      head, default = f'--{flag.name} RECIPE', pathlib.Path(defaults[flag.name]).stem
    elif flag.boolean:
      head, default = f'--[no]{flag.name}', str(default).lower()
    elif values := getattr(flag.parser, 'enum_values', None):
      head = f'--{flag.name} {"|".join(values)}'
    else:
      head = f'--{flag.name} {kind.removeprefix("multi ").upper()}'
    parts += [f'  {head}', *wrap.wrap(f'{help_of(flag)} (default: {"none" if default is None else default})')]
  for name in configs:
    parts += ['', f'config fields: set as --{name}.train.num_steps=8000; --{name} comes before them. All of them, with their '
              'meanings:', f'  {defaults[name]}']
  return '\n'.join(parts)


def next_command(verb: str, **values: object) -> str:
  """The line by which a verb names the command that follows it. values: of flags and, as 'config.data.path', of config fields."""
  words = [f'--{name}{"=" if "." in name else " "}{shlex.quote(str(value))}' for name, value in values.items()]
  return f'next: speech2lip {" ".join([verb, *words])}'
