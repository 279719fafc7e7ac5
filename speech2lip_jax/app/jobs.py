"""The app's queue: one job at a time, each an ordinary verb in a process of its own, so that stopping and going on are the verb's.

A job is a record FOLDER/jobs/ID.json and what it printed, ID.log. A server that was killed finds its jobs there and goes on.
"""
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

from speech2lip_jax.app.people import People, Person
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.preprocess import consent

QUEUED, RUNNING, DONE, FAILED, CANCELLED = 'queued', 'running', 'done', 'failed', 'cancelled'
OPEN = (QUEUED, RUNNING)
LONG = ('prepare', 'train', 'report')  # minutes; the others take seconds
TITLES = {'prepare': 'prepare the video', 'train': 'train', 'report': 'make the report', 'say': 'preview', 'dub': 'full frame'}
GRACE_S = 60.0  # that a job has to end by itself once it was asked to
_COUNT = re.compile(r'(\d+)/(\d+) ')


@dataclasses.dataclass
class Job:
  """Something to be done for a person. kind: of `TITLES`. value: the consent's text, or the sound's file. message: of a failed one,
  what was wrong. pid: of its process while it runs."""
  id: str
  person: str
  kind: str
  value: str = ''
  state: str = QUEUED
  message: str = ''
  pid: int = 0


@dataclasses.dataclass(frozen=True)
class Verbs:
  """What the verbs are told besides: the recipe's file; size and landmarker as of `preprocess`, or None."""
  recipe: str
  size: int | None = None
  landmarker: str | None = None

  def command(self, job: Job, person: Person) -> list[str]:
    """The verb and the flags of a job."""
    workdir, out = f'--workdir={person.run}', f'--out={person.said / job.id}.mp4'
    if job.kind == 'prepare':
      is_recorded = bool(consent.statements(person.subject))
      given = {'size': self.size, 'landmarker': self.landmarker, 'consent': None if is_recorded else job.value}
      return ['preprocess', f'--video={person.video}', f'--out={person.subject}', '--canonical_scale=0',
              *(f'--{name}={value}' for name, value in given.items() if value is not None)]
    if job.kind == 'train':
      return ['train', f'--config={self.recipe}', workdir, f'--config.data.path={person.subject}']
    if job.kind == 'report':
      return ['evaluate', workdir, f'--out={person.report.parent}']
    if job.kind == 'say':
      return ['render', workdir, f'--audio={job.value}', out]
    return ['dub', workdir, f'--video={person.video}', f'--audio={job.value}', out]


