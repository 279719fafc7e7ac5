"""Recipes: the config files of `configs/`, installed as `speech2lip_jax.configs`, by name from any folder."""
import importlib
import importlib.util
import os
import pathlib
from typing import Any


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
  return sorted(path.stem for path in folder().glob('*.py') if path.stem != '__init__')


def find(config: str) -> str:
  """The file that `--config` means: a path as it is where there is such a file, else the installed recipe of that name.

  config: 'default', 'configs/default.py' or any path; what follows a colon is the recipe's argument and stays.
  """
  path, colon, argument = config.partition(':')
  given = pathlib.PurePath(path)
  if not os.path.isfile(path) and given.stem in names() and str(given.parent) in ('.', 'configs'):
    path = str(folder() / f'{given.stem}.py')
  return path + colon + argument
