"""The training loop: from the newest checkpoint in a workdir to the last step."""
import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common import processes
from speech2lip_jax.common.devices import (
  announce,
  connect,
  first_of_each_process,
  memory_explained,
  most_sharing,
  replicate,
  shard,
  unreplicate,
)
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.data.input_pipeline import TrainBatches, make_resident, prefetch
from speech2lip_jax.sync.syncnet_expert import SyncNetExpert, face_boxes
from speech2lip_jax.training import rounding
from speech2lip_jax.training import step as train_step
from speech2lip_jax.training.beginning import begin, check_init
from speech2lip_jax.training.frozen import check_lpips, open_frozen
from speech2lip_jax.training.preemption import Notice
from speech2lip_jax.training.validation import Validation
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir import state as workdir_state
from speech2lip_jax.workdir.run import Run, open_run
from speech2lip_jax.workdir.summary import Summary


def num_shared(config: ConfigDict) -> dict[str, int]:
  """What every device takes an equal share of in each step: how many there are of it over all devices, by how it is told."""
  train, shared = config.train, {f'config.train.batch_size={config.train.batch_size}': config.train.batch_size}
  if train.blend_start_step < train.num_steps:
    name = f'{train.batch_size} / config.train.blend_every={train.blend_every} composed frames'
    shared[name] = train.batch_size // train.blend_every
  if config.sync.expert:
    shared[f'config.sync.num_windows={config.sync.num_windows}'] = config.sync.num_windows
  return shared


def num_devices_used(config: ConfigDict, num_devices: int, num_processes: int = 1) -> int:
  """The most of `num_devices`, as many in each process, that a step's frames and windows divide by.

  Raises:
    InputError: the processes alone are more than that.
  """
  shared = num_shared(config)
  if count := most_sharing(shared.values(), num_devices, num_processes):
    return count
  odd = [name for name, value in shared.items() if value % num_processes]
  raise InputError(f'{odd[0]}: cannot be shared evenly by {num_processes} processes; give a multiple of {num_processes}, or as '
                   'many processes as divide it')


def idle_devices(config: ConfigDict, num_devices: int, num_used: int) -> list[str]:
  """A line on devices that have no share, if there are any."""
  odd = [name for name, value in num_shared(config).items() if value % num_devices]
  return [f'{num_used} of {num_devices} devices are used: {", ".join(odd)} cannot be shared by more of them evenly'] if odd else []


def what_will_not_happen(config: ConfigDict) -> list[str]:
  """Lines on parts of the recipe that begin only after the last step."""
  lines, steps = [], config.train.num_steps
  if config.train.blend_start_step >= steps:
    lines.append(f'Blend-Net: off (config.train.blend_start_step={config.train.blend_start_step}, the run ends at '
                 f'config.train.num_steps={steps}); frames are composed without it')
  if config.sync.expert and config.sync.start_step >= steps:
    lines.append(f'the sync loss will not be used: it begins at config.sync.start_step={config.sync.start_step}, the run ends at '
                 f'config.train.num_steps={steps}')
  end = min(steps, config.train.blend_start_step)
  if config.loss.lip_perceptual_weight and config.perceptual.start_step >= end:
    lines.append('lips will not be trained by the perceptual distance: that begins at config.perceptual.start_step='
                 f'{config.perceptual.start_step} and ends at step {end}, where Blend-Net or the end comes')
  return lines


class _WarmSteps:
  """Times steps; those that compile and what lies between them, such as a validation, are left out by `restart`."""

  def __init__(self, step: int):
    self.restart(step)

  def restart(self, step: int) -> None:
    """`step` steps are done now."""
    self._since, self._step = time.perf_counter(), step

  def times(self, step: int, num_steps: int) -> dict[str, float]:
    """Seconds a step since the last call and seconds left, by log name; empty where every step since then compiled."""
    count, seconds = step - self._step, time.perf_counter() - self._since
    self.restart(step)
    return {'time/step_s': seconds / count, 'time/eta_s': seconds / count * (num_steps - step)} if count else {}


def _check_finite(values: dict[str, Any], step: int, workdir: str, config: ConfigDict, checkpoints: checkpoint.Checkpoints) -> None:
  """Raises InputError where a value is not finite: nothing of it has reached a checkpoint."""
  bad = [name for name, value in values.items() if not np.isfinite(value).all()]
  if not bad:
    return
  checkpoints.wait()
  good = checkpoints.latest_step()
  goes_on = f'goes on from the checkpoint of step {good}' if good else 'begins again'
  raise InputError(f'{workdir}: {bad[0]}{f" and {len(bad) - 1} more" if len(bad) > 1 else ""}: not a finite number at step {step}; '
                   f'give --config.train.learning_rate below {config.train.learning_rate:g}; training then {goes_on}')


Training = Generator[workdir_state.TrainState, workdir_state.TrainState, int | None]


def train_and_evaluate(config: ConfigDict, workdir: str) -> None:
  """Trains until config.train.num_steps, resuming from the newest checkpoint in workdir; exits STOPPED at a notice to stop.

  Raises:
    InputError: as `training` does.
  """
  with Notice() as notice:
    steps = training(config, workdir, notice.is_for_step)
    try:
      state = next(steps)
      while True:
        state = steps.send(state)
    except StopIteration as end:
      if end.value:
        sys.exit(processes.STOPPED)


