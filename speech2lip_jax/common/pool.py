"""Work on pictures in threads: NumPy, OpenCV and FFmpeg let go of the interpreter while they compute."""
import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from speech2lip_jax.common.cores import cores

MOST_THREADS = 8  # each may hold a few large pictures
_Item = TypeVar('_Item')
_Result = TypeVar('_Result')


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
  return concurrent.futures.ThreadPoolExecutor(min(cores(), MOST_THREADS), 'pictures')


def mapped(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
  """function(item) of each, in the items' order, made by threads while earlier results are used; its exceptions surface here.

  Items are taken by the caller's thread, a few early. The function must not itself wait for `mapped`.
  """
  pending: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
  try:
    for item in items:
      pending.append(_threads().submit(function, item))
      if len(pending) > min(cores(), MOST_THREADS):
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    for future in pending:
      future.cancel()
