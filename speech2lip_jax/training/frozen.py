"""The networks that the losses ask and that are never trained: sync experts and LPIPS."""
import pathlib
import sys
from typing import Any, NamedTuple

import jax

from speech2lip_jax.common import processes, recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.input_pipeline import SyncSampler
from speech2lip_jax.models.lpips import MIN_SIZE as LPIPS_MIN_SIZE
from speech2lip_jax.models.lpips import Perceptual, load_lpips
from speech2lip_jax.sync.expert import listed_folders, open_experts, save_expert, sync_sampler
from speech2lip_jax.sync.train_expert import train_expert
from speech2lip_jax.workdir.run import Run


class Frozen(NamedTuple):
  """expert: `Expert`, `Ensemble`, `SyncNetExpert` or None. lpips: the perceptual network or None, then edges are compared."""
  expert: Any = None
  lpips: Perceptual | None = None


def _own_experts(run: Run, workdir: str) -> list[pathlib.Path]:
  """The folders of the subject's own experts, WORKDIR/expert_0, …; the main process trains those that are not there."""
  folders = [pathlib.Path(workdir, f'expert_{i}') for i in range(run.config.sync.num_own)]
  for i, path in enumerate(folders):
    if jax.process_index() == 0 and not (path / 'expert.json').is_file():
      recipe = recipes.load('expert').get_config().unlock()
      recipe.seed = i
      print(f'training sync expert {i + 1} of {len(folders)} first', file=sys.stderr)
      save_expert(path, train_expert(run.subject, run.split.train, recipe), {'subject': run.subject.folder.name, 'seed': i})
  processes.meet('expert')
  return folders


def check_lpips(run: Run) -> None:
  """Raises InputError where the mouth's window is too small for LPIPS."""
  loss, window = run.config.loss, run.model.geometry.window
  if loss.lpips and loss.perceptual_weight and min(window) < LPIPS_MIN_SIZE:
    raise InputError(f'config.loss.lpips={loss.lpips}: LPIPS needs at least {LPIPS_MIN_SIZE}×{LPIPS_MIN_SIZE} pixels, the '
                     f"subject's mouth window has {window[0]}×{window[1]}; preprocess with a larger --size, or give "
                     "--config.loss.lpips='' for the distance of edges")


def open_frozen(run: Run, workdir: str) -> tuple[Frozen, SyncSampler | None]:
  """Opens the networks and what picks the windows of the sync loss; says which they are.

  Experts of the subject's own (config.sync.expert='own') are trained first, into `workdir`.

  Raises:
    InputError: weights are missing or do not fit, or the window is too small for LPIPS.
  """
  config, expert, sampler = run.config, None, None
  check_lpips(run)
  is_perceptual = bool(config.loss.perceptual_weight or config.loss.lip_perceptual_weight)
  lpips = load_lpips(config.loss.lpips) if config.loss.lpips and is_perceptual else None
  folders: list = listed_folders(config.sync.expert)
  if folders == ['own']:
    folders = _own_experts(run, workdir)
  if folders:
    expert = open_experts(folders, run.subject)
    sampler = sync_sampler(expert, run.subject, run.split.train, config.sync, config.seed)
  if jax.process_index() == 0:
    perceptual = lpips.title if lpips else 'distance of edges (no weights needed; config.loss.lpips is empty)'
    sync = f'{", ".join(map(str, folders))}, from step {config.sync.start_step}' if expert else 'off'
    print(f'perceptual term: {perceptual if is_perceptual else "off"}; sync loss: {sync}', file=sys.stderr)
  return Frozen(expert, lpips), sampler
