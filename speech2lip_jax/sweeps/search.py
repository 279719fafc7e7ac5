"""A search: Optuna chooses the trials of a space, each by what those before it have come to.

WORKDIR/study.log is Optuna's journal. Any number of processes, on all machines that see the folder, may work on it at one time:
they take turns to choose a trial and to tell what one has come to. A trial whose process was killed is taken up by the next that
looks for one. Trials are judged by the validation frames (`results.SELECTED_BY`), never by the test frames.
"""
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.sweeps import hyper
from speech2lip_jax.sweeps.claims import Claims
from speech2lip_jax.sweeps.launcher import FAILED, RUNNING, Job, Launcher
from speech2lip_jax.sweeps.results import SELECTED_BY, Trial, result, write_results
from speech2lip_jax.sweeps.run import FINISHED, Board, run_taken
from speech2lip_jax.sweeps.trials import searched_name, searched_trial, shell

JOURNAL = 'study.log'
TURN_S = 30  # after which the turn of a process that was killed in it is over
_STUDY, _SPACE = 'search', 'space'  # in the journal: the study's name, and its attribute with the space in words


def _distribution(parameter: hyper.Parameter) -> Any:
  from optuna import distributions
  if isinstance(parameter, hyper.Choice):
    return distributions.CategoricalDistribution(parameter.ends)
  if isinstance(parameter, hyper.Integer):
    return distributions.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
  return distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _without_torn_line(journal: pathlib.Path) -> None:
  """Cuts off what was being appended when the disk was full or the power went; a next line would be appended to it."""
  data = journal.read_bytes() if journal.is_file() else b''
  if not data.endswith(b'\n'):
    with journal.open('ab') as file:
      file.truncate(data.rfind(b'\n') + 1)


