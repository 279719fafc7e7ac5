"""Checkpoints in WORKDIR/checkpoints by Orbax: written in the background, atomic; the newest few and the best are kept.

The best has the highest validation PSNR of the latest phase: a checkpoint competes only with those that have trained the same
parts, since one from before Blend-Net, the perceptual distance or the sync loss began would render without what they learn.
Where the perceptual distance trains, PSNR falls by design, and the newest is the best.
"""
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.workdir.state import TrainState

SCORE, PHASE, NEWNESS = 'psnr_lip_val', 'phase', 'newness'
_OVER_ANY_SCORE = 1000.0  # dB
_PER_STEP = 1e-4  # of newness; less than the above for ten million steps

# What was so before there was a field for it, where today's default is something else.
BEFORE = {'data.val_blocks': 1, 'linear.share': 0.0, 'linear.amplitude': 0.0, 'loss.lip_perceptual_weight': 0.0,
          'field.detail_gain': 1.0, 'compose.jaw': False}

# What may change in a workdir that has checkpoints: where the subject lies, how long and how fast training goes on, its logging,
# the jaw and the detail of real mouths, which are no part of it.
MAY_CHANGE = ('data.path', 'data.prefetch', 'data.num_val_frames', 'compose.jaw', 'field.real_detail', 'train.num_steps',
              'train.batch_size', 'train.lip_pixels', 'train.learning_rate', 'train.schedule', 'train.warmup_steps',
              'train.blend_start_step', 'train.log_every', 'train.eval_every', 'train.keep_checkpoints', 'sync.start_step',
              'sync.num_windows', 'perceptual.start_step', 'perceptual.num_frames')


def _rank(metrics: dict[str, float]) -> float:
  """Orders checkpoints by phase, then by newness or score. Those of before this was recorded count as of the first phase."""
  return _OVER_ANY_SCORE * metrics.get(PHASE, 0) + metrics.get(NEWNESS, metrics[SCORE])


class Checkpoints:
  """Saves and restores a `TrainState` (not replicated). Use as a context manager: leaving it waits for writes."""

  def __init__(self, workdir: os.PathLike | str, keep: int = 1):
    policy = checkpoint_managers.AnyPreservationPolicy([
        checkpoint_managers.LatestN(keep),
        checkpoint_managers.BestN(get_metric_fn=_rank, n=1, reverse=False)])
    folder, process = pathlib.Path(workdir, 'checkpoints').resolve(), jax.process_index()
    folder.mkdir(parents=True, exist_ok=True)
    # The state is the same in all processes: the first saves it, by itself, so that none waits for a disk that is full elsewhere.
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process},
                                               barrier_sync_key_prefix=f'process{process}')
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank, best_mode='max', preservation_policy=policy, enable_async_checkpointing=True, create=False,
        multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions())
    self._manager = ocp.CheckpointManager(folder, options=options)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  def save(self, state: TrainState, score: float, phase: int, by_score: bool = True) -> None:
    """Starts writing the state, in the first process.

    score: its validation PSNR in dB, which ranks it in its phase (`step.Phase.rank`), where not `by_score` its step does.
    """
    if jax.process_index():
      return
    host_state = jax.tree.map(np.asarray, state)
    step, metrics = int(host_state.step), {SCORE: score, PHASE: phase}
    if not by_score:
      metrics[NEWNESS] = _PER_STEP * step
    self._manager.save(step, args=ocp.args.StandardSave(host_state._asdict()), metrics=metrics)

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
      InputError: the checkpoint does not fit the model.
    """
    template = jax.tree.map(np.asarray, like)._asdict()
    return TrainState(**self._restore(step, ocp.args.StandardRestore(template)))

  def restore_weights(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """Those entries of the state saved at `step` that `like` has (shapes or arrays), as NumPy; the rest is not read.

    Raises:
      InputError: the checkpoint does not fit the model.
    """
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    return self._restore(step, ocp.args.PyTreeRestore(template, restore_args=restore_args, partial_restore=True))

  def _restore(self, step: int, restore_args):
    try:
      return self._manager.restore(step, args=restore_args)
    except (ValueError, KeyError, FileNotFoundError) as error:
      reason = str(error).splitlines()[0]
      raise InputError(f'{self._manager.directory}/{step}: does not fit this config and subject ({reason}); '
                       'use another --workdir') from error


def claim_workdir(workdir: os.PathLike | str, config: ConfigDict, write: bool = True, may_change: Collection[str] = MAY_CHANGE
                  ) -> list[str]:
  """Writes the resolved config to WORKDIR/config.json, the subject's path made absolute.

  A workdir without checkpoints takes any config. One with checkpoints keeps its own but for the fields of `may_change`.

  Args:
    workdir: the folder, made where it is not there.
    config: what is to be trained now.
    write: False only checks, for all processes but the first.
    may_change: the fields that may differ from those of the checkpoints.

  Returns:
    A line for each field that has changed.

  Raises:
    InputError: the workdir was made with another config; the message names the first field that differs.
  """
  path, changes = pathlib.Path(workdir, 'config.json'), []
  values = json.loads(config.to_json_best_effort())
  values['data']['path'] = os.path.abspath(values['data']['path'])
  if path.is_file() and has_checkpoints(workdir):
    there, here = dict(_flat(read_config(workdir))), dict(_flat(ConfigDict(values)))
    for name in sorted(there.keys() | here.keys()):
      if there.get(name) == here.get(name):
        continue
      if name not in may_change:
        raise InputError(f'{path}: this workdir was made with config.{name}={there.get(name)!r}, now {here.get(name)!r}; '
                         'give the same config to resume, or another --workdir')
      changes.append(f'{workdir}: goes on with config.{name}={here.get(name)!r}, before {there.get(name)!r}')
  if write:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=1, sort_keys=True) + '\n')
  return changes


def has_checkpoints(workdir: os.PathLike | str) -> bool:
  """Whether a checkpoint of the workdir is complete."""
  folder = pathlib.Path(workdir, 'checkpoints')
  return folder.is_dir() and any(step.name.isdigit() for step in folder.iterdir())


def read_config(workdir: os.PathLike | str) -> ConfigDict:
  """The config that a workdir was made with; fields that were added since then are as they were before (`BEFORE`).

  Raises:
    InputError: the folder is no workdir.
  """
  path = pathlib.Path(workdir, 'config.json')
  if not path.is_file():
    raise InputError(f'{workdir}: not a training workdir (no config.json); make one with: speech2lip train --workdir {workdir}')
  config = ConfigDict(json.loads(path.read_text()))
  for name, value in _flat(recipes.load('default').get_config()):
    section, _, field = name.rpartition('.')
    if section and section not in config:
      config[section] = ConfigDict()
    place = config[section] if section else config
    if field not in place:
      place[field] = BEFORE.get(name, value)
  return config.lock()


def _flat(config: ConfigDict, prefix: str = ''):
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
