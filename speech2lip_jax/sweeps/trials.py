"""A sweep's trials: their configs, folders and commands."""
import copy
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.sweeps import hyper
from speech2lip_jax.sweeps.results import Trial


def load_hyper(config_file: str) -> list[hyper.Overrides] | hyper.Space:
  """The trials that the file's `get_hyper` returns, or the space.

  Raises:
    InputError: there is no such file, it has no get_hyper, or that returns no trials, or parameters outside of a space.
  """
  if not os.path.isfile(config_file):
    raise InputError(f'--config={config_file}: no such file; give for example configs/ablation.py')
  spec = importlib.util.spec_from_file_location('sweep_config', config_file)
  assert spec is not None and spec.loader is not None  # a file that ends in .py has both
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'get_hyper'):
    raise InputError(f'--config={config_file}: has no get_hyper(hyper), which lists the trials; configs/ablation.py has one')
  found = module.get_hyper(hyper)
  if isinstance(found, hyper.Space):
    return found
  found = [found] if isinstance(found, hyper.Parameter) else list(found)
  if any(isinstance(item, hyper.Parameter) for item in found):
    raise InputError(f'--config={config_file}: its get_hyper returns parameters; put them into hyper.space(…)')
  if not found:
    raise InputError(f'--config={config_file}: its get_hyper returns no trials')
  return found


def _overridden(config: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
  trial_config = copy.deepcopy(config)  # phases that are shares of num_steps stay so
  for field, value in overrides.items():
    *sections, name = field.split('.')
    place = trial_config
    try:
      for section in sections:
        place = place[section]
      place[name]  # a locked config says which field comes nearest
      place[name] = value
    except (AttributeError, KeyError, TypeError) as error:
      reason = ' '.join(str(error).replace('\\n', ' ').strip('"\'').split())
      raise InputError(f'get_hyper sets config.{field}={value!r}: {reason} (configs/default.py has all fields)') from error
  return trial_config


def make_trials(found: list[hyper.Overrides], config: ConfigDict, workdir: pathlib.Path) -> list[Trial]:
  """The trials of `get_hyper` on a config, each with its folder.

  Raises:
    InputError: a trial sets a field that is not there, to a value of another type or out of range, or two trials have one name.
  """
  trials, seen = [], set()
  for item in found:
    overrides = {field: value for field, value in item.items() if field != hyper.NAME}
    label = hyper.name_of(item)
    name = re.sub(r'[^\w.,=+-]+', '_', label).strip('_')
    if name in seen:
      raise InputError(f'get_hyper has two trials of the name {name}')
    seen.add(name)
    trial_config = _overridden(config, overrides)
    config_schema.check(trial_config, where=f'{name}: ')
    row = ','.join(part for part in label.split(',') if part != f'{hyper.SEED}={overrides.get(hyper.SEED)}')
    trials.append(Trial(name, row or 'the config', overrides, trial_config, workdir / name))
  return trials


def searched_name(number: int) -> str:
  """The name of a search's trial."""
  return f'trial_{number:04}'


def searched_trial(number: int, values: dict[str, Any], config: ConfigDict, workdir: pathlib.Path) -> Trial:
  """A search's trial of values by field. Whether they go together, its training says."""
  name = searched_name(number)
  words = ', '.join(f'{field}={value:.4g}' if isinstance(value, float) else f'{field}={value}' for field, value in values.items())
  return Trial(name, f'{name}: {words}', values, _overridden(config, values), workdir / name)


def commands(trial: Trial, config_file: str, given: dict[str, Any], judge: str | None) -> list[list[str]]:
  """What is left to do for a trial, none if it is finished. given: config fields set at the command line."""
  if trial.metrics_json.is_file():
    return []
  program = [sys.executable, '-m', 'speech2lip_jax']
  values = [f'--config.{field}={value}' for field, value in (given | trial.overrides).items()]
  train = [*program, 'train', f'--config={config_file}', f'--workdir={trial.workdir}', *values]
  score = [*program, 'evaluate', f'--workdir={trial.workdir}', f'--out={trial.metrics_json.parent}', '--nobaselines',
           *([f'--judge={judge}'] if judge else [])]
  trained = (trial.workdir / 'checkpoints' / str(trial.config.train.num_steps)).is_dir()
  return [score] if trained else [train, score]


def shell(argvs: list[list[str]]) -> str:
  """The commands as one line for a shell, each after the one before it has succeeded."""
  join = subprocess.list2cmdline if sys.platform == 'win32' else shlex.join
  return ' && '.join(join(argv) for argv in argvs)
