"""The training loop: from the newest checkpoint in a workdir to the last step, of one person or of several together."""
import concurrent.futures
import contextlib
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common import processes
from speech2lip_jax.common.devices import announce, first_of_each_process, memory_explained, shard
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.data.input_pipeline import Batch, TrainBatches, make_resident, prefetch
from speech2lip_jax.sync.syncnet_expert import SyncNetExpert, face_boxes
from speech2lip_jax.training import plan, rounding
from speech2lip_jax.training import step as train_step
from speech2lip_jax.training.beginning import begin, check_init
from speech2lip_jax.training.frozen import check_lpips, open_frozen
from speech2lip_jax.training.on_devices import OnDevices, Prepared
from speech2lip_jax.training.preemption import Notice
from speech2lip_jax.training.validation import Validation
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir.run import open_run
from speech2lip_jax.workdir.state import TrainState
from speech2lip_jax.workdir.summary import Summary


class _WarmSteps:
  """Times steps; those that compile are left out by `restart`."""

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


@functools.cache
def _validator() -> concurrent.futures.ThreadPoolExecutor:
  """The thread that validates while steps are taken, one state after another."""
  return concurrent.futures.ThreadPoolExecutor(1, 'validation')


class _Validated(NamedTuple):
  """A state whose validation was begun. result: of its PSNR in dB and a picture to look at."""
  state: TrainState
  phase: train_step.Phase
  result: concurrent.futures.Future[tuple[float, np.ndarray]]


