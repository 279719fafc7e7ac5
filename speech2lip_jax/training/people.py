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
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from speech2lip_jax.common import processes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import refusal, write_text
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data.dataset import load_subject, split_frames
from speech2lip_jax.training.loop import Together, Training
from speech2lip_jax.training.preemption import Notice
from speech2lip_jax.workdir import config_file
from speech2lip_jax.workdir.state import TrainState
from speech2lip_jax.workdir.summary import read_log

TABLE, RECORD = 'people.csv', 'person.json'
PEOPLE_AT_ONCE = 8  # on a GPU or TPU chip, which a person's steps leave idle most of the time
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


class _Spent(NamedTuple):
  """Seconds, and those of them in which JAX traced and compiled."""
  seconds: float
  compile_seconds: float

  def __add__(self, other) -> '_Spent':
    return _Spent(self.seconds + other.seconds, self.compile_seconds + other.compile_seconds)


class _Clock:
  """Counts what is spent; what JAX reads from its cache on the disk counts as compiling too."""

  def __init__(self) -> None:
    self._compile_seconds = 0.0
    jax.monitoring.register_event_duration_secs_listener(self._add)

  def _add(self, event: str, duration_secs: float, **_) -> None:
    if event in COMPILING:
      self._compile_seconds += duration_secs

  def now(self) -> _Spent:
    """Since some moment."""
    return _Spent(time.perf_counter(), self._compile_seconds)

  def since(self, begin: _Spent, num_people: int = 1) -> _Spent:
    """Since `begin`, of each of so many people."""
    now = self.now()
    return _Spent((now.seconds - begin.seconds) / num_people, (now.compile_seconds - begin.compile_seconds) / num_people)


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


def write_record(person: Person, spent: _Spent, why: str = '') -> None:
  """Notes what has become of a person; why: it failed, '' if it did not. What was spent is added to that of earlier commands."""
  person.workdir.mkdir(parents=True, exist_ok=True)
  before, log = read_record(person), read_log(person.workdir / 'log.jsonl')
  scores = [line['metric/psnr_lip_val'] for line in log if 'metric/psnr_lip_val' in line]
  step, score = int(max((line['step'] for line in log), default=0)), scores[-1] if scores else None
  state = 'failed' if why else 'trained' if step == person.config.train.num_steps else 'waiting'
  record = Record(state, step, score, before.seconds + spent.seconds, before.compile_seconds + spent.compile_seconds, why)
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
  left, clock = [person for person in people if not is_finished(person)], _Clock()
  begin = clock.now()
  with Notice() as notice, contextlib.ExitStack() as stack:
    trainings = [stack.enter_context(Training(person.config, str(person.workdir), show=False)) for person in left]
    everybody = [Together([training]) for training in trainings]
    newest = everybody[-1].on if everybody else None  # before the first step all networks are alike
    rounds, is_last = 0, False
    bar = Bar(total=people[0].config.train.num_steps, initial=min((each.done for each in everybody), default=0), unit='round')
    while not is_last and (going := [each for each in everybody if not each.is_over]):
      rounds += 1
      is_last = notice.is_for_step(rounds)
      for each in going:
        assert newest is not None
        each.on.states, newest = part_exchanged(each.on.states, newest.states, network), each.on
        each.take_step()
        if is_last or each.is_over:
          each.finish()  # at once: the next one's step takes the network away
        for error in each.failed.values():
          raise error
      bar.update()
    bar.close()
  for person in left:
    write_record(person, clock.since(begin, len(left)))
  print(write_table(people, runs))
  if any(training.stopped_at for training in trainings):
    sys.exit(processes.STOPPED)


