"""Many people in one program: each is trained in a workdir of its own, by what is compiled for all of the same rounded shapes.

Nothing is shared between them but compiled functions, and with `--shared audio_net` the audio network. One that fails does not stop
the others. RUNS/people.csv has a line for each person; all processes that train a part of the same people write the same one.
"""
import contextlib
import copy
import csv
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from speech2lip_jax.common import processes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import refusal, write_text
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data.dataset import load_subject, split_frames
from speech2lip_jax.training.loop import train_and_evaluate, training
from speech2lip_jax.training.preemption import Notice
from speech2lip_jax.workdir import config_file
from speech2lip_jax.workdir.state import TrainState
from speech2lip_jax.workdir.summary import read_log

TABLE, RECORD = 'people.csv', 'person.json'
COMPILING = ('/jax/core/compile/jaxpr_trace_duration', '/jax/core/compile/jaxpr_to_mlir_module_duration',
             '/jax/core/compile/backend_compile_duration')


class Person(NamedTuple):
  """One of those to be trained. name: of the subject's folder, and of the workdir."""
  name: str
  config: ConfigDict
  workdir: pathlib.Path


class Record(NamedTuple):
  """What has become of a person, over all commands. state: 'trained', 'failed' or 'waiting'. psnr_lip_val: dB, the last."""
  state: str = 'waiting'
  step: int = 0
  psnr_lip_val: float | None = None
  seconds: float = 0.0
  compile_seconds: float = 0.0
  why: str = ''


class _Compilation:
  """Seconds that JAX has traced and compiled so far; what it reads from its cache on the disk counts too."""

  def __init__(self) -> None:
    self.seconds = 0.0
    jax.monitoring.register_event_duration_secs_listener(self._add)

  def _add(self, event: str, duration_secs: float, **_) -> None:
    if event in COMPILING:
      self.seconds += duration_secs


def listed(value: str) -> list[str]:
  """The subject folders that `--subjects` names: with commas between, or one a line in a file.

  Raises:
    InputError: none is named, or two have the same name.
  """
  lines = pathlib.Path(value).read_text().splitlines() if os.path.isfile(value) else value.split(',')
  subjects = [line.strip() for line in lines if line.strip() and not line.startswith('#')]
  if not subjects:
    raise InputError(f'--subjects={value}: names no subject folder; give some with commas between, or a file with one a line')
  by_name: dict[str, str] = {}
  for subject in subjects:
    name = pathlib.Path(subject).resolve().name
    if by_name.setdefault(name, subject) is not subject:
      raise InputError(f'--subjects: {by_name[name]} and {subject} would both be trained in WORKDIR/{name}; rename one of the '
                       'folders')
  return subjects


def people_of(subjects: Sequence[str], config: ConfigDict, runs: str) -> list[Person]:
  """The people of those subject folders, all looked at before any work begins.

  Raises:
    InputError: a line for each subject that is missing, damaged or too short, or whose workdir was made with another config.
  """
  people, lines = [], []
  for subject in subjects:
    own = copy.deepcopy(config).unlock()
    own.data.path = subject
    person = Person(pathlib.Path(subject).resolve().name, own.lock(), pathlib.Path(runs, pathlib.Path(subject).resolve().name))
    try:
      split_frames(load_subject(subject), own.data)
      config_file.claim_workdir(person.workdir, own, write=False)
    except InputError as error:
      lines += str(error).splitlines()
    people.append(person)
  if lines:
    raise InputError(*lines)
  return people


def read_record(person: Person) -> Record:
  """What WORKDIR/person.json says; of a person that was not trained yet, or where it is damaged, nothing."""
  try:
    return Record(**json.loads((person.workdir / RECORD).read_text()))
  except (OSError, ValueError, TypeError):
    return Record()


def is_finished(person: Person) -> bool:
  """Whether nothing is left to do for a person."""
  record, step = read_record(person), person.config.train.num_steps
  return record.state == 'trained' and record.step == step and (person.workdir / 'checkpoints' / str(step)).is_dir()


def write_record(person: Person, seconds: float, compile_seconds: float, why: str = '') -> None:
  """Notes what has become of a person; why: it failed, '' if it did not. Seconds are added to those of earlier commands."""
  person.workdir.mkdir(parents=True, exist_ok=True)
  before, log = read_record(person), read_log(person.workdir / 'log.jsonl')
  scores = [line['metric/psnr_lip_val'] for line in log if 'metric/psnr_lip_val' in line]
  step, score = int(max((line['step'] for line in log), default=0)), scores[-1] if scores else None
  record = Record('failed' if why else 'trained', step, score, before.seconds + seconds, before.compile_seconds + compile_seconds,
                  why)
  write_text(person.workdir / RECORD, json.dumps(record._asdict()) + '\n')


