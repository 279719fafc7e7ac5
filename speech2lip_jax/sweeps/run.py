"""Runs a sweep's jobs, some at a time, and shows where they are."""
import pathlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from speech2lip_jax.sweeps.launcher import DONE, FAILED, RUNNING, Job, Launcher
from speech2lip_jax.sweeps.results import Trial, progress, write_results

WAITING, FINISHED = 'waiting', 'finished'
POLL_S = 0.5


class Board:
  """The state of every trial: a table that is drawn over itself in a terminal, a line for each change elsewhere.

  trials: may grow.
  """

  def __init__(self, trials: list[Trial], stream: TextIO):
    self._trials, self._stream, self._live = trials, stream, stream.isatty()
    self._told: dict[str, str] = {}
    self._drawn = 0

  def _line(self, trial: Trial, state: str) -> str:
    text = f'{trial.name:<{max(len(other.name) for other in self._trials)}}  {state:<8}'
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
  """`run_taken` of jobs by trial name, in turn."""
  items = iter(jobs.items())
  run_taken(lambda: next(items, None), states, launcher, at_once, changed)


def run_taken(take: Callable[[], tuple[str, Job] | None], states: dict[str, str], launcher: Launcher, at_once: int,
              changed: Callable[[str | None], None]) -> None:
  """Runs jobs, at_once at a time; on any exception, Ctrl-C too, those running are ended first.

  Args:
    take: gives a trial's name and job, or None where nothing is to begin before another trial has ended.
    states: of all trials, updated here.
    launcher: where they run.
    at_once: how many at one time.
    changed: called with the name of a trial when it has ended, and with None between.
  """
  running: dict[str, Any] = {}  # by name, the launcher's handles
  is_more = True
  try:
    while True:
      while is_more and len(running) < at_once:
        if is_more := (taken := take()) is not None:
          name, job = taken
          running[name], states[name] = launcher.submit(job), RUNNING
      if not running:
        break
      changed(None)
      time.sleep(POLL_S)
      for name, handle in list(running.items()):
        state = launcher.poll(handle)
        if state != RUNNING:
          states[name] = FINISHED if state == DONE else FAILED
          del running[name]
          is_more = True
          changed(name)
  finally:
    launcher.cancel(list(running.values()))
  changed(None)


def board_of(trials: list[Trial], workdir: pathlib.Path) -> Callable[[dict[str, str], str | None], None]:
  """What shows states by trial name and, where a trial has ended (its name, else None), writes the results of all."""
  board = Board(trials, sys.stderr)

  def show(states: dict[str, str], ended: str | None) -> None:
    if ended is not None:
      write_results(trials, workdir)
    board.show(states)
  return show


def tell(trials: list[Trial], states: dict[str, str], workdir: pathlib.Path) -> None:
  """Prints where the trials are, writes the results of those that are finished and prints their table."""
  Board(trials, sys.stderr).show(states)
  print(write_results(trials, workdir) or f'{workdir}: no trial is finished yet')


def run_trials(trials: list[Trial], jobs: dict[str, Job], workdir: pathlib.Path, launcher: Launcher, at_once: int) -> list[str]:
  """Runs the jobs and writes the results of all trials after each; returns the names of the trials that failed."""
  states = {trial.name: FINISHED if trial.metrics_json.is_file() else WAITING for trial in trials}
  show = board_of(trials, workdir)
  run(jobs, states, launcher, at_once, lambda name: show(states, name))
  return [name for name, state in states.items() if state == FAILED]
