"""Writes commands.md and configuration.md beside this file, from the verbs' flags and the recipes' comments.

    python docs/generate.py
"""
import ast
import pathlib
import re
from collections.abc import Iterable

from speech2lip_jax import cli
from speech2lip_jax.common import completion, recipes, usage
from speech2lip_jax.configs import schema

FOLDER = pathlib.Path(__file__).resolve().parent
NOTE = '<!-- Written by docs/generate.py from the code; run it again instead of editing this. -->'
FULL_RECIPES = {'default': 'config', 'expert': 'recipe'}  # the recipes that name every field, and the flags that take them


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
  lines = [header, ('---',) * len(header), *rows]
  return '\n'.join('| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines)


def commands() -> str:
  """docs/commands.md: every verb's docstring, with its example, and its flags."""
  parts = ['# Commands', NOTE, f'`speech2lip VERB --help` says the same.\n\n```\n{cli.overview()}\n```']
  for verb in cli.VERBS:
    module = cli.load_verb(verb)
    rows = [(f'`{option.written}`', option.default, option.meaning) for option in usage.options(module)]
    parts += [f'## {verb}', (module.__doc__ or '').strip(), _table(('flag', 'default', 'meaning'), rows)]
    for recipe, flag in FULL_RECIPES.items():
      if any(known.name == flag for known in usage.key_flags(module)):
        parts.append(f'Fields of the recipe are set as `--{flag}.train.num_steps=8000`, after `--{flag}`: '
                     f'[all of them](configuration.md#{recipe}).')
  parts += ['## completion', (completion.__doc__ or '').strip()]
  return '\n\n'.join(parts) + '\n'


def fields(recipe: str) -> list[tuple[str, str, str]]:
  """The fields that a recipe's file sets: name without 'config.', value as it is written, and the comment beside and below it.

  A value that follows from another field is written as 'num_steps * 10 // 11 = 4000'.
  """
  config = recipes.load(recipe).get_config()
  found: list[tuple[str, str, str]] = []
  for line in (recipes.folder() / f'{recipe}.py').read_text(encoding='utf-8').splitlines():
    if match := re.match(r"  config\.([\w.]+) = ((?:'[^']*'|[^'#])*?)(?:  # (.*))?$", line):
      value = match[2]
      if any(isinstance(node, ast.Name) and node.id == 'num_steps' for node in ast.walk(ast.parse(value))):
        section, field = match[1].split('.')
        value = f'{value} = {config[section][field]}' if value != 'num_steps' else str(config[section][field])
      found.append((match[1], value, match[3] or ''))
    elif found and (match := re.match(r'  # (.*)', line)):
      found[-1] = (*found[-1][:2], f'{found[-1][2]} {match[1]}')
  return [field for field in found if field[1] != 'ConfigDict()']


def configuration() -> str:
  """docs/configuration.md: the recipes, and every field of those in FULL_RECIPES."""
  first_lines = {}
  for name in recipes.names():
    docstring = ast.get_docstring(ast.parse((recipes.folder() / f'{name}.py').read_text(encoding='utf-8'))) or ''
    first_lines[name] = docstring.split('\n\n')[0].replace('\n', ' ')
  parts = ['# Configuration', NOTE,
           'A recipe is a Python file with `get_config()`; those below are installed, and are given by name from any folder '
           '(`--config smoke`) or, as any other, by file. A field is set on the command line: `--config.train.num_steps=8000`, for '
           '`speech2lip expert` `--recipe.train.num_steps=800`. A recipe is checked whole before anything is written: names, '
           'types, the values below (`configs/schema.py`), and what must go together.',
           _table(('recipe', ''), ((f'`{name}`', text) for name, text in first_lines.items()))]
  for recipe, flag in FULL_RECIPES.items():
    parts += [f'## {recipe}', f'Fields of `configs/{recipe}.py`, set as `--{flag}.FIELD=VALUE`.']
    sections: dict[str, list[tuple[str, ...]]] = {}
    for name, value, comment in fields(recipe):
      rule = schema.RULES[recipe].get(name)
      row = (f'`{name}`', f'`{value}`', rule.words.removeprefix('one of ') if rule else '', comment)
      sections.setdefault(name.split('.')[0] if '.' in name else '', []).append(row)
    parts += [_table(('field', 'default', 'values', 'meaning'), rows) for rows in sections.values()]
  return '\n\n'.join(parts) + '\n'


PAGES = {'commands.md': commands, 'configuration.md': configuration}

if __name__ == '__main__':
  for page, write in PAGES.items():
    (FOLDER / page).write_text(write(), encoding='utf-8')
