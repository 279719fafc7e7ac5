"""The training loop: from the newest checkpoint in a workdir to the last step."""
import pathlib
import sys
import time

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from speech2lip_jax.common import recipes
from speech2lip_jax.common.devices import memory_explained, replicate, shard, unreplicate
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import Split, Subject, evenly_spaced, load_subject, split_frames
from speech2lip_jax.data.features import open_features
from speech2lip_jax.data.input_pipeline import SyncSampler, TrainBatches, make_resident, prefetch
from speech2lip_jax.gamem import learn_depth
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.models.lpips import MIN_SIZE as LPIPS_MIN_SIZE
from speech2lip_jax.models.lpips import load_lpips
from speech2lip_jax.rendering import trained as trained_run
from speech2lip_jax.sync.expert import listed_folders, open_experts, save_expert, sync_sampler
from speech2lip_jax.sync.syncnet_expert import SyncNetExpert, face_boxes
from speech2lip_jax.sync.train_expert import train_expert
from speech2lip_jax.training import checkpoint
from speech2lip_jax.training import state as train_state
from speech2lip_jax.training import step as train_step
from speech2lip_jax.training.summary import Summary
from speech2lip_jax.training.validation import Validation

BEFORE_SYNC = 0.0  # dB, score of checkpoints from before the sync loss: behind all others


def validate_config(config: ConfigDict, num_devices: int) -> None:
  """Checks what only shows up late otherwise.

  Raises:
    InputError: a value is out of range.
  """
  train = config.train
  unit = num_devices * train.blend_every
  if train.batch_size <= 0 or train.batch_size % unit:
    raise InputError(f'config.train.batch_size={train.batch_size}: must be a multiple of devices × blend_every = '
                     f'{num_devices} × {train.blend_every} = {unit}; give {max(1, -(-train.batch_size // unit)) * unit}')
  if config.sync.expert:
    windows = config.sync.num_windows
    if windows <= 0 or windows % num_devices:
      raise InputError(f'config.sync.num_windows={windows}: must be a multiple of the {num_devices} devices; give '
                       f'{-(-max(windows, 1) // num_devices) * num_devices}')
    if config.sync.num_own < 1:
      raise InputError(f'config.sync.num_own={config.sync.num_own}: must be at least 1')
    if config.sync.max_shift < 2 or config.sync.num_negatives < 0:
      raise InputError(f'config.sync.max_shift={config.sync.max_shift}, num_negatives={config.sync.num_negatives}: '
                       'must be at least 2 and 0')
  trained_run.validate_config(config)
  for name in ('num_steps', 'log_every', 'eval_every', 'keep_checkpoints'):
    if train[name] < 1:
      raise InputError(f'config.train.{name}={train[name]}: must be at least 1')


def with_learned_depth(state: train_state.TrainState, model, constants, subject, split, config, is_main: bool
                       ) -> tuple[train_state.TrainState, dict[str, float]]:
  """The state with D_c learned from the training frames, if it then fits the validation frames better.

  Returns the state and the photometric error (`head_depth.photometric_error`) on validation frames before and after.
  """
  nodes = learn_depth.learn(subject, split.train, constants, model.geometry, config.depth, show_progress=is_main)
  params = state.params | {'canonical_depth': {'log_correction': jax.numpy.asarray(nodes)}}
  val_ids = evenly_spaced(split.val, config.depth.num_frames)
  frames, poses = subject.frames[val_ids], subject.observed_from_canonical[val_ids]
  learned = model.apply({'params': params}, constants, method='depth')
  errors = [learn_depth.photometric_error(depth, model.geometry, constants, frames, poses)
            for depth in (constants.depth_tracked, learned)]
  if errors[1] < errors[0]:
    state = state._replace(params=params, ema_params=jax.tree.map(jax.numpy.copy, params))
  return state, {'metric/head_rms_tracked_depth': errors[0], 'metric/head_rms_learned_depth': errors[1]}


def open_frozen(config: ConfigDict, subject: Subject, split: Split, window: tuple[int, int], workdir: str
                ) -> tuple[train_step.Frozen, SyncSampler | None]:
  """The networks that the losses ask, and what picks the windows of the sync loss; says which they are.

  Experts of the subject's own ('own') are trained first, by the main process, into WORKDIR/expert_0, expert_1, …
  window: (height, width) in pixels of what is blended.

  Raises:
    InputError: weights are missing or do not fit, or the window is too small for LPIPS.
  """
  is_main, expert, sampler = jax.process_index() == 0, None, None
  lpips = load_lpips(config.loss.lpips) if config.loss.lpips and config.loss.perceptual_weight else None
  if lpips and min(window) < LPIPS_MIN_SIZE:
    raise InputError(f'config.loss.lpips={config.loss.lpips}: LPIPS needs at least {LPIPS_MIN_SIZE}×{LPIPS_MIN_SIZE} pixels, the '
                     f"subject's mouth window has {window[0]}×{window[1]}; preprocess with a larger --size, or give "
                     "--config.loss.lpips='' for the distance of edges")
  perceptual = f'LPIPS of {config.loss.lpips}' if lpips else 'distance of edges (no weights needed; config.loss.lpips is empty)'
  folders = listed_folders(config.sync.expert)
  if folders:
    if folders == ['own']:
      folders = [pathlib.Path(workdir, f'expert_{i}') for i in range(config.sync.num_own)]
      for i, path in enumerate(folders):
        if is_main and not (path / 'expert.json').is_file():
          recipe = recipes.load('expert').get_config().unlock()
          recipe.seed = i
          print(f'training sync expert {i + 1} of {len(folders)} first', file=sys.stderr)
          save_expert(path, train_expert(subject, split.train, recipe), {'subject': subject.folder.name, 'seed': i})
      if jax.process_count() > 1:
        multihost_utils.sync_global_devices('expert')
    expert = open_experts(folders, subject)
    sampler = sync_sampler(expert, subject, split.train, config.sync, config.seed)
  if is_main:
    names = ', '.join(map(str, folders))
    print(f'perceptual term: {perceptual if config.loss.perceptual_weight else "off"}; sync loss: '
          f'{f"{names}, from step {config.sync.start_step}" if expert else "off"}', file=sys.stderr)
  return train_step.Frozen(expert, lpips), sampler