class Training:
  """One person's training in a workdir: everything that happens on the host.

  A context manager, in which the workdir is this one's alone. Its steps are taken by `Together`.

  Raises:
    InputError: on entering, the config, the subject folder or the workdir does not fit, or another process trains there; later,
      the loss is not finite.
  """
  prepared: Prepared  # until it is placed

  def __init__(self, config: ConfigDict, workdir: str, show: bool = True, remedy: str = ''):
    """workdir: whose newest checkpoint it goes on from. show: progress bars. remedy: what to do first where memory is short,
    'lower …, then '."""
    self.config, self.workdir, self._remedy = config, workdir, remedy
    self._is_main = jax.process_index() == 0
    self._show = show and self._is_main
    self._on: OnDevices | None = None
    self._row, self.stopped_at = 0, 0
    self._validating: _Validated | None = None
    self._held: list[tuple[int, dict[str, Any]]] = []  # to be logged behind the validation that is being made

  def __enter__(self) -> Self:
    with contextlib.ExitStack() as stack:
      self._open(stack)
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *raised) -> bool | None:
    suppressed = self._stack.__exit__(*raised)
    if self.stopped_at and self._is_main and raised[0] is None:
      print(f'{self.workdir}: asked to stop, checkpoint of step {self.stopped_at} written; the same command goes on from it',
            file=sys.stderr)
    return suppressed

  def _open(self, stack: contextlib.ExitStack) -> None:
    config, workdir, train, is_main = self.config, self.workdir, self.config.train, self._is_main
    config_schema.check(config)
    devices = first_of_each_process(plan.num_devices_used(config, jax.device_count(), jax.process_count()))
    run = open_run(config, axis_name=train_step.AXIS)
    check_lpips(run)
    check_init(config)
    announce()
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
    if is_main:
      stack.enter_context(lock(pathlib.Path(workdir), 'training'))
    notes = (config_file.claim_workdir(workdir, config, write=is_main) + plan.what_will_not_happen(config)
             + plan.idle_devices(config, jax.device_count(), len(devices)))
    for line in notes if is_main else []:
      print(line, file=sys.stderr)

    # ---- model, state
    with stage('building the model', show=is_main):
      self._rounded = rounding.Rounded.of(run)
      compiled = self._rounded.compiled(run.features.num_channels, devices)
      state = self._rounded.own_state(jax.device_get(compiled.create(self._rounded.constants)))
    self._schedule = compiled.schedule
    frozen, sampler = open_frozen(run, workdir)
    batches = TrainBatches(run.subject, run.split.train, seed=config.seed, batch_size=train.batch_size,
                           blend_every=train.blend_every, sync=sampler,
                           face_box=face_boxes(run.subject) if isinstance(frozen.expert, SyncNetExpert) else None,
                           num_perceived=config.perceptual.num_frames,
                           num_devices=len(devices), process=jax.process_index(), num_processes=jax.process_count())
    self._validation, self._is_validated = Validation(run, self._rounded), False
    self._checkpoints = stack.enter_context(checkpoint.Checkpoints(workdir, keep=train.keep_checkpoints, writes=True))
    stack.enter_context(memory_explained(
        f'{self._remedy}lower config.train.batch_size (now {train.batch_size}, over {len(devices)} devices), then '
        f'config.train.lip_pixels ({train.lip_pixels}); the same command then goes on from the last checkpoint. Or preprocess at a '
        'smaller --size, and train in another --workdir'))
    self._checkpoints.check_room(state)
    resident = make_resident(run.subject, run.features)
    state, first_step, values = begin(run, self._checkpoints, state, resident.speech)
    self._summary = Summary(workdir, first_step) if is_main else None
    if values:
      self._log(0, values)
    self.prepared = Prepared(compiled, first_step, self._rounded.state(state), self._rounded.resident(resident),
                             self._rounded.constants, frozen, tuple(devices))

    self._make_batch, self._num_local = batches.batch, len(devices) // jax.process_count()
    self._batches = prefetch(self.make_batch, range(first_step, train.num_steps), config.data.prefetch)
    stack.callback(self._batches.close)
    self._bar = Bar(total=train.num_steps, initial=first_step, unit='step', show=self._show, compiles=first_step < train.num_steps)
    self._timer = _WarmSteps(first_step)

  def place(self, on: OnDevices, row: int) -> None:
    """Tells which row of which states this person's is."""
    self._on, self._row = on, row
    del self.prepared  # the devices hold it now

  def make_batch(self, step: int) -> Batch:
    """The batch of any step, with a leading axis of devices."""
    phase = train_step.phase_of_step(step, self.config)
    return shard(self._make_batch(step, with_frames=phase.blend, with_sync=phase.sync, with_perceived=phase.perceptual),
                 self._num_local)

  def next_batch(self, waits: bool) -> Batch:
    """The batch of the next step. waits: whether that step has to wait until it is compiled."""
    if waits:
      self._bar.compiling()
    return next(self._batches)

  def step_taken(self, done: int, has_compiled: bool) -> None:
    """Logs, validates and saves what is due after step `done`."""
    train, on = self.config.train, self._on
    assert on is not None, 'placed by Together'
    if has_compiled:
      self._timer.restart(done)
    self._bar.update()
    if self._validating and self._validating.result.done():
      self._finish_validation()
    if done % train.log_every == 0 or done == train.num_steps:
      values = on.metrics(self._row)
      self._check_finite(values, done)
      self._log(done, values | {'metric/learning_rate': self._schedule(done - 1)} | self._timer.times(done, train.num_steps))
      self._bar.set_postfix(loss=f'{values["loss/total"]:.5f}')
    if done % train.eval_every == 0 or done == train.num_steps:
      self._finish_validation()
      host_state = on.state(self._row)
      own_state = self._rounded.own_state(host_state)
      self._check_finite(checkpoint.leaves_by_name(own_state._asdict()), done)
      if self._is_main:  # the others save nothing
        self._validating = _Validated(own_state, train_step.phase_of_step(done - 1, self.config),
                                      _validator().submit(self._validate, host_state))

  def finish(self, stopped_at: int) -> None:
    """Writes what is left to write. stopped_at: the step after which training was asked to stop, or 0."""
    self._finish_validation()
    self._bar.close()
    if self._summary:
      self._summary.close()
    if stopped_at:
      if stopped_at % self.config.train.eval_every:
        assert self._on is not None
        self._checkpoints.save_unscored(self._rounded.own_state(self._on.state(self._row)))
      self.stopped_at = stopped_at
    elif self._is_main:
      print(f'{self.workdir}: trained to step {self.config.train.num_steps}; best on validation: step '
            f'{self._checkpoints.best_step()}')

  def _validate(self, host_state: TrainState) -> tuple[float, np.ndarray]:
    with stage('first validation', show=self._is_main and not self._is_validated):
      score, self._is_validated = self._validation.psnr_lip(host_state), True
    return score, self._validation.sample(host_state)

  def _finish_validation(self) -> None:
    """Waits for the validation that was begun, if one was, then logs it and saves its state."""
    if not self._validating:
      return
    (state, phase, result), self._validating = self._validating, None
    (score, sample), done = result.result(), int(state.step)
    assert self._summary is not None
    self._log(done, {'metric/psnr_lip_val': score})
    self._summary.image(done, 'test_true_over_rendered', sample)
    whose = '' if self._show else f'{self.workdir}: '
    self._bar.write(f'{whose}step {done}: psnr_lip_val {score:.2f} dB', file=sys.stderr)
    self._checkpoints.save(state, score, phase.rank, by_score=not phase.perceptual)
    held, self._held = self._held, []
    for line in held:
      self._log(*line)

  def _log(self, step: int, values: dict[str, Any]) -> None:
    """In the order of the steps: what comes while a state is being validated waits for it."""
    if self._validating:
      self._held.append((step, values))
    elif self._summary:
      self._summary.scalars(step, values)

  def _check_finite(self, values: dict[str, Any], step: int) -> None:
    """Raises InputError where a value is not finite: nothing of it has reached a checkpoint."""
    bad = [name for name, value in values.items() if not np.isfinite(value).all()]
    if not bad:
      return
    self._finish_validation()
    self._checkpoints.wait()
    good = self._checkpoints.latest_step()
    goes_on = f'goes on from the checkpoint of step {good}' if good else 'begins again'
    told = f'{bad[0]} and {len(bad) - 1} more' if len(bad) > 1 else bad[0]
    raise InputError(f'{self.workdir}: {told}: not a finite number at step {step}; give --config.train.learning_rate below '
                     f'{self.config.train.learning_rate:g}; training then {goes_on}')