class Search:
  """The study of a folder.

  trials: all of it so far, by number. states: theirs, by name.
  """

  def __init__(self, space: hyper.Space, config: ConfigDict, workdir: pathlib.Path):
    """Opens the study, or makes it where there is none.

    Args:
      space: what trials are chosen from.
      config: what they have besides; the choices follow from its seed too.
      workdir: the folder, made where it is not there.

    Raises:
      InputError: Optuna is not installed, or the journal is damaged or of another space.
    """
    try:
      import optuna
      from optuna.storages import journal
    except ImportError as error:
      raise InputError("get_hyper returns a space: a search needs Optuna; pip install 'speech2lip_jax[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workdir.mkdir(parents=True, exist_ok=True)
    self._optuna, self._config, self._workdir, self._claims = optuna, config, workdir, Claims()
    self._distributions = {parameter.field: _distribution(parameter) for parameter in space.parameters}
    self.trials: list[Trial] = []
    self.states: dict[str, str] = {}
    # A file made exclusively: on NFS that holds from machine to machine where the system's locks may not.
    self._lock = journal.JournalFileOpenLock(str(workdir / 'study.turn'), TURN_S)
    path = workdir / JOURNAL
    with self._turn():
      appending = journal.JournalFileOpenLock(str(path), TURN_S)
      _without_torn_line(path)
      try:
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), appending))
        self._study = optuna.create_study(storage=storage, study_name=_STUDY, direction='maximize', load_if_exists=True)
      except (ValueError, KeyError) as error:
        raise InputError(f'{path}: is damaged; copy it back, or give another --workdir') from error
      here = [repr(parameter) for parameter in space.parameters]
      there = self._study.user_attrs.get(_SPACE)
      if there is None:
        self._study.set_user_attr(_SPACE, here)
      elif there != here:
        raise InputError(f'{path}: its trials are of another space, {", ".join(there)}, now {", ".join(here)}; give the same '
                         'one, or another --workdir')
      self._refresh()
    self._failed_before = {trial.name for trial in self.trials if self.states[trial.name] == FAILED}

  @contextlib.contextmanager
  def _turn(self) -> Iterator[None]:
    """While no other process chooses or tells."""
    self._lock.acquire()
    try:
      yield
    finally:
      with contextlib.suppress(RuntimeError):  # it took so long that another process has ended it
        self._lock.release()

  def _refresh(self) -> list[Any]:
    """Brings `trials` and `states` up to date; returns Optuna's trials, in the same order."""
    drawn, states = self._study.get_trials(deepcopy=False), {'COMPLETE': FINISHED, 'FAIL': FAILED}
    self.trials += [searched_trial(frozen.number, frozen.params, self._config, self._workdir)
                    for frozen in drawn[len(self.trials):]]
    self.states.update((trial.name, states.get(frozen.state.name, RUNNING))
                       for trial, frozen in zip(self.trials, drawn, strict=True))
    return drawn

  def take(self, num_trials: int) -> Trial | None:
    """Claims a trial: one that nobody works on any more, else a new one.

    Args:
      num_trials: how many there are to be, besides those that had failed before this process began.

    Returns:
      The trial; None when all are begun.

    Raises:
      InputError: a new trial's folder is there already, of a study that has been deleted.
    """
    with self._turn():
      while True:
        drawn = self._refresh()
        for trial in self.trials:
          if self.states[trial.name] == RUNNING and self._claims.take(trial.workdir):
            return trial
        if len(drawn) - len(self._failed_before) >= num_trials:
          return None
        if (folder := self._workdir / searched_name(len(drawn))).exists():
          raise InputError(f'{folder}: is there already, and of no trial in {JOURNAL}; move it away, or give another --workdir')
        self._study.add_trial(self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING, params=self._choice(drawn), distributions=self._distributions))

  def _choice(self, drawn: list[Any]) -> dict[str, Any]:
    """The values of the trial after those, by field, chosen in memory so that it enters the journal whole.

    Each trial has a sampler of its own: a search that goes on chooses as if it had never stopped, and no two processes the same.
    """
    seed = np.random.SeedSequence([self._config.seed, len(drawn)]).generate_state(1)
    study = self._optuna.create_study(direction='maximize', sampler=self._optuna.samplers.TPESampler(
        seed=int(seed[0]), constant_liar=True))
    study.add_trials(drawn)
    return study.ask(self._distributions).params

  def end(self, trial: Trial) -> None:
    """Tells what a trial has come to, by its files, and lets go of it."""
    with self._turn():
      score = result(trial)[SELECTED_BY] if trial.metrics_json.is_file() else None
      state = self._optuna.trial.TrialState
      self._study.tell(self.trials.index(trial), score, state.FAIL if score is None else state.COMPLETE, skip_if_finished=True)
      self._claims.drop(trial.workdir)
      self._refresh()

  def write_results(self) -> str:
    """Brings `trials` and `states` up to date and writes the results; returns the table, '' where no trial is finished."""
    with self._turn():
      self._refresh()
      return write_results(self.trials, self._workdir)

  def failed(self) -> list[Trial]:
    """The trials that have failed since this process began."""
    return [trial for trial in self.trials if self.states[trial.name] == FAILED and trial.name not in self._failed_before]

  def sign(self) -> None:
    """To be called often while trials run."""
    self._claims.sign()

  def close(self) -> None:
    """Leaves the trials that are not ended to the next process that looks for one."""
    self._claims.close()


def run_search(search: Search, num_trials: int, left: Callable[[Trial], list[list[str]]], launcher: Launcher, at_once: int) -> None:
  """Runs trials until `num_trials` are begun and those of this process have ended.

  left: the commands that a trial still needs.
  """
  board = Board(search.trials, sys.stderr)

  def take() -> tuple[str, Job] | None:
    while trial := search.take(num_trials):
      if argvs := left(trial):
        return trial.name, Job(shell(argvs), trial.log)
      search.end(trial)  # its process was killed before it told
    return None

  def changed(name: str | None) -> None:
    search.sign()
    if name is not None:
      search.end(next(trial for trial in search.trials if trial.name == name))
      search.write_results()
    board.show(search.states)

  try:
    run_taken(take, search.states, launcher, at_once, changed)
  finally:
    search.close()