def train_and_evaluate(config: ConfigDict, workdir: str) -> None:
  """Trains until config.train.num_steps, resuming from the newest checkpoint in workdir.

  Raises:
    InputError: the config, the subject folder or the workdir does not fit.
    FloatingPointError: the loss is not finite.
  """
  num_devices, train = jax.device_count(), config.train
  validate_config(config, num_devices)
  subject = load_subject(config.data.path)
  split = split_frames(subject, config.data)
  features = open_features(subject, config.audio)
  checkpoint.claim_workdir(workdir, config)

  # ---- model, state
  model = build_model(subject, config, axis_name=train_step.AXIS)
  constants = subject_constants(subject, split.train)
  optimizer, schedule = train_state.make_optimizer(train)
  state = train_state.create_state(model, optimizer, constants, config, features.num_channels)
  frozen, sampler = open_frozen(config, subject, split, model.geometry.window, workdir)
  batches = TrainBatches(subject, split.train, seed=config.seed, batch_size=train.batch_size,
                         blend_every=train.blend_every, sync=sampler,
                         face_box=face_boxes(subject) if isinstance(frozen.expert, SyncNetExpert) else None,
                         num_devices=num_devices, process=jax.process_index(), num_processes=jax.process_count())
  validation = Validation(model, constants, subject, split, features, config)
  is_main = jax.process_index() == 0

  remedy = (f'lower config.train.batch_size (now {train.batch_size}, over {num_devices} devices), then config.train.lip_pixels '
            f'({train.lip_pixels}), or preprocess at a smaller --size; the same command goes on from the last checkpoint')
  with checkpoint.Checkpoints(workdir, keep=train.keep_checkpoints) as checkpoints, memory_explained(remedy):
    # ---- resume
    first_step, depth_metrics = checkpoints.latest_step() or 0, {}
    if first_step:
      state = checkpoints.restore(first_step, state)
      logging.info('continuing from step %d', first_step)
    elif config.depth.num_frames:
      state, depth_metrics = with_learned_depth(state, model, constants, subject, split, config, is_main)
    summary = Summary(workdir, first_step) if is_main else None
    if is_main and not first_step:
      networks = {name: params for name, params in state.params.items() if name != 'canonical_depth'}
      summary.scalars(0, depth_metrics | {'metric/num_parameters': sum(x.size for x in jax.tree.leaves(networks))})
    resident = replicate(make_resident(subject, features))
    state, device_constants, frozen = replicate((state, constants, frozen))
    steps = {phase: train_step.make_train_step(model, optimizer, config, phase) for phase in train_step.PHASES}

    # ---- loop
    def make(step):
      phase = train_step.phase_of_step(step, config)
      return shard(batches.batch(step, with_frames='blend' in phase, with_sync='sync' in phase))

    bar = tqdm(total=train.num_steps, initial=first_step, unit='step', disable=not is_main, dynamic_ncols=True)
    logged_at, logged_step = time.perf_counter(), first_step
    for step, batch in zip(range(first_step, train.num_steps),
                           prefetch(make, range(first_step, train.num_steps), config.data.prefetch), strict=True):
      state, metrics = steps[train_step.phase_of_step(step, config)](state, batch, resident, device_constants, frozen)
      done = step + 1
      bar.update()
      if done % train.log_every == 0 or done == train.num_steps:
        values = unreplicate(metrics)
        if not np.isfinite(values['loss/total']):
          raise FloatingPointError(f'step {done}: loss is {values["loss/total"]}; lower config.train.learning_rate '
                                   f'and start again from the last checkpoint in {workdir}')
        now = time.perf_counter()
        seconds = (now - logged_at) / (done - logged_step)
        logged_at, logged_step = now, done
        if is_main:
          summary.scalars(done, values | {'metric/learning_rate': schedule(step), 'time/step_s': seconds,
                                          'time/eta_s': seconds * (train.num_steps - done)})
          bar.set_postfix(loss=f'{values["loss/total"]:.5f}')
      if done % train.eval_every == 0 or done == train.num_steps:
        host_state = unreplicate(state)
        score = validation.psnr_lip(host_state)
        if is_main:
          summary.scalars(done, {'metric/psnr_lip_val': score})
          summary.image(done, 'test_true_over_rendered', validation.sample(host_state))
          bar.write(f'step {done}: psnr_lip_val {score:.2f} dB', file=sys.stderr)
        # What was saved before the sync loss began has not learned from it, however near its pictures are.
        checkpoints.save(host_state, score if not config.sync.expert or done > config.sync.start_step else BEFORE_SYNC)
        logged_at, logged_step = time.perf_counter(), done
    bar.close()
    if is_main:
      summary.close()
    print(f'{workdir}: trained to step {train.num_steps}; best on validation: step {checkpoints.best_step()}')
