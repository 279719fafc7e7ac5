"""Several processes at one piece of work, on one or many machines: they find each other, and none outlives another.

`jax.distributed` connects them. What it leaves to a program is here: a process that waits for others in vain, or whose peer has
died, says so in one line and ends within 30 seconds, where it would hang in the next collective operation.
"""
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import COORDINATOR, DISTRIBUTED, NUM_PROCESSES, PROCESS_ID, START_TIMEOUT

STOPPED, LOST_PEER = 75, 76  # exit statuses: all agreed to stop, the same command goes on; another process is gone
HEARTBEAT_S = 10  # a process that has not been heard of for so long is dead
LOOK_S = 1.0  # from one look at who lives to the next
LISTEN_S = 60.0  # of one question to process 0
VERDICT_S = 13.0  # that a failed process waits to learn whether a peer's death is the reason
END_S = 3600.0  # that finished processes wait for slower ones


@contextlib.contextmanager
def joined(can_stop: bool = False) -> Iterator[None]:
  """Runs the block as one of the processes that `--distributed` and its flags name, or alone without them.

  Nothing of JAX may have run before. Leaving it, by its end or by exit status STOPPED, waits for the others.

  Args:
    can_stop: SIGTERM is a notice (`training.preemption`), and not the end.

  Raises:
    InputError: the flags do not say who takes part.
  """
  if not DISTRIBUTED.value:
    yield
    return
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # else the library tells a dead peer in ten lines, beside our one
  import jax
  from jax._src import distributed  # the public module hides its client, which alone knows who lives
  jax.config.update('jax_enable_recoverability', True)  # a peer's death is then an exception, and not SIGABRT
  jax.config.update('jax_enable_preemption_service', can_stop)
  state, limit_s = distributed.global_state, START_TIMEOUT.value
  timer = threading.Timer(limit_s, lambda: _end(_who_is_missing(state, limit_s), 2))
  timer.daemon = True
  timer.start()
  try:
    jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value,
                               initialization_timeout=limit_s + 60, heartbeat_timeout_seconds=HEARTBEAT_S,
                               shutdown_timeout_seconds=HEARTBEAT_S)
  except (ValueError, TypeError) as error:
    raise InputError(f'--distributed: {" ".join(str(error).split())} Give --coordinator_address, --num_processes and '
                     '--process_id, or start it on a cluster that tells them') from error
  finally:
    timer.cancel()
  client, index, count = state.client, state.process_id, state.num_processes
  watch = _Watch(client, index, count)
  try:
    yield
    watch.leave()
  except SystemExit as error:
    if error.code == STOPPED:
      watch.leave()
    raise
  except (InputError, KeyboardInterrupt):
    raise
  except BaseException:
    watch.wait()
    raise
  finally:
    watch.stop()
    with contextlib.suppress(Exception):
      jax.distributed.shutdown()


def share(count: int) -> slice:
  """This process's part of `count` things in order."""
  import jax
  first, stop = (count * i // jax.process_count() for i in (jax.process_index(), jax.process_index() + 1))
  return slice(first, stop)


def meet(name: str) -> None:
  """Returns when all processes have come here."""
  import jax
  from jax.experimental import multihost_utils
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _end(line: str, status: int) -> None:
  """Ends this process from any thread; a thread that hangs in a collective operation could not be joined."""
  print(line, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(status)


def _who_is_missing(state: Any, waited_s: float) -> str:
  address = state.coordinator_address
  who = f'process {state.process_id} of {state.num_processes or NUM_PROCESSES.value}'
  if address and state.process_id and not _answers(address):
    missing = f'nobody answers at {address}, where process 0 should be'
  else:
    missing = f'not all others have come to {address or "process 0"}'
  return (f'speech2lip: error: {who}: {missing}, for {waited_s:.0f} s; start every process, with the same '
          '--coordinator_address and --num_processes, or give a larger --start_timeout')


def _answers(address: str) -> bool:
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), timeout=2.0).close()
  except (OSError, ValueError):
    return False
  return True


class _Watch:
  """Threads that end this process when a peer has died. Every process runs them: they meet at each look."""

  def __init__(self, client: Any, index: int, count: int):
    self._client, self._index, self._count = client, index, count
    self._everyone = list(range(count))
    self._is_over = threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()
    if index:
      _hold_abort()
      threading.Thread(target=self._listen, daemon=True).start()

  def _look(self) -> None:
    while not self._is_over.wait(LOOK_S):
      try:
        lost = set(self._everyone) - set(self._client.get_live_nodes(self._everyone))
      except Exception:  # noqa: BLE001  the library's own, of whatever kind: process 0, who keeps the list, does not answer
        lost = {0}
      if lost:
        self._tell(lost)

  def _listen(self) -> None:
    """Waits on process 0 without a pause: the library aborts this process in the moment that connection breaks."""
    while not self._is_over.is_set():
      started = time.monotonic()
      with contextlib.suppress(Exception):
        self._client.blocking_key_value_get('speech2lip_never', int(1000 * LISTEN_S))
      if time.monotonic() - started < LISTEN_S / 2:
        self._tell({0})

  def _tell(self, lost: set[int]) -> None:
    if not self._is_over.is_set():
      names = ' and '.join(map(str, sorted(lost)))
      _end(f'process {self._index} of {self._count}: ends, because process {names} ended or cannot be reached; see what it '
           'printed, then give the same command again', LOST_PEER)

  def stop(self) -> None:
    """Nobody's end matters any more."""
    self._is_over.set()

  def wait(self) -> None:
    """Returns only if no peer turns out to be dead."""
    self._thread.join(VERDICT_S)

  def leave(self) -> None:
    """Waits until all are here; process 0, whom the others need to leave, goes last."""
    self._client.wait_at_barrier('speech2lip_end', int(1000 * END_S))
    self.stop()
    with contextlib.suppress(Exception):  # by now all work is done
      self._client.wait_at_barrier('speech2lip_nobody_looks', 1000 * HEARTBEAT_S)
      self._thread.join(HEARTBEAT_S)
      if not self._index:
        self._client.get_live_nodes(self._everyone)  # returns when no other is left


def _hold_abort() -> None:
  """Lets abort() wait six seconds, in which another thread can tell the reason and end the process."""
  library = ctypes.CDLL(None)
  library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
  library.signal.restype = ctypes.c_void_p
  library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))  # whose argument is then SIGABRT's number, 6
