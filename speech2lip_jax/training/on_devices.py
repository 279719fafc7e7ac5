"""What steps change and read, on the devices: of one person, or of several people stacked."""
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from speech2lip_jax.common import processes
from speech2lip_jax.common.devices import connect, replicate, unreplicate
from speech2lip_jax.data.input_pipeline import Batch, Resident
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.training.frozen import Frozen
from speech2lip_jax.training.rounding import Compiled
from speech2lip_jax.training.step import Phase
from speech2lip_jax.workdir.state import TrainState


class Prepared(NamedTuple):
  """A person ready for the first step that is left, in rounded shapes, on the host.

  devices: those of all processes that are used.
  """
  compiled: Compiled
  first_step: int
  state: TrainState
  resident: Resident
  constants: SubjectConstants
  frozen: Frozen
  devices: tuple[jax.Device, ...]

  @property
  def key(self) -> tuple:
    """Equal for people whose steps can be taken together, unless they have sync experts of their own."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves((self.resident, self.constants))]
    return self.compiled, self.first_step, tuple(shapes)


class OnDevices:
  """The states of people of one `Prepared.key`, and the steps that they take."""

  def __init__(self, people: Sequence[Prepared], slots: int = 1):
    """slots: places for people, at least as many as there are; those left over repeat the last person, so that what is compiled
    serves any number of them."""
    first = people[0]
    self._compiled, self._slots, self._metrics = first.compiled, slots, None
    self._steps: dict[Phase, concurrent.futures.Future[Callable]] = {}
    stacked = [(each.state, each.resident, each.constants) for each in people]
    rows = stacked[0] if slots == 1 else self._stacked(stacked, 0)
    self.states, self._resident, self._constants, self._frozen = replicate((*rows, first.frozen), first.devices)
    if jax.process_count() > 1:
      processes.meet('devices')
      connect(first.devices)

  def _stacked(self, trees: Sequence, axis: int):
    filled = [*trees, *[trees[-1]] * (self._slots - len(trees))]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves], axis), *filled)

  def compile(self, phase: Phase, batches: Sequence[Batch]) -> None:
    """Lets a thread compile the steps of a phase, by batches such as they will have, if that was not begun."""
    if phase not in self._steps:
      self._steps[phase] = self._compiled.step(phase, self._slots, self._arguments(batches))

  def is_compiled(self, phase: Phase) -> bool:
    """Whether a step of that phase need not wait for it."""
    return phase in self._steps and self._steps[phase].done()

  def take_step(self, phase: Phase, batches: Sequence[Batch]) -> None:
    """A step of each person, by their batches with a leading axis of devices."""
    self.compile(phase, batches)
    self.states, self._metrics = self._steps[phase].result()(*self._arguments(batches))

  def _arguments(self, batches: Sequence[Batch]) -> tuple[Any, ...]:
    batch = batches[0] if self._slots == 1 else self._stacked(batches, 1)
    return self.states, batch, self._resident, self._constants, self._frozen

  def wait(self) -> None:
    """Returns when the last step is done."""
    jax.block_until_ready(self._metrics)

  def metrics(self, row: int) -> dict[str, np.ndarray]:
    """Of the last step of a person."""
    return self._of(row, self._metrics)

  def state(self, row: int) -> TrainState:
    """Of a person, in rounded shapes, as NumPy."""
    return self._of(row, self.states)

  def _of(self, row, tree):
    host = unreplicate(tree)
    return host if self._slots == 1 else jax.tree.map(lambda leaf: leaf[row], host)