class _Group:
  """People of one `Prepared.key`, who wait for their first step or are trained together."""

  def __init__(self) -> None:
    self.people: list[Person] = []
    self.trainings: list[Training] = []
    self.spent: list[_Spent] = []

  def add(self, person: Person, training: Training, spent: _Spent) -> None:
    """training: entered. spent: on entering it."""
    self.people.append(person)
    self.trainings.append(training)
    self.spent.append(spent)

  def run(self, is_to_stop: Callable[[int], bool], slots: int) -> dict[int, InputError | OSError]:
    """Trains them, and leaves their trainings. See `Together`; returns its `failed`."""
    try:
      together = Together(self.trainings, slots)
      together.run(is_to_stop)
    except BaseException:
      if failed := self.leave({}, *sys.exc_info()):  # it is told in words of theirs, such as too little memory
        return failed
      raise
    return self.leave(together.failed)

  def leave(self, failed: dict[int, InputError | OSError], *raised) -> dict[int, InputError | OSError]:
    """Leaves all trainings, those that failed by their error, the others by what was raised, if anything; returns who failed."""
    for row, training in enumerate(self.trainings):
      error = failed.get(row)
      try:
        training.__exit__(*((type(error), error, error.__traceback__) if error else raised or (None, None, None)))
      except (InputError, OSError) as another:
        failed = {row: another} | failed
    return failed


def default_at_once() -> int:
  """How many people take their steps together, if it is not given: on a CPU, which one keeps busy, each by themselves."""
  return 1 if jax.default_backend() == 'cpu' else PEOPLE_AT_ONCE


def train_people(people: Sequence[Person], everybody: Sequence[Person], runs: str, at_once: int = 1) -> None:
  """Trains `people` and writes the table of `everybody`.

  Exits with processes.STOPPED at a notice to stop; the same command goes on with whoever is not finished.

  Args:
    people: to be trained, one after another but for those who can take their steps together.
    everybody: all people of the command.
    runs: the folder of the workdirs.
    at_once: how many people of equal shapes take their steps together, on one device.

  Raises:
    InputError: some failed, a line for each; the others are trained.
  """
  pathlib.Path(runs).mkdir(parents=True, exist_ok=True)
  left = [person for person in people if not is_finished(person)]
  if not left or left[0].config.sync.expert:  # each has an expert of their own, which no other's step may ask
    at_once = 1
  at_once = min(at_once, len(left) or 1)
  clock, told, waiting = _Clock(), list[str](), dict[tuple, _Group]()

  def note(person: Person, spent: _Spent, error: InputError | OSError | None) -> None:
    why = _why(error) if error else ''
    write_record(person, spent, why)
    write_table(everybody, runs)
    if why:
      print(f'{person.name}: {why}', file=sys.stderr)
      told.append(person.name + ': ' + why.splitlines()[0])

  def train(group: _Group, notice: Notice) -> None:
    if len(group.people) > 1:
      print(f'{", ".join(person.name for person in group.people)}, together:', file=sys.stderr)
    begin = clock.now()
    failed = group.run(notice.is_for_step, at_once)
    share = clock.since(begin, len(group.people))
    for row, (person, spent) in enumerate(zip(group.people, group.spent, strict=True)):
      note(person, spent + share, failed.get(row))
    if any(training.stopped_at for training in group.trainings):
      sys.exit(processes.STOPPED)

  with Notice() as notice:
    try:
      for i, person in enumerate(left):
        print(f'{person.name}, {i + 1} of {len(left)}:', file=sys.stderr)
        begin = clock.now()
        training = Training(person.config, str(person.workdir), show=at_once == 1,
                            remedy=f'lower --people_per_device (now {at_once}), then ' if at_once > 1 else '')
        try:
          training.__enter__()
        except (InputError, OSError) as error:
          note(person, clock.since(begin), error)
          continue
        key = training.prepared.key
        waiting.setdefault(key, _Group()).add(person, training, clock.since(begin))
        if len(waiting[key].people) == at_once:
          train(waiting.pop(key), notice)
      while waiting:
        train(waiting.popitem()[1], notice)
    except BaseException:
      for group in waiting.values():
        group.leave({}, *sys.exc_info())
      raise
  print(write_table(everybody, runs))
  if told:
    raise InputError(*told)


def _why(error: InputError | OSError) -> str:
  """The words for a failure. Raises it where nothing but a mistake of the program can be the cause."""
  if isinstance(error, InputError):
    return str(error)
  if (told := refusal(error)) is None:
    raise error
  return told
