"""Where a sweep's trials run, behind one small interface: submit a job, ask how it is, cancel it.

A sweep that is killed leaves no trial behind: each job waits beside its work for the end of a pipe that the sweep alone holds open,
and then kills its own process group.
"""
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple, Protocol

from speech2lip_jax.sweeps.devices import find_devices, pinned

RUNNING, DONE, FAILED = 'running', 'done', 'failed'
GRACE_S = 20.0  # s that a cancelled job has to end by itself, before it is killed
ASKED_AGAIN_S = 1.0  # s after which it is asked again: a signal that comes while a shell forks is lost in dash

# For a POSIX shell: the job is $1, the pipe's reading end its standard input. The shell leads its process group, which is thus $$.
# At SIGTERM, which the whole group is given, shells wait for the command that runs, which may have something to write, and begin no
# other.
_ENDS_WITH_SWEEP = """
exec 3<&0 </dev/null
( trap '' TERM; read -r _ <&3; kill -KILL -$$ ) &
watch=$!
end() { kill -KILL "$watch"; exit "$1"; }
trap 'code=$?; end $((code ? code : 143))' TERM
( trap 'code=$?; exit $((code ? code : 143))' TERM; exec 3<&-; eval "$1" )
end $?
"""


class Job(NamedTuple):
  """A shell command and the file that its output is added to."""
  command: str
  log: pathlib.Path


class Launcher(Protocol):
  """Made for a number of jobs that run at once; `submit` is called no oftener than that before one has ended."""

  def submit(self, job: Job) -> Any:
    """Starts a job and returns its handle."""

  def poll(self, handle: Any) -> str:
    """RUNNING, DONE or FAILED."""

  def cancel(self, handles: list[Any]) -> None:
    """Ends jobs that are running; returns when none of their processes is left."""


class _Process(NamedTuple):
  process: subprocess.Popen
  share: int


class LocalLauncher:
  """Processes of this machine. Each job has its own share of the cores that this process may use, and its own device."""

  def __init__(self, at_once: int, trials_per_device: int = 1):
    self._alive = os.pipe() if sys.platform != 'win32' else None  # (read by the jobs, held open by this process)
    self._devices, self._trials_per_device = find_devices(), trials_per_device
    self._cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    self._shares = [set(self._cpus[i::at_once]) or set(self._cpus) for i in range(at_once)]
    self._free = list(range(at_once))

  def submit(self, job: Job) -> _Process:
    """Starts a job in a process group of its own, so that Ctrl-C in the terminal does not reach it by itself."""
    share = self._free.pop(0)
    with job.log.open('a') as log:
      if self._cpus:
        os.sched_setaffinity(0, self._shares[share])  # children have their parent's, from their first instruction on
      try:
        environment = os.environ | pinned(self._devices, share, self._trials_per_device)
        if self._alive:
          process = subprocess.Popen(['/bin/sh', '-c', _ENDS_WITH_SWEEP, 'sweep', job.command], stdin=self._alive[0], stdout=log,
                                     stderr=log, env=environment, start_new_session=True)
        else:
          process = subprocess.Popen(job.command, shell=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                     creationflags=getattr(subprocess, 'CREATE_NEW_PROCESS_GROUP', 0))
      finally:
        if self._cpus:
          os.sched_setaffinity(0, self._cpus)
    return _Process(process, share)

  def poll(self, handle: _Process) -> str:
    """RUNNING, DONE or FAILED."""
    code = handle.process.poll()
    if code is None:
      return RUNNING
    if handle.share not in self._free:
      self._free.append(handle.share)
    return FAILED if code else DONE

  def cancel(self, handles: list[_Process]) -> None:
    """Ends the jobs' process groups, and kills what is left after GRACE_S; SIGINT would pass by a sweep begun with `&`."""
    for handle in handles:
      _end_group(handle.process, at_once=False)
    deadline = time.monotonic() + GRACE_S
    for handle in handles:
      while handle.process.poll() is None and time.monotonic() < deadline:
        try:
          handle.process.wait(ASKED_AGAIN_S)
        except subprocess.TimeoutExpired:
          _end_group(handle.process, at_once=False)
      _end_group(handle.process, at_once=True)
      handle.process.wait()
      self.poll(handle)


def _end_group(process: subprocess.Popen, at_once: bool) -> None:
  """Asks a job's processes to end, or kills them."""
  if sys.platform == 'win32':
    if at_once:
      subprocess.run(['taskkill', '/F', '/T', '/PID', str(process.pid)], capture_output=True, check=False)
    else:
      process.send_signal(signal.CTRL_BREAK_EVENT)
    return
  try:
    os.killpg(process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
  except ProcessLookupError:
    pass  # it has ended