def training(config: ConfigDict, workdir: str, is_to_stop: Callable[[int], bool], show: bool = True) -> Training:
  """A training, step by step.

  Args:
    config: the recipe.
    workdir: whose newest checkpoint it goes on from.
    is_to_stop: whether to stop after that many steps, asked after each.
    show: progress bars.

  Yields:
    The state before each step, on the devices in rounded shapes; it takes the step from the state that it is sent. Once more at the
    end, when all is written.

  Returns:
    The step that it stopped after, whose checkpoint is written; None at the end.

  Raises:
    InputError: the config, the subject folder or the workdir does not fit, another process trains there, or the loss is not
      finite.
  """
  is_main = jax.process_index() == 0
  config_schema.check(config)
  num_used = num_devices_used(config, jax.device_count(), jax.process_count())
  run = open_run(config, axis_name=train_step.AXIS)
  check_lpips(run)
  check_init(config)
  announce()
  pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  with lock(pathlib.Path(workdir), 'training') if is_main else contextlib.nullcontext():
    notes = (config_file.claim_workdir(workdir, config, write=is_main) + what_will_not_happen(config)
             + idle_devices(config, jax.device_count(), num_used))
    for line in notes if is_main else []:
      print(line, file=sys.stderr)
    stopped_at = yield from _steps(run, workdir, first_of_each_process(num_used), is_to_stop, show)
  if stopped_at and is_main:
    print(f'{workdir}: asked to stop, checkpoint of step {stopped_at} written; the same command goes on from it', file=sys.stderr)
  return stopped_at


def _steps(run: Run, workdir: str, devices: Sequence[jax.Device], is_to_stop: Callable[[int], bool], show: bool) -> Training:
  """`training` in a workdir that is this run's, on those devices of all processes."""
  config, train = run.config, run.config.train
  num_devices, is_main = len(devices), jax.process_index() == 0

  # ---- model, state
  with stage('building the model', show=is_main):
    rounded = rounding.Rounded.of(run)
    compiled = rounded.compiled(run.features.num_channels, devices)
    state = rounded.own_state(jax.device_get(compiled.create(rounded.constants)))
  frozen, sampler = open_frozen(run, workdir)
  batches = TrainBatches(run.subject, run.split.train, seed=config.seed, batch_size=train.batch_size,
                         blend_every=train.blend_every, sync=sampler,
                         face_box=face_boxes(run.subject) if isinstance(frozen.expert, SyncNetExpert) else None,
                         num_perceived=config.perceptual.num_frames,
                         num_devices=num_devices, process=jax.process_index(), num_processes=jax.process_count())
  validation = Validation(run, rounded)
  remedy = (f'lower config.train.batch_size (now {train.batch_size}, over {num_devices} devices), then config.train.lip_pixels '
            f'({train.lip_pixels}); the same command then goes on from the last checkpoint. Or preprocess at a smaller --size, and '
            'train in another --workdir')
  with checkpoint.Checkpoints(workdir, keep=train.keep_checkpoints, writes=True) as checkpoints, memory_explained(remedy):
    checkpoints.check_room(state)
    resident = make_resident(run.subject, run.features)
    state, first_step, values = begin(run, checkpoints, state, resident.speech)
    summary = Summary(workdir, first_step) if is_main else None
    if summary and values:
      summary.scalars(0, values)
    resident, state, device_constants, frozen = replicate(
        (rounded.resident(resident), rounded.state(state), rounded.constants, frozen), devices)

    # ---- loop
    if jax.process_count() > 1:
      processes.meet('devices')
      connect(devices)

    def make(step):
      phase = train_step.phase_of_step(step, config)
      batch = batches.batch(step, with_frames=phase.blend, with_sync=phase.sync, with_perceived=phase.perceptual)
      return shard(batch, num_devices // jax.process_count())

    bar = Bar(total=train.num_steps, initial=first_step, unit='step', show=is_main and show,
              compiles=first_step < train.num_steps)
    timer, validated = _WarmSteps(first_step), False
    stopped_at = None
    for step, batch in zip(range(first_step, train.num_steps),
                           prefetch(make, range(first_step, train.num_steps), config.data.prefetch), strict=True):
      done, phase = step + 1, train_step.phase_of_step(step, config)
      if compiles := compiled.is_first(phase, resident):
        bar.compiling()
      state = yield state
      state, metrics = compiled.take_step(state, batch, resident, device_constants, frozen)
      if compiles:
        jax.block_until_ready(metrics)
        timer.restart(done)
      bar.update()
      if done % train.log_every == 0 or done == train.num_steps:
        values = unreplicate(metrics)
        _check_finite(values, done, workdir, config, checkpoints)
        times = timer.times(done, train.num_steps)
        if summary:
          summary.scalars(done, values | {'metric/learning_rate': compiled.schedule(step)} | times)
          bar.set_postfix(loss=f'{values["loss/total"]:.5f}')
      if done % train.eval_every == 0 or done == train.num_steps:
        host_state = unreplicate(state)
        own_state = rounded.own_state(host_state)
        _check_finite(checkpoint.leaves_by_name(own_state._asdict()), done, workdir, config, checkpoints)
        with stage('first validation', show=is_main and not validated):
          score, validated = validation.psnr_lip(host_state), True
        if summary:
          summary.scalars(done, {'metric/psnr_lip_val': score})
          summary.image(done, 'test_true_over_rendered', validation.sample(host_state))
          bar.write(f'step {done}: psnr_lip_val {score:.2f} dB', file=sys.stderr)
        checkpoints.save(own_state, score, phase.rank, by_score=not phase.perceptual)
        timer.restart(done)
      if is_to_stop(done) and done < train.num_steps:
        stopped_at = done
        break
    bar.close()
    if summary:
      summary.close()
    if stopped_at:
      if stopped_at % train.eval_every:
        checkpoints.save_unscored(rounded.own_state(unreplicate(state)))
    elif is_main:
      best_step = checkpoints.best_step()
      print(f'{workdir}: trained to step {train.num_steps}; best on validation: step {best_step}')
    yield state
    return stopped_at
