"""What `get_hyper(hyper)` beside a config's `get_config` builds its trials from.

A trial is a dict of overrides, {'train.learning_rate': 1e-3, 'seed': 0}, with its name under 'name'; a list of them is a sweep.

    def get_hyper(hyper):
      rates = hyper.sweep('train.learning_rate', [1e-3, 2e-3])
      return hyper.product(rates + hyper.named('no noise', {'audio.noise_std': 0.0}), hyper.sweep('seed', range(3)))

Trials that differ in their seed alone are one row of the table.
"""
import itertools
from collections.abc import Iterable
from typing import Any

from speech2lip_jax.common.errors import InputError

NAME = 'name'  # the key of a trial's name; no config field is called so
SEED = 'seed'

Overrides = dict[str, Any]


def name_of(trial: Overrides) -> str:
  """The trial's own name, or its overrides written out, 'field.width=64,seed=0'."""
  return trial.get(NAME) or ','.join(f'{field}={value}' for field, value in trial.items())


def sweep(field: str, values: Iterable[Any]) -> list[Overrides]:
  """One trial for each value of a config field, such as 'train.learning_rate'."""
  return [{field: value} for value in values]


def named(name: str, overrides: Overrides | None = None) -> list[Overrides]:
  """One trial with a name of its own in tables and folders; without overrides it is the config as it stands."""
  return [{NAME: name, **(overrides or {})}]


def _merged(parts: tuple[Overrides, ...]) -> Overrides:
  """All overrides of the parts in one trial.

  Raises:
    InputError: two parts set one field.
  """
  merged = {NAME: ','.join(name_of(part) for part in parts)}
  for part in parts:
    for field, value in part.items():
      if field in merged and field != NAME:
        raise InputError(f'get_hyper sets config.{field} twice in one trial')
      merged.setdefault(field, value)
  return merged


def product(*sweeps: list[Overrides]) -> list[Overrides]:
  """Every combination of the sweeps' trials; the last sweep runs fastest."""
  return [_merged(parts) for parts in itertools.product(*sweeps)]


def zipit(*sweeps: list[Overrides]) -> list[Overrides]:
  """The sweeps side by side: the first trials of all together, the second ones, and so on.

  Raises:
    InputError: they differ in length.
  """
  if len({len(part) for part in sweeps}) > 1:
    raise InputError(f'get_hyper: zipit of sweeps of {", ".join(str(len(part)) for part in sweeps)} trials; they must be as long')
  return [_merged(parts) for parts in zip(*sweeps, strict=True)]
