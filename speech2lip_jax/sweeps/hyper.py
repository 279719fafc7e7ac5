"""What `get_hyper(hyper)` beside a config's `get_config` builds its trials from.

A trial is a dict of overrides, {'train.learning_rate': 1e-3, 'seed': 0}, with its name under 'name'; a list of them is a sweep.

    def get_hyper(hyper):
      rates = hyper.sweep('train.learning_rate', [1e-3, 2e-3])
      return hyper.product(rates + hyper.named('no noise', {'audio.noise_std': 0.0}), hyper.sweep('seed', range(3)))

Trials that differ in their seed alone are one row of the table. Instead of a list, `get_hyper` may return a space, whose
trials Optuna chooses, each by what those before it have come to (`search`):

      return hyper.space(hyper.real('train.learning_rate', 1e-4, 1e-2, log=True), hyper.integer('field.width', 32, 128),
                         hyper.choice('audio.features', ['mel', 'mel+whisper']))
"""
import dataclasses
import itertools
import math
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


@dataclasses.dataclass(frozen=True)
class Real:
  """A range of numbers for a config field, both ends included; log: as likely in each decade."""
  field: str
  low: float
  high: float
  log: bool

  @property
  def ends(self) -> tuple[Any, ...]:
    """Its two ends."""
    return self.low, self.high


class Integer(Real):
  """A range of whole numbers."""


@dataclasses.dataclass(frozen=True)
class Choice:
  """Values for a config field, in no order."""
  field: str
  ends: tuple[Any, ...]


Parameter = Real | Choice


@dataclasses.dataclass(frozen=True)
class Space:
  """What a search chooses from: a value of each parameter for a trial."""
  parameters: tuple[Parameter, ...]


def _range(kind: type[Real], field: str, low: float, high: float, log: bool) -> Real:
  if not low < high or not all(map(math.isfinite, (low, high))) or (log and low <= 0):
    raise InputError(f'get_hyper: hyper.{kind.__name__.lower()}({field!r}, {low!r}, {high!r}{", log=True" if log else ""}): must '
                     f'begin below its end{" and above 0" if log else ""}')
  return kind(field, low, high, log)


def real(field: str, low: float, high: float, log: bool = False) -> Real:
  """A range of a space: `low` … `high`, as likely in each decade with `log`.

  Raises:
    InputError: there is nothing between the ends, or with log not all is above 0.
  """
  return _range(Real, field, float(low), float(high), log)


def integer(field: str, low: int, high: int, log: bool = False) -> Real:
  """`real` of whole numbers.

  Raises:
    InputError: as `real`, or an end is not a whole number.
  """
  if not (isinstance(low, int) and isinstance(high, int)):
    raise InputError(f'get_hyper: hyper.integer({field!r}, {low!r}, {high!r}): must begin and end with whole numbers')
  return _range(Integer, field, low, high, log)


def choice(field: str, values: Iterable[Any]) -> Choice:
  """Values of a space in no order.

  Raises:
    InputError: they are fewer than two.
  """
  ends = tuple(values)
  if len(ends) < 2:
    raise InputError(f'get_hyper: hyper.choice({field!r}, {list(ends)!r}): must have two values or more')
  return Choice(field, ends)


def space(*parameters: Parameter) -> Space:
  """A space to search, of parameters made by `real`, `integer` and `choice`.

  Raises:
    InputError: there are none, or two of one field.
  """
  fields = [parameter.field for parameter in parameters]
  if not fields:
    raise InputError('get_hyper: hyper.space() has no parameters; give hyper.real, hyper.integer or hyper.choice')
  if twice := next((field for field in fields if fields.count(field) > 1), None):
    raise InputError(f'get_hyper: hyper.space has config.{twice} twice')
  return Space(parameters)


def ends(searched: Space) -> list[Overrides]:
  """A trial for each end of each range and each value of each choice, which the config must take for all between to be in range."""
  return [{parameter.field: end} for parameter in searched.parameters for end in parameter.ends]
