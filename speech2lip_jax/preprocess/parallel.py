"""Work over processes with one progress bar.

Processes are spawned, not forked: MediaPipe and JAX threads do not survive a fork.
"""
import concurrent.futures
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable

from speech2lip_jax.common.cores import cores
from speech2lip_jax.common.progress import Bar


def make_pool(num_workers: int | None = None) -> concurrent.futures.ProcessPoolExecutor:
  """A pool of one process per core (or `num_workers`)."""
  return concurrent.futures.ProcessPoolExecutor(
      num_workers or cores(), mp_context=multiprocessing.get_context('spawn'), initializer=_start_worker,
      initargs=(os.getpid(),))


def _start_worker(parent: int) -> None:
  """Silences MediaPipe, which logs to file descriptor 2 whatever one asks (errors still travel back as exceptions)."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
  """Ends this process when its parent was killed: a pool's workers would otherwise wait for work for ever."""
  while os.getppid() == parent:
    time.sleep(1.0)
  os._exit(1)


def run_all(pool: concurrent.futures.Executor, function: Callable[..., int], calls: Iterable[tuple], title: str,
            total: int, done: int = 0) -> None:
  """Runs function(*call) for every call; the bar advances by what each returns.

  Args:
    pool: where to run.
    function: returns how many frames it did.
    calls: argument tuples.
    title: of the progress bar.
    total, done: frames in all, and finished before.
  """
  futures = [pool.submit(function, *call) for call in calls]
  try:
    with Bar(total=total, initial=done, title=title) as bar:
      for future in concurrent.futures.as_completed(futures):
        bar.update(future.result())
  finally:
    for future in futures:
      future.cancel()