class Queue:
  """All jobs, and the thread that does them."""

  def __init__(self, folder: pathlib.Path, people: People, verbs: Verbs):
    """Those that a server before was stopped at are queued again."""
    self._folder, self._people, self._verbs = folder / 'jobs', people, verbs
    self._folder.mkdir(parents=True, exist_ok=True)
    self._changed, self._is_over = threading.Condition(), False
    self._jobs: dict[str, Job] = {}
    self._process: subprocess.Popen | None = None
    for path in sorted(self._folder.glob('*.json')):
      job = Job(**json.loads(path.read_text(encoding='utf-8')))
      self._jobs[job.id] = job
      if job.state == RUNNING:
        self._set(job, state=QUEUED)
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def add(self, kind: str, person: Person, value: str = '', job_id: str | None = None) -> Job:
    """Queues a job.

    Raises:
      InputError: the person is not that far, or the same is already being done.
    """
    needed = {'prepare': None, 'train': 'prepared'}.get(kind, 'begun')
    order = ('new', 'prepared', 'begun', 'trained')
    if needed and order.index(person.state()) < order.index(needed):
      raise InputError(f'{person.name}: is {person.state()}; ' + ('prepare the video first' if needed == 'prepared' else
                                                                 'train this person first'))
    if kind in LONG and any(job.person == person.name and job.kind == kind for job in self.open()):
      raise InputError(f'{person.name}: “{TITLES[kind]}” is already in the queue')
    job = Job(job_id or new_id(), person.name, kind, value)
    with self._changed:
      self._jobs[job.id] = job
      self._set(job)
    return job

  def find(self, job_id: str) -> Job:
    """A job.

    Raises:
      InputError: there is none of that name.
    """
    try:
      return self._jobs[job_id]
    except KeyError as error:
      raise InputError(f'no job {job_id!r}') from error

  def all(self) -> list[Job]:
    """Every job, oldest first."""
    with self._changed:
      return sorted(self._jobs.values(), key=lambda job: job.id)

  def open(self) -> list[Job]:
    """Those that run or wait, in the order in which they are done."""
    return [job for job in self.all() if job.state in OPEN]

  def cancel(self, job_id: str) -> None:
    """Stops a job, or takes it out of the queue. A training keeps what it has reached, and goes on when it is queued again."""
    job = self.find(job_id)
    with self._changed:
      if job.state in OPEN:
        self._set(job, state=CANCELLED)
    self._end_process(job)

  def close(self) -> None:
    """Stops the work; what runs is taken up by the next server."""
    with self._changed:
      self._is_over = True
      self._changed.notify_all()
    for job in self.open():
      self._end_process(job)
    self._thread.join(GRACE_S)

  def lines(self, job: Job) -> list[str]:
    """What a job has printed."""
    try:
      return self._log(job).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
      return []

  def progress(self, job: Job) -> tuple[float | None, str]:
    """How much of a job is done, 0 … 1 or None where that is not known, and a line about it."""
    if job.kind == 'train' and job.state == RUNNING:
      records = [record for record in self._people.find(job.person).log() if 'time/eta_s' in record]
      done, wanted = self._people.find(job.person).steps()
      if records and wanted:
        step, left_s = records[-1]['step'], records[-1]['time/eta_s']
        return step / wanted, f'step {step} of {wanted}, {left_s:.0f} s left; a checkpoint of step {done} is kept'
    lines = [line.replace(f'{self._folder.parent}{os.sep}', '') for line in self.lines(job)]
    lines = [line for line in lines if line.strip() and not line.startswith('next: ')]
    found = next((found for line in reversed(lines[-3:]) if (found := _COUNT.search(line))), None)
    share = int(found[1]) / max(1, int(found[2])) if found else None
    return share, lines[-1][:160] if lines else 'waiting' if job.state == QUEUED else 'starting'

  def _log(self, job: Job) -> pathlib.Path:
    return self._folder / f'{job.id}.log'

  def _set(self, job: Job, **changes) -> None:
    """Changes a job and its record, and tells who waits."""
    with self._changed:
      for name, value in changes.items():
        setattr(job, name, value)
      write_text(self._folder / f'{job.id}.json', json.dumps(dataclasses.asdict(job)) + '\n')
      self._changed.notify_all()

  def _work(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(lambda: self._is_over or self.open())
        if self._is_over:
          return
        job = self.open()[0]
      try:
        self._run(job)
      except Exception as error:  # noqa: BLE001  the queue outlives it
        self._set(job, state=FAILED, message=f'{type(error).__name__}: {error}', pid=0)

  def _run(self, job: Job) -> None:
    _wait_for_end(job.pid)  # of a server before
    command = command_line(job, self._people.find(job.person), self._verbs)
    with self._changed:
      if job.state != QUEUED or self._is_over:
        return
      with open(self._log(job), 'a', encoding='utf-8') as log:
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                         env=os.environ | {'PYTHONUNBUFFERED': '1'})
      self._set(job, state=RUNNING, pid=self._process.pid)
    code = self._process.wait()
    with contextlib.suppress(OSError, AttributeError):  # Windows has no groups
      os.killpg(self._process.pid, signal.SIGKILL)  # helpers of one that was killed
    with self._changed:
      if job.state == RUNNING and not (self._is_over and code):
        self._set(job, state=FAILED if code else DONE, message=self._reason(job) if code else '', pid=0)

  def _reason(self, job: Job) -> str:
    """What a failed job said last."""
    lines = [line for line in self.lines(job) if line.strip()]
    errors = [line.partition('error: ')[2] for line in lines if ': error: ' in line]
    return errors[-1] if errors else lines[-1][:300] if lines else 'it ended without a word'

  def _end_process(self, job: Job) -> None:
    """Asks the process of a job to end; kills it after `GRACE_S`."""
    process = self._process
    if not process or process.pid != job.pid or process.poll() is not None:
      return
    process.send_signal(signal.SIGTERM)

    def kill() -> None:
      try:
        process.wait(GRACE_S)
      except subprocess.TimeoutExpired:
        process.kill()
    threading.Thread(target=kill, daemon=True).start()


def command_line(job: Job, person: Person, verbs: Verbs) -> list[str]:
  """What a job's process is started with."""
  return [sys.executable, '-m', 'speech2lip_jax.app.child', str(os.getpid()), *verbs.command(job, person)]


def new_id() -> str:
  """A name for a job: the later, the greater."""
  return f'{datetime.datetime.now():%Y%m%d-%H%M%S-%f}'


def _wait_for_end(pid: int) -> None:
  """Returns when a process that a killed server left has ended, after `GRACE_S` at the latest."""
  until = time.monotonic() + GRACE_S
  while pid and time.monotonic() < until:
    try:
      os.kill(pid, 0)
    except OSError:
      return
    time.sleep(0.1)
