"""A sweep's trials as one array of SLURM jobs, by submitit; the sweep may leave while they run, and be asked again.

What a trial has come to is read from its own files, since a cluster's accounting may be off: WORKDIR/slurm.json says which job
it belongs to and how its commands ended. Whether that job is still there, `squeue` says. A job that is put back into the queue, by
preemption, at its time limit or by `scontrol requeue`, goes on from the checkpoint that its training wrote when it was told.
"""
import json
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.common.processes import STOPPED
from speech2lip_jax.sweeps.launcher import FAILED, RUNNING
from speech2lip_jax.sweeps.results import Trial
from speech2lip_jax.sweeps.run import FINISHED, WAITING

POLL_S = 2.0
GRACE_S = 60.0  # s that training has to write a checkpoint


class TrialJob:
  """What a job does, as submitit pickles it: a trial's commands, one after another, each in no shell so that signals reach it."""

  def __init__(self) -> None:
    self._process: subprocess.Popen | None = None

  def __call__(self, argvs: list[list[str]], log: pathlib.Path, record: pathlib.Path) -> None:
    """Writes the exit status of the first command that failed, or 0, into `record`.

    Raises:
      RuntimeError: one failed.
    """
    code = 0
    with log.open('a') as output:
      for argv in argvs:
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        code = self._process.wait()
        if code:
          break
    _write(record, status=code)
    if code not in (0, STOPPED):
      raise RuntimeError(f'exit status {code}; see {log}')

  def checkpoint(self, *arguments: Any) -> Any:
    """Called by submitit when SLURM is about to end the job: what is to be submitted again."""
    import submitit
    if self._process and self._process.poll() is None:
      self._process.send_signal(signal.SIGTERM)
      try:
        self._process.wait(GRACE_S)
      except subprocess.TimeoutExpired:
        self._process.kill()
    return submitit.helpers.DelayedSubmission(TrialJob(), *arguments)


def record_of(trial: Trial) -> pathlib.Path:
  """The file that tells a trial's job, and its exit status once it has ended."""
  return trial.workdir / 'slurm.json'


def _read(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return {}


def _write(path: pathlib.Path, **values: Any) -> None:
  write_text(path, json.dumps(_read(path) | values) + '\n')


def parameters(given: Sequence[str]) -> dict[str, Any]:
  """The values of --slurm, NAME=VALUE each, as submitit's `SlurmExecutor` takes them.

  Raises:
    InputError: one has no '='.
  """
  values: dict[str, Any] = {}
  for item in given:
    name, equals, value = item.partition('=')
    if not equals or not name:
      raise InputError(f'--slurm {item}: must be NAME=VALUE, as in --slurm partition=gpu --slurm time=240')
    values[name] = int(value) if value.lstrip('-').isdigit() else value
  return values


def submit(jobs: dict[str, list[list[str]]], trials: dict[str, Trial], folder: pathlib.Path, at_once: int,
           options: dict[str, Any]) -> str:
  """Submits trials, by name with what is left to do for each, as an array; returns its id.

  Args:
    folder: for submitit's own files, on a disk that all nodes see.
    at_once: how many run at one time.
    options: of `parameters`.

  Raises:
    InputError: submitit is not installed, there is no SLURM, or it refuses the options.
  """
  try:
    import submitit
  except ImportError as error:
    raise InputError("--launcher slurm: needs submitit; pip install 'speech2lip_jax[slurm]'") from error
  try:
    executor = submitit.SlurmExecutor(folder=folder.resolve(), max_num_timeout=1000)
    executor.update_parameters(job_name=folder.parent.name, array_parallelism=at_once, **options)
    for name in jobs:
      trials[name].workdir.mkdir(parents=True, exist_ok=True)
    files = [(trials[name].log.resolve(), record_of(trials[name]).resolve()) for name in jobs]
    submitted = executor.map_array(TrialJob(), list(jobs.values()), *map(list, zip(*files)))
  except (RuntimeError, ValueError, TypeError, submitit.core.utils.FailedJobError) as error:
    raise InputError(f'--launcher slurm: {" ".join(str(error).split())}') from error
  for name, job in zip(jobs, submitted, strict=True):
    write_text(record_of(trials[name]), json.dumps({'job': job.job_id}) + '\n')
  return submitted[0].job_id.partition('_')[0]


class Queue(NamedTuple):
  """SLURM's jobs of some trials, by trial name: 'PENDING', 'RUNNING', …; trials without one that is still there are left out."""
  states: dict[str, str]

  @classmethod
  def of(cls, trials: Sequence[Trial]) -> 'Queue':
    """Asks `squeue`.

    Raises:
      InputError: there is no SLURM here.
    """
    job_of = {trial.name: job for trial in trials if (job := _read(record_of(trial)).get('job'))}
    if not job_of:
      return cls({})
    command = ['squeue', '--noheader', '--array', '--format=%i %T', '--jobs', ','.join(job_of.values())]
    for _ in range(30):  # the controller may be away for a minute
      try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
      except FileNotFoundError as error:
        raise InputError('squeue: not found; this machine is no part of a SLURM cluster') from error
      if told.returncode == 0 or 'Invalid job id' in told.stderr:
        break
      time.sleep(POLL_S)
    else:
      raise InputError(f'squeue: {" ".join(told.stderr.split())}; the trials go on, ask again later with --collect')
    state_of_job = dict(line.split() for line in told.stdout.splitlines())
    return cls({name: state_of_job[job] for name, job in job_of.items() if job in state_of_job})


def states_of(trials: Sequence[Trial], queue: Queue) -> dict[str, str]:
  """The state of every trial, by name."""
  states = {}
  for trial in trials:
    in_queue, record = queue.states.get(trial.name), _read(record_of(trial))
    if trial.metrics_json.is_file():
      states[trial.name] = FINISHED
    elif in_queue:
      states[trial.name] = RUNNING if in_queue in ('RUNNING', 'COMPLETING') else WAITING
    else:
      states[trial.name] = FAILED if record and record.get('status') != STOPPED else WAITING
  return states


def follow(trials: Sequence[Trial], show: Callable[[dict[str, str], str | None], None]) -> dict[str, str]:
  """Waits until no job of the trials is left; returns their states. show(states, a trial that has ended since, or None)."""
  before: dict[str, str] = {}
  while True:
    queue = Queue.of(trials)
    states = states_of(trials, queue)
    ended = next((name for name, state in states.items() if state == FINISHED != before.get(name)), None)
    show(states, ended)
    before = states
    if not queue.states:
      return states
    time.sleep(POLL_S)
