"""Several processes at one piece of work, on one or many machines: they find each other, and none outlives another.

`jax.distributed` connects them. What it leaves to a program is here: a process that waits for others in vain, or whose peer has
died, says so in one line and ends within 30 seconds, where it would hang in the next collective operation.
"""
import contextlib
import ctypes
import io
import itertools
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import COORDINATOR, DISTRIBUTED, NUM_PROCESSES, PROCESS_ID, START_TIMEOUT

STOPPED, LOST_PEER = 75, 76  # exit statuses: all agreed to stop, the same command goes on; another process is gone
HEARTBEAT_S = 20  # a process that has not been heard of for so long is dead
LOOK_S = 1.0  # from one look at who lives to the next
CONNECT_S = 2.0
VERDICT_S = 23.0  # that a failed process waits to learn whether a peer's death is the reason
END_S = 7 * 86400.0  # that processes wait for slower ones; those that died are not waited for

_Thing = TypeVar('_Thing')


class _Alone(NamedTuple):
  """As much of the state of `jax.distributed` as is read here, of a process without others."""
  process_id: int = 0
  num_processes: int = 1
  client: Any = None


_place: Any = _Alone()
_meetings = itertools.count()  # a barrier's name serves once


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
  global _place
  _place = state
  watch = _Watch(state)
  try:
    yield
    watch.leave()
  except SystemExit as error:
    if error.code == STOPPED:
      watch.leave()
    raise
  except (ValueError, jax.errors.JaxRuntimeError) as error:
    if isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error):  # as operations fail that a dead peer takes part in
      watch.wait()
    raise
  finally:
    watch.stop()
    with contextlib.suppress(Exception):
      jax.distributed.shutdown()


def index() -> int:
  """Which process this is, from 0; unlike `jax.process_index`, it leaves JAX and the devices alone."""
  return _place.process_id


def share(count: int) -> slice:
  """This process's part of `count` things in order."""
  first, stop = (count * i // _place.num_processes for i in (index(), index() + 1))
  return slice(first, stop)


def dealt(things: list[_Thing]) -> list[_Thing]:
  """This process's part of things in any order, dealt out like cards."""
  return things[index()::_place.num_processes]


def meet(name: str) -> None:
  """Returns when all processes have come here, however long that takes."""
  if _place.num_processes > 1:
    _place.client.wait_at_barrier(f'speech2lip_{name}_{next(_meetings)}', int(1000 * END_S))


def gathered(value: Any) -> list[Any]:
  """Every process's value, in the order of the processes, in all of them; what `packed` takes, tuples as lists."""
  import jax
  import numpy as np
  from jax.experimental import multihost_utils
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(packed(value), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([len(data)], np.int32)).ravel()
  rows = multihost_utils.process_allgather(np.pad(data, (0, sizes.max() - len(data))))
  return [unpacked(row[:size].tobytes()) for row, size in zip(rows.reshape(len(sizes), -1), sizes)]


def packed(value: Any) -> bytes:
  """NumPy arrays, numbers, words and None in lists, tuples and dicts with words for keys, as bytes that hold no code."""
  import numpy as np
  arrays: list[np.ndarray] = []

  def plain(part: Any) -> Any:
    if isinstance(part, dict):
      return {'dict': [[name, plain(each)] for name, each in part.items()]}
    if isinstance(part, (list, tuple)):
      return [plain(each) for each in part]
    if isinstance(part, np.ndarray):
      arrays.append(part)
      return {'array': len(arrays) - 1}
    return part.item() if isinstance(part, np.generic) else part

  text, file = json.dumps(plain(value)), io.BytesIO()
  np.savez(file, np.frombuffer(text.encode(), np.uint8), *arrays)
  return file.getvalue()


def unpacked(data: bytes) -> Any:
  """What was `packed`, tuples as lists."""
  import numpy as np
  with np.load(io.BytesIO(data), allow_pickle=False) as parts:
    text, *arrays = [parts[f'arr_{i}'] for i in range(len(parts.files))]

  def whole(part: Any) -> Any:
    if isinstance(part, list):
      return [whole(each) for each in part]
    if isinstance(part, dict):
      return arrays[part['array']] if 'array' in part else {name: whole(each) for name, each in part['dict']}
    return part
  return whole(json.loads(text.tobytes()))


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


def _connection(address: str) -> socket.socket:
  host, _, port = address.rpartition(':')
  return socket.create_connection((host.strip('[]'), int(port)), timeout=CONNECT_S)


def _answers(address: str) -> bool:
  try:
    _connection(address).close()
  except (OSError, ValueError):
    return False
  return True


class _Watch:
  """Threads that end this process when a peer has died. Every process runs them: they meet at each look."""

  def __init__(self, state: Any):
    self._client, self._index, self._count = state.client, state.process_id, state.num_processes
    self._address, self._everyone = state.coordinator_address, list(range(state.num_processes))
    self._is_over = threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()
    if self._index:
      _hold_abort()
      threading.Thread(target=self._listen, daemon=True).start()

  def _look(self) -> None:
    failures = 0
    while not self._is_over.wait(LOOK_S):
      try:
        lost = set(self._everyone) - set(self._client.get_live_nodes(self._everyone))
        if lost:
          self._tell(lost, '')
        failures = 0
      except Exception as error:  # noqa: BLE001  the library's own, of whatever kind: process 0, who keeps the list, does not answer
        failures += 1
        if failures > 1 or not _answers(self._address):
          self._tell({0}, str(error))

  def _listen(self) -> None:
    """Holds a connection to process 0: in the moment that its own breaks, the library aborts this process with a dump."""
    while not self._is_over.wait(LOOK_S):
      with contextlib.suppress(OSError), _connection(self._address) as connection:
        connection.settimeout(None)
        while connection.recv(4096):
          pass
      if not _answers(self._address):  # else the server was tired of a client that says nothing
        self._tell({0}, '')

  def _tell(self, lost: set[int], reason: str) -> None:
    if not self._is_over.is_set():
      names, because = ' and '.join(map(str, sorted(lost))), reason.splitlines()[:1]
      _end(f'process {self._index} of {self._count}: ends, because process {names} ended or cannot be reached; see what it '
           f'printed, then give the same command again{f" ({because[0]})" if because else ""}', LOST_PEER)

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
