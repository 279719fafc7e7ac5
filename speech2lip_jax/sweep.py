"""Trains a config's trials, some at a time, and compares them: `speech2lip sweep --config FILE --workdir DIR`.

The config file has a `get_hyper(hyper)` beside its `get_config` (see `hyper`), which returns the trials. Each is one
`speech2lip train` and one `speech2lip evaluate --nobaselines` in DIR/NAME, with what they print in DIR/NAME/sweep.log. Given
again, the same command leaves finished trials alone and goes on with the others, those that failed included. DIR then holds
results.csv (a line a trial), table.md and table.csv (a row for trials that differ in their seed alone), plot.svg and best.py.
"""
import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from absl import flags
from ml_collections import ConfigDict, config_flags

from speech2lip_jax import checkpoint, cli, hyper
from speech2lip_jax import evaluate as _evaluate  # noqa: F401  its --judge is the sweep's too
from speech2lip_jax import train as _train  # noqa: F401  and this one's --config
from speech2lip_jax.common_flags import WORKDIR
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.errors import InputError
from speech2lip_jax.launcher import DONE, FAILED, LAUNCHERS, RUNNING, Job, Launcher
from speech2lip_jax.sweep_results import Trial, progress, write_results

_LAUNCHER = flags.DEFINE_enum('launcher', 'local', sorted(LAUNCHERS), 'Where trials run: processes of this machine.')
_AT_ONCE = flags.DEFINE_integer('trials_at_once', 1, 'Trials that run at one time; they share the cores evenly.', lower_bound=1)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands of the trials that are not finished, and do nothing.')
_ONLY = flags.DEFINE_string('only', None, 'Run this one trial, by its name.')

WAITING, FINISHED = 'waiting', 'finished'
POLL_S = 0.5


# ---- what to run

def load_hyper(config_file: str) -> list[hyper.Overrides]:
  """The trials that the file's `get_hyper` returns.

  Raises:
    InputError: there is no such file, it has no get_hyper, or that returns no trials.
  """
  if not os.path.isfile(config_file):
    raise InputError(f'--config={config_file}: no such file; give for example configs/ablation.py')
  spec = importlib.util.spec_from_file_location('sweep_config', config_file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'get_hyper'):
    raise InputError(f'--config={config_file}: has no get_hyper(hyper), which lists the trials; configs/ablation.py has one')
  found = list(module.get_hyper(hyper))
  if not found:
    raise InputError(f'--config={config_file}: its get_hyper returns no trials')
  return found


