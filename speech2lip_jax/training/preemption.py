"""A notice to stop: SIGTERM, or SIGUSR1 or SIGUSR2 (SLURM's --signal, submitit), at any moment and in any process.

Training then goes on to a step that all processes agree on, writes a checkpoint there, and exits with status
`processes.STOPPED`; the same command continues. Before the first step there is nothing to keep, and it exits at once.
"""
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from speech2lip_jax.common.processes import STOPPED

NOTICES = [getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1', 'SIGUSR2') if hasattr(signal, name)]  # Windows has the first


class Notice:
  """A context manager, in which a notice is waited for; handlers are as before when it is left."""

  def __init__(self) -> None:
    self._given, self._is_training = False, False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Notice':
    if threading.current_thread() is threading.main_thread():
      # Of several processes, the coordination service of JAX listens to SIGTERM and tells the others.
      wanted = NOTICES if jax.process_count() == 1 else NOTICES[1:]
      self._before = {number: signal.signal(number, self._take) for number in wanted}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _take(self, number: int, _: FrameType | None) -> None:
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)
    elif not self._is_training:
      print(f'{signal.Signals(number).name} before the first step: nothing is lost; the same command begins again',
            file=sys.stderr)
      sys.exit(STOPPED)
    self._given = True

  def is_for_step(self, step: int) -> bool:
    """Whether training is to stop after `step`; asked after every step, by all processes."""
    self._is_training = True
    return self._given if jax.process_count() == 1 else multihost_utils.reached_preemption_sync_point(step)
