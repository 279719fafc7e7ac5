"""Pictures worked on in threads."""
import threading
import time

import pytest

from speech2lip_jax.common import pool


def test_results_come_in_order_and_items_are_taken_a_few_early():
  taken, lock = [], threading.Lock()

  def items():
    for i in range(30):
      taken.append(i)
      yield i

  def work(i):
    time.sleep(0.003 * (i % 3 == 0))
    with lock:
      return i, threading.current_thread().name

  results = pool.mapped(work, items())
  assert not taken, 'nothing is done before it is asked for'
  first = next(results)
  assert first[0] == 0 and 'pictures' in first[1] and len(taken) <= pool.MOST_THREADS + 1
  assert [i for i, _ in results] == list(range(1, 30))


def test_an_exception_of_a_thread_surfaces_and_ends_the_work():
  def work(i):
    if i == 2:
      raise ValueError('two')
    return i

  taken = []
  results = pool.mapped(work, (taken.append(i) or i for i in range(100)))
  assert [next(results), next(results)] == [0, 1]
  with pytest.raises(ValueError, match='two'):
    next(results)
  assert len(taken) < 20