class Together:
  """Trainings with one `Prepared.key`, whose steps are taken together. done: the steps taken. failed: why some failed, by row."""

  def __init__(self, trainings: Sequence[Training], slots: int = 1):
    """trainings: entered. slots: places on the device, as of `OnDevices`."""
    prepared = [training.prepared for training in trainings]
    self.on, self.done = OnDevices(prepared, slots), prepared[0].first_step
    self.trainings, self.config = trainings, trainings[0].config
    self.failed: dict[int, InputError | OSError] = {}
    for row, training in enumerate(trainings):
      training.place(self.on, row)
    if plan.compiles_ahead():
      steps = range(self.config.train.num_steps - 1, self.done - 1, -1)
      first_steps = {train_step.phase_of_step(step, self.config): step for step in steps}
      for phase, step in sorted(first_steps.items(), key=lambda item: item[1]):
        self.on.compile(phase, [training.make_batch(step) for training in trainings])

  @property
  def is_over(self) -> bool:
    """Whether no step is left, or nobody to take it."""
    return self.done == self.config.train.num_steps or len(self.failed) == len(self.trainings)

  def take_step(self) -> None:
    """Takes a step of each; one that failed goes on unseen."""
    phase = train_step.phase_of_step(self.done, self.config)
    compiles = not self.on.is_compiled(phase)
    self.on.take_step(phase, [training.next_batch(compiles) for training in self.trainings])
    if compiles:
      self.on.wait()
    self.done += 1
    self._each_left(lambda training: training.step_taken(self.done, compiles))

  def finish(self) -> None:
    """Writes what is left to write, of those that did not fail; where steps are left, they were asked to stop."""
    self._each_left(lambda training: training.finish(self.done % self.config.train.num_steps))

  def run(self, is_to_stop: Callable[[int], bool]) -> None:
    """Takes all steps, and finishes. is_to_stop: whether to stop after that many steps, asked after each."""
    while not self.is_over:
      self.take_step()
      if is_to_stop(self.done):
        break
    self.finish()

  def _each_left(self, act: Callable[[Training], None]) -> None:
    for row, training in enumerate(self.trainings):
      try:
        if row not in self.failed:
          act(training)
      except (InputError, OSError) as error:
        self.failed[row] = error


def train_and_evaluate(config: ConfigDict, workdir: str) -> None:
  """Trains until config.train.num_steps, resuming from the newest checkpoint in workdir; exits STOPPED at a notice to stop.

  Raises:
    InputError: as `Training` does.
  """
  with Notice() as notice:
    with Training(config, workdir) as training:
      together = Together([training])
      together.run(notice.is_for_step)
      for error in together.failed.values():
        raise error
    if training.stopped_at:
      sys.exit(processes.STOPPED)
