"""Checkpoints in WORKDIR/checkpoints by Orbax: written in the background, atomic; the newest few and the best are kept.

The best has the highest validation PSNR of the latest phase: a checkpoint competes only with those that have trained the same
parts, since one from before Blend-Net, the perceptual distance or the sync loss began would render without what they learn.
Where the perceptual distance trains, PSNR falls by design, and the newest is the best.

Orbax tells of some damage only: of 72 flipped bits in the files of its arrays 12 gave other weights without a word. So the
checksums of all arrays and the metrics are written with the checkpoint, into its metadata, and compared when it is read.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from speech2lip_jax.common import checksums
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import check_room
from speech2lip_jax.workdir import config_file
from speech2lip_jax.workdir.state import TrainState

SCORE, PHASE, NEWNESS = 'psnr_lip_val', 'phase', 'newness'
_OVER_ANY_SCORE = 1000.0  # dB
_OTHER_BYTES = 1e6  # of a checkpoint beside its arrays
_PER_STEP = 1e-4  # of newness; less than the above for ten million steps


def _rank(metrics: dict[str, float]) -> float:
  """Orders checkpoints by phase, then by newness or score. Those of before this was recorded count as of the first phase."""
  return _OVER_ANY_SCORE * metrics.get(PHASE, 0) + metrics.get(NEWNESS, metrics[SCORE])


@contextlib.contextmanager
def _told_by_the_system(folder: pathlib.Path) -> Iterator[None]:
  """What the system refused to TensorStore, in a thread of Orbax, is an OSError as anywhere else."""
  try:
    yield
  except OSError:
    raise
  except Exception as error:
    if not (found := re.search(r"os_error_code='(\d+)'", str(error))):
      raise
    raise OSError(int(found[1]), os.strerror(int(found[1])), str(folder)) from error


class Checkpoints:
  """Saves and restores a `TrainState` (not replicated). Use as a context manager: leaving it waits for writes."""

  def __init__(self, workdir: os.PathLike | str, keep: int = 1, writes: bool = False):
    """Opens WORKDIR/checkpoints, or makes it.

    keep: how many of the newest stay. writes: whether states will be saved, by this process and those that train with it
    alone: what a killed one was writing is removed.

    Raises:
      InputError: what one of them says of itself is damaged.
    """
    policy = checkpoint_managers.AnyPreservationPolicy([
        checkpoint_managers.LatestN(keep),
        checkpoint_managers.BestN(get_metric_fn=_rank, n=1, reverse=False)])
    self._folder, self._writes, process = pathlib.Path(workdir, 'checkpoints').resolve(), writes, jax.process_index()
    self._folder.mkdir(parents=True, exist_ok=True)
    # The state is the same in all processes: the first saves it, by itself, so that none waits for a disk that is full elsewhere.
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process},
                                               barrier_sync_key_prefix=f'process{process}')
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank, best_mode='max', preservation_policy=policy, enable_async_checkpointing=True, create=False,
        cleanup_tmp_directories=writes and not process,
        multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions())
    for step in steps_in(self._folder):
      read_records(self._folder / str(step))
    try:
      self._manager = ocp.CheckpointManager(self._folder, options=options)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
      odd = [step for step in steps_in(self._folder) if _metadata_of(self._folder / str(step)).keys() - _METADATA.keys()]
      told = self._folder / str(odd[0]) if odd else self._folder
      raise InputError(f'{told}: damaged ({" ".join(str(error).split())}); {_REMEDY}') from error

  def __enter__(self) -> 'Checkpoints':
    self._hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = self._unraisable, self._in_thread
    return self

  def __exit__(self, kind, *_) -> None:
    is_whole = False
    try:
      with _told_by_the_system(self._folder):
        self._manager.close()
      is_whole = kind is None
    finally:
      if is_whole:  # else TensorStore goes on for a moment
        sys.unraisablehook, threading.excepthook = self._hooks
      if self._writes and not is_whole and jax.process_index() == 0:
        for unfinished in self._folder.glob('*.orbax-checkpoint-tmp*'):
          shutil.rmtree(unfinished, ignore_errors=True)

  def _unraisable(self, told) -> None:
    """A write that fails leaves others of TensorStore without the loop that waited for them: each would print a traceback."""
    if not (told.exc_type is RuntimeError and str(told.exc_value) == 'Event loop is closed'):
      self._hooks[0](told)

  def _in_thread(self, told) -> None:
    """What the system refuses in a thread of Orbax is raised by the next call of this class."""
    if not (isinstance(told.exc_value, OSError) or 'os_error_code' in str(told.exc_value)):
      self._hooks[1](told)

  def check_room(self, state: TrainState) -> None:
    """Raises InputError where a checkpoint of the state does not fit on the disk."""
    num_bytes = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    check_room(self._folder, num_bytes + _OTHER_BYTES, 'a checkpoint needs')

  def save(self, state: TrainState, score: float, phase: int, by_score: bool = True) -> None:
    """Starts writing the state, in the first process.

    score: its validation PSNR in dB, which ranks it in its phase (`step.Phase.rank`), where not `by_score` its step does.
    """
    if jax.process_index():
      return
    host_state = jax.tree.map(np.asarray, state)
    self.check_room(host_state)
    step, metrics = int(host_state.step), {SCORE: score, PHASE: phase}
    if not by_score:
      metrics[NEWNESS] = _PER_STEP * step
    record = checksums.sealed({'arrays': _digests(host_state._asdict()), 'metrics': metrics})
    with _told_by_the_system(self._folder):
      self._manager.save(step, args=ocp.args.StandardSave(host_state._asdict()), metrics=metrics, custom_metadata=record)

  def wait(self) -> None:
    """Returns when all that was saved is on the disk."""
    with _told_by_the_system(self._folder):
      self._manager.wait_until_finished()

  def save_unscored(self, state: TrainState) -> None:
    """Starts writing the state of a step that was not validated: to go on from, and the best only where there is no other."""
    self.save(state, score=0.0, phase=0)

  def latest_step(self) -> int | None:
    """The newest complete checkpoint's step, or None."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step of the best checkpoint, or None."""
    return self._manager.best_step()

  def restore(self, step: int, like: TrainState) -> TrainState:
    """The state saved at `step`; `like` gives its structure and shapes.

    Raises:
      InputError: the checkpoint is damaged or does not fit the model.
    """
    template = jax.tree.map(np.asarray, like)._asdict()
    return TrainState(**self._restore(step, ocp.args.StandardRestore(template)))

  def restore_weights(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """Those entries of the state saved at `step` that `like` has (shapes or arrays), as NumPy; the rest is not read.

    Raises:
      InputError: the checkpoint is damaged or does not fit the model.
    """
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    return self._restore(step, ocp.args.PyTreeRestore(template, restore_args=restore_args, partial_restore=True))

  def _restore(self, step: int, restore_args):
    try:
      state = self._manager.restore(step, args=restore_args)
    except Exception as error:  # Orbax and TensorStore raise of every kind
      if told := self.damage(step):
        raise InputError(told) from error
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      raise InputError(f'{self._folder}/{step}: does not fit this config and subject ({reason}); use another --workdir') from error
    folder = self._folder / str(step)
    if told := _damage_of(folder, state):
      raise InputError(told)
    known = read_records(folder).get('arrays')
    if known is not None and (new := sorted(_digests(state).keys() - known)):  # Orbax leaves them as they were in the template
      raise InputError(f'{folder}: does not fit this config and subject (it has no {new[0]}); use another --workdir')
    for name, leaf in leaves_by_name(state).items():
      if not np.isfinite(leaf).all():
        raise InputError(f'{folder}: {name} holds numbers that are not finite; {_REMEDY}')
    return state

  def damage(self, step: int) -> str | None:
    """A line on what is wrong with the checkpoint of `step`, all of it read; None where it is whole, as far as is recorded."""
    folder = self._folder / str(step)
    try:
      with ocp.CheckpointManager(self._manager.directory, options=ocp.CheckpointManagerOptions(read_only=True)) as fresh:
        state = fresh.restore(step, args=ocp.args.StandardRestore())  # a manager knows one kind of arguments only
    except Exception as error:  # Orbax and TensorStore raise of every kind
      return f'{folder}: damaged ({(str(error).splitlines() or [type(error).__name__])[0][:200]}); {_REMEDY}'
    return _damage_of(folder, state, are_all=True)


def leaves_by_name(tree: Any) -> dict[str, Any]:
  """The arrays of a state, or of a part of it, by names such as 'params/blend_net/out/kernel'."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


# What Orbax writes about a checkpoint.
_METADATA: dict[str, Any] = {'item_handlers': (dict, str), 'metrics': dict, 'performance_metrics': dict,
                             'init_timestamp_nsecs': int, 'commit_timestamp_nsecs': int, 'custom_metadata': dict}
_REMEDY = ('delete this folder, then the same train command goes on from the checkpoint before it, and render and evaluate take '
           'the best of the others')


def steps_in(folder: pathlib.Path) -> list[int]:
  """The steps of the complete checkpoints in a folder of them."""
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def _metadata_of(folder: pathlib.Path) -> dict[str, Any]:
  return json.loads((folder / '_CHECKPOINT_METADATA').read_text())


def read_records(folder: pathlib.Path) -> dict[str, Any]:
  """What a checkpoint's folder says of itself: 'arrays', their checksums by name, and 'metrics'; {} where it has no checksums.

  Raises:
    InputError: it cannot be read, or the metrics are not those that were saved.
  """
  try:
    metadata = _metadata_of(folder)
    for name, kind in _METADATA.items():
      value = metadata.get(name)
      if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or kind is int and not 0 < value < 2**63):
        raise ValueError(f'its {name} is {value!r:.30}')
    record = checksums.unsealed(metadata.get('custom_metadata') or {})
    metrics = json.loads((folder / 'metrics' / 'metrics').read_text())
    if record and metrics != record['metrics']:
      raise ValueError('its metrics are not those that were saved')
    metrics[SCORE], metrics[PHASE]
    if not isinstance(record.get('arrays', {}), dict):
      raise ValueError('its checksums are of another form')
    return record
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise InputError(f'{folder}: damaged ({" ".join(str(error).split())}); {_REMEDY}') from error


def _digests(tree: Any) -> dict[str, str]:
  """The checksum of every array of a tree, by its place."""
  return {name: checksums.of_array(np.asarray(leaf)) for name, leaf in leaves_by_name(tree).items()}


def _damage_of(folder: pathlib.Path, state: Any, are_all: bool = False) -> str | None:
  """A line on arrays that are not those saved in `folder`. are_all: `state` should be all of them."""
  try:
    recorded = read_records(folder).get('arrays')
  except InputError as error:
    return str(error)
  if recorded is None:
    return None
  found = _digests(state)
  wrong = [name for name, digest in found.items() if recorded.get(name, digest) != digest]
  if are_all:
    wrong += sorted(recorded.keys() - found)
  return f'{folder}: damaged ({len(wrong)} of {len(found)} arrays, {wrong[0]} first); {_REMEDY}' if wrong else None


def damage(workdir: os.PathLike | str) -> Iterator[str]:
  """Lines on what is wrong with a workdir's config and checkpoints, every array read."""
  try:
    config = config_file.read_config(workdir)
    config_file.check_subject(workdir, config.data.path)
  except InputError as error:
    yield from str(error).splitlines()
  folder, whole = pathlib.Path(workdir, 'checkpoints'), True
  for step in steps_in(folder):
    try:
      read_records(folder / str(step))
    except InputError as error:
      whole = False
      yield str(error)
  if whole and steps_in(folder):
    with Checkpoints(workdir) as checkpoints:
      yield from filter(None, map(checkpoints.damage, steps_in(folder)))
