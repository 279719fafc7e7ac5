"""Recipes: the config files of `configs/`, installed as `speech2lip_jax.configs`, by name from any folder."""
import importlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Collection
from typing import Any

from absl import flags
from ml_collections.config_flags import config_flags

from speech2lip_jax.configs import schema

flags.disclaim_key_flags()  # a flag that `define_flag` makes is the calling verb's own


def load(name: str) -> Any:
  """The module of an installed recipe, such as 'default', with its `get_config` and, in a sweep's, `get_hyper`."""
  return importlib.import_module(f'speech2lip_jax.configs.{name}')


def folder() -> pathlib.Path:
  """Where the installed recipes lie."""
  spec = importlib.util.find_spec('speech2lip_jax.configs')
  assert spec is not None and spec.submodule_search_locations
  return pathlib.Path(spec.submodule_search_locations[0])


def names() -> list[str]:
  """The installed recipes' names."""
  return sorted(path.stem for path in folder().glob('*.py') if path.stem not in ('__init__', 'schema'))


def find(config: str) -> str:
  """The file that `--config` means: a path as it is where there is such a file, else the installed recipe of that name.

  config: 'default', 'configs/default.py' or any path; what follows a colon is the recipe's argument and stays.
  """
  path, colon, argument = config.partition(':')
  given = pathlib.PurePath(path)
  if not os.path.isfile(path) and given.stem in names() and str(given.parent) in ('.', 'configs'):
    path = str(folder() / f'{given.stem}.py')
  return path + colon + argument


def define_flag(name: str, recipe: str, help_text: str) -> flags.FlagHolder:
  """Defines `--NAME` (a recipe, the installed one `recipe` by default) and `--NAME.FIELD` for its fields.

  ml_collections reads the fields given on the command line as soon as the flag has a default, while the verb is imported, where a
  misspelt one is a traceback. The command line is hidden from it here; `cli` gives the default as a value when it parses.
  """
  argv, sys.argv = sys.argv, sys.argv[:1]
  try:
    return config_flags.DEFINE_config_file(name, find(recipe), help_text)
  finally:
    sys.argv = argv


def check_flags(names: Collection[str]) -> None:
  """Checks the recipes that those of the flags `names` hold which `define_flag` made.

  Raises:
    InputError: a field is unknown, missing, or not as `configs.schema` has it.
  """
  for name in sorted(flags_defined().keys() & set(names)):
    schema.check(flags.FLAGS[name].value, 'default' if name == 'config' else 'expert')


def flags_defined() -> dict[str, str]:
  """The flags that `define_flag` made, with the files of their default recipes."""
  found = {name: flags.FLAGS[name] for name in flags.FLAGS}
  return {name: (flag.default_as_str or '').strip("'") for name, flag in found.items() if config_flags.is_config_flag(flag)}