def _overridden(config: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
  trial_config = config.copy_and_resolve_references()
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
    InputError: a trial sets a field that is not there, to a value of another type, or two trials have one name.
  """
  trials, seen = [], set()
  for item in found:
    overrides = {field: value for field, value in item.items() if field != hyper.NAME}
    label = hyper.name_of(item)
    name = re.sub(r'[^\w.,=+-]+', '_', label).strip('_')
    if name in seen:
      raise InputError(f'get_hyper has two trials of the name {name}')
    seen.add(name)
    row = ','.join(part for part in label.split(',') if part != f'{hyper.SEED}={overrides.get(hyper.SEED)}')
    trials.append(Trial(name, row or 'the config', overrides, _overridden(config, overrides), workdir / name))
  return trials


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
  return ' && '.join(shlex.join(argv) for argv in argvs)


# ---- running

class Board:
  """The state of every trial: a table that is drawn over itself in a terminal, a line for each change elsewhere."""

  def __init__(self, trials: list[Trial], stream: TextIO):
    self._trials, self._stream, self._live = trials, stream, stream.isatty()
    self._width = max(len(trial.name) for trial in trials)
    self._told, self._drawn = {}, 0

  def _line(self, trial: Trial, state: str) -> str:
    text = f'{trial.name:<{self._width}}  {state:<8}'
    if state == WAITING:
      return text
    step, eta, score = progress(trial)
    text += f'  step {step:>6}/{trial.config.train.num_steps}'
    if score is not None:
      text += f'  psnr_lip_val {score:.2f} dB'
    if state == RUNNING and eta is not None and step < trial.config.train.num_steps:
      text += f'  {eta / 60:.1f} min left'
    return f'{text}  see {trial.log}' if state == FAILED else text

  def show(self, states: dict[str, str]) -> None:
    """states: of all trials, by name."""
    counts = ', '.join(f'{count} {state}' for state in (RUNNING, FINISHED, FAILED, WAITING)
                       if (count := list(states.values()).count(state)))
    if not self._live:
      for trial in self._trials:
        if states[trial.name] != self._told.get(trial.name, WAITING):
          print(f'{self._line(trial, states[trial.name])}  ({counts})', file=self._stream, flush=True)
      self._told = dict(states)
      return
    columns, height = shutil.get_terminal_size()
    first = {RUNNING: 0, FAILED: 1, FINISHED: 2, WAITING: 3}
    ordered = sorted(self._trials, key=lambda trial: first[states[trial.name]])
    shown = ordered[:max(height - 3, 1)]
    lines = [self._line(trial, states[trial.name])[:columns - 1] for trial in shown]
    more = f'{len(ordered) - len(shown)} more; ' if len(shown) < len(ordered) else ''
    back = f'\x1b[{self._drawn}F' if self._drawn else ''
    self._stream.write(back + '\x1b[J' + '\n'.join([*lines, more + counts]) + '\n')
    self._stream.flush()
    self._drawn = len(lines) + 1


def run(jobs: dict[str, Job], states: dict[str, str], launcher: Launcher, at_once: int,
        changed: Callable[[str | None], None]) -> None:
  """Runs jobs by trial name, at_once at a time; on any exception, Ctrl-C too, those running are ended first.

  states: of all trials, updated here; changed(name): called when a trial has ended, and with None between.
  """
  waiting, running = list(jobs), {}
  try:
    while waiting or running:
      while waiting and len(running) < at_once:
        name = waiting.pop(0)
        running[name], states[name] = launcher.submit(jobs[name]), RUNNING
      changed(None)
      time.sleep(POLL_S)
      for name, handle in list(running.items()):
        state = launcher.poll(handle)
        if state != RUNNING:
          states[name] = FINISHED if state == DONE else FAILED
          del running[name]
          changed(name)
  finally:
    launcher.cancel(list(running.values()))
  changed(None)


def sweep(trials: list[Trial], jobs: dict[str, Job], workdir: pathlib.Path, launcher: Launcher, at_once: int) -> list[str]:
  """Runs the jobs and writes the results of all trials after each; returns the names of the trials that failed."""
  states = {trial.name: FINISHED if trial.metrics_json.is_file() else WAITING for trial in trials}
  board = Board(trials, sys.stderr)

  def changed(name):
    if name is not None:
      write_results(trials, workdir)
    board.show(states)

  run(jobs, states, launcher, at_once, changed)
  return [name for name, state in states.items() if state == FAILED]


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for the trials and their table')
  flag, judge = flags.FLAGS['config'], flags.FLAGS['judge'].value
  config_file, given = config_flags.get_config_filename(flag), config_flags.get_override_values(flag)
  workdir = pathlib.Path(WORKDIR.value)
  trials = make_trials(load_hyper(config_file), flag.value, workdir)
  chosen = [trial for trial in trials if _ONLY.value in (None, trial.name)]
  if not chosen:
    raise InputError(f'--only={_ONLY.value}: no such trial; one of: {", ".join(trial.name for trial in trials)}')
  left = {trial.name: shell(argvs) for trial in chosen if (argvs := commands(trial, config_file, given, judge))}
  if _DRY_RUN.value:
    print('\n'.join(left.values()))
    return
  load_subject(flag.value.data.path)  # a mistake that all trials would share
  for trial in trials:
    checkpoint.claim_workdir(trial.workdir, trial.config)  # a folder of another sweep is told before any work
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children end with this process
  jobs = {trial.name: Job(left[trial.name], trial.log) for trial in chosen if trial.name in left}
  failed = sweep(trials, jobs, workdir, LAUNCHERS[_LAUNCHER.value](_AT_ONCE.value), _AT_ONCE.value)
  print(write_results(trials, workdir))
  print(f'{workdir}: results.csv, table.md, table.csv, plot.svg; best.py is a config for speech2lip train --config')
  for name in failed:
    print(f'failed: {name}; see {workdir / name / "sweep.log"}, and run it alone with --only={name}', file=sys.stderr)
  if failed:
    sys.exit(1)


if __name__ == '__main__':
  cli.run_verb('sweep', sys.modules[__name__], sys.argv)
