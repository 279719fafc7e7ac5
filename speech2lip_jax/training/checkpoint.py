"""Checkpoints in WORKDIR/checkpoints by Orbax: written in the background, atomic; the newest few and the best are kept."""
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.training.state import TrainState

SCORE = 'psnr_lip_val'


class Checkpoints:
  """Saves and restores a `TrainState` (not replicated). Use as a context manager: leaving it waits for writes."""

  def __init__(self, workdir: os.PathLike | str, keep: int = 1):
    score = lambda metrics: metrics[SCORE]
    policy = checkpoint_managers.AnyPreservationPolicy([
        checkpoint_managers.LatestN(keep),
        checkpoint_managers.BestN(get_metric_fn=score, n=1, reverse=False)])
    options = ocp.CheckpointManagerOptions(best_fn=score, best_mode='max', preservation_policy=policy,
                                           enable_async_checkpointing=True)
    self._manager = ocp.CheckpointManager(pathlib.Path(workdir, 'checkpoints').resolve(), options=options)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  def save(self, state: TrainState, score: float) -> None:
    """Starts writing the state; `score` is the validation PSNR that ranks it."""
    host_state = jax.tree.map(np.asarray, state)
    self._manager.save(int(host_state.step), args=ocp.args.StandardSave(host_state._asdict()), metrics={SCORE: score})

  def latest_step(self) -> int | None:
    """The newest complete checkpoint's step, or None."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step of the best checkpoint by validation PSNR, or None."""
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


def claim_workdir(workdir: os.PathLike | str, config: ConfigDict) -> None:
  """Writes the resolved config to WORKDIR/config.json, or checks that the one there is the same.

  Raises:
    InputError: the workdir was made with another config; the message names the first field that differs.
  """
  path = pathlib.Path(workdir, 'config.json')
  text = config.to_json_best_effort(indent=1, sort_keys=True) + '\n'
  if path.is_file():
    there, here = (dict(_flat(c)) for c in (read_config(workdir), config))
    for name in sorted(there.keys() | here.keys()):
      if there.get(name) != here.get(name):
        raise InputError(f'{path}: this workdir was made with config.{name}={there.get(name)!r}, now {here.get(name)!r}; '
                         'give the same config to resume, or another --workdir')
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.json.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)


def read_config(workdir: os.PathLike | str) -> ConfigDict:
  """The config that a workdir was made with; fields that were added since then are at their defaults.

  Raises:
    InputError: the folder is no workdir.
  """
  path = pathlib.Path(workdir, 'config.json')
  if not path.is_file():
    raise InputError(f'{workdir}: not a training workdir (no config.json); make one with: speech2lip train --workdir {workdir}')
  config = ConfigDict(json.loads(path.read_text()))
  for name, value in _flat(recipes.load('default').get_config()):
    section, _, field = name.rpartition('.')
    place = config[section] if section else config
    if field not in place:
      place[field] = value
  return config.lock()


def _flat(config: ConfigDict, prefix: str = ''):
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