def write_table(people: Sequence[Person], runs: str) -> str:
  """Writes RUNS/people.csv, a line for each person; returns it as a table to print."""
  file, rows = io.StringIO(), []
  table = csv.writer(file, lineterminator='\n')
  table.writerow(['person', *Record._fields])
  for person in people:
    record = read_record(person)
    score = '' if record.psnr_lip_val is None else f'{record.psnr_lip_val:.2f}'
    rows.append([person.name, record.state, str(record.step), score, f'{record.seconds:.1f}', f'{record.compile_seconds:.1f}'])
    table.writerow([*rows[-1], record.why])
  write_text(pathlib.Path(runs, TABLE), file.getvalue())
  heading = ['person', 'state', 'step', 'psnr_lip_val dB', 'seconds', 'of them compiling']
  sides = [f'{"<" if i < 2 else ">"}{max(map(len, column))}' for i, column in enumerate(zip(heading, *rows))]
  return '\n'.join('  '.join(f'{cell:{side}}' for cell, side in zip(row, sides, strict=True)) for row in [heading, *rows])


def part_exchanged(own: TrainState, other: TrainState, name: str) -> TrainState:
  """The state `own` with the network `name` of another, and with its mean and what the optimizer keeps of it."""
  is_of = lambda path: any(getattr(key, 'key', None) == name for key in path)
  return jax.tree_util.tree_map_with_path(lambda path, mine, theirs: theirs if is_of(path) else mine, own, other)


def train_shared(people: Sequence[Person], runs: str, network: str) -> None:
  """Trains all people at once, a step of each in turn, with one `network` between them; everything else is each one's own.

  Each has a workdir as if trained alone. Exits with processes.STOPPED at a notice to stop, after the same step of all. One that
  fails ends all: the same command goes on from their checkpoints.
  """
  pathlib.Path(runs).mkdir(parents=True, exist_ok=True)
  left, clock, begin = [person for person in people if not is_finished(person)], _Compilation(), time.perf_counter()
  with Notice() as notice:
    is_last_round, stopped = False, False
    trainings = [training(person.config, str(person.workdir), lambda step: is_last_round, show=False) for person in left]
    states = {}
    for i, steps in enumerate(trainings):
      with contextlib.suppress(StopIteration):
        states[i] = next(steps)
    rounds = 0
    bar = Bar(total=people[0].config.train.num_steps, initial=_steps_taken(states), unit='round', show=True)
    newest = states[max(states)] if states else None  # before the first step all are alike
    while newest is not None and states and not stopped:
      rounds += 1
      is_last_round = notice.is_for_step(rounds)
      for i in list(states):
        assert newest is not None
        try:
          newest = states[i] = trainings[i].send(part_exchanged(states[i], newest, network))
        except StopIteration as end:
          del states[i]
          stopped |= bool(end.value)
      if states:
        bar.update()
    bar.close()
  share = len(left) or 1
  for person in left:
    write_record(person, (time.perf_counter() - begin) / share, clock.seconds / share)
  print(write_table(people, runs))
  if stopped:
    sys.exit(processes.STOPPED)


def _steps_taken(states: dict[int, TrainState]) -> int:
  return min((int(state.step[0]) for state in states.values()), default=0)


def train_people(people: Sequence[Person], everybody: Sequence[Person], runs: str) -> None:
  """Trains `people`, one after another, and writes the table of `everybody`.

  Exits with processes.STOPPED at a notice to stop; the same command goes on with whoever is not finished.

  Raises:
    InputError: some failed, a line for each; the others are trained.
  """
  pathlib.Path(runs).mkdir(parents=True, exist_ok=True)
  clock, failed = _Compilation(), []
  with Notice():
    for i, person in enumerate(people):
      if is_finished(person):
        continue
      print(f'{person.name}, {i + 1} of {len(people)}:', file=sys.stderr)
      begin, compiled, why = time.perf_counter(), clock.seconds, ''
      try:
        train_and_evaluate(person.config, str(person.workdir))
      except InputError as error:
        why = str(error)
      except OSError as error:
        if (told := refusal(error)) is None:
          raise
        why = told
      write_record(person, time.perf_counter() - begin, clock.seconds - compiled, why)
      write_table(everybody, runs)
      if why:
        print(f'{person.name}: {why}', file=sys.stderr)
        failed.append(person.name + ': ' + why.splitlines()[0])
  print(write_table(everybody, runs))
  if failed:
    raise InputError(*failed)
