"""The training step over devices, resuming, and the whole path from a subject folder to an mp4 and metrics."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import av
import jax
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common import devices
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import default, smoke
from speech2lip_jax.data import dataset, input_pipeline
from speech2lip_jax.data.features import OwnFeatures
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.metrics import names as names_of_metrics
from speech2lip_jax.models.build import build_model
from speech2lip_jax.rendering import trained as trained_run
from speech2lip_jax.rendering.person import Person, open_person
from speech2lip_jax.report import held_out
from speech2lip_jax.report import table as metric_table
from speech2lip_jax.training import loop as training_loop
from speech2lip_jax.training import plan
from speech2lip_jax.training import state as train_state
from speech2lip_jax.training import step as train_step
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir import state as workdir_state
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('train') / 'toy')


def smoke_config(folder, **train_changes):
  """configs/smoke.py sized for the tests' eight devices."""
  config = smoke.get_config().unlock()
  config.data.path = str(folder)
  config.train.update(batch_size=16, blend_every=2, **train_changes)
  return config.lock()


@pytest.fixture(scope='module')
def training(folder, tmp_path_factory):
  """A whole short training over eight devices: its workdir, and what was traced, in order."""
  path = tmp_path_factory.mktemp('run')
  traced, make_loss = [], train_step.make_loss

  def counted(*arguments):
    loss = make_loss(*arguments)

    def call(params, batch_stats, batch, *others):
      traced.append('blend' if batch.frames is not None else 'lips' if batch.perceived is None else 'perceptual')
      return loss(params, batch_stats, batch, *others)
    return call

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_step, 'make_loss', counted)
    training_loop.train_and_evaluate(smoke_config(folder), str(path))
  return path, traced


@pytest.fixture(scope='module')
def workdir(training):
  return training[0]


def log_of(workdir):
  """{step: logged values without times}."""
  steps = {}
  for line in (workdir / 'log.jsonl').read_text().splitlines():
    record = json.loads(line)
    steps.setdefault(record['step'], {}).update({k: v for k, v in record.items() if not k.startswith('time/')})
  return steps


def test_steps_that_compile_are_in_no_logged_time(workdir):
  records = [json.loads(line) for line in (workdir / 'log.jsonl').read_text().splitlines()]
  steps = [record for record in records if 'loss/total' in record]
  config = smoke_config('')
  first_of_phases = {1, config.perceptual.start_step + 1, config.train.blend_start_step + 1}
  for name in ('time/step_s', 'time/eta_s'):
    without = {record['step'] for record in steps if name not in record}
    assert without == first_of_phases


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one_with_eight_times_the_batch(folder):
  config = smoke_config(folder)
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config, axis_name=train_step.AXIS)
  optimizer, _ = train_state.make_optimizer(config.train)
  state = train_state.state_creator(model, optimizer, config)(constants)._replace(step=np.int32(5))
  batch = input_pipeline.TrainBatches(subject, split.train, seed=0, batch_size=16, blend_every=2, num_perceived=3,
                                      num_devices=8)
  batch = batch.batch(5, with_frames=True, with_perceived=True)
  resident = input_pipeline.make_resident(subject, OwnFeatures(subject, 'mel', 16, False, split.train))
  step = train_step.make_train_step(model, optimizer, config)

  def take(num_devices):
    copies = lambda tree: jax.tree.map(lambda x: np.broadcast_to(x, (num_devices, *np.shape(x))), tree)
    slices = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)
    new_state, metrics = step(copies(state), slices, copies(resident), copies(constants), train_step.Frozen())
    return jax.tree.map(lambda x: np.asarray(x)[0], (new_state, metrics))

  (one, one_metrics), (eight, eight_metrics) = take(1), take(8)  # of three perceptual frames, five devices have none
  for name in one_metrics:
    np.testing.assert_allclose(eight_metrics[name], one_metrics[name], rtol=1e-5, atol=1e-5, err_msg=name)
  moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), one.params, state.params)
  assert min(jax.tree.leaves(moved['blend_net']['out'])) > 0 and min(jax.tree.leaves(moved['lip_field'])) > 0
  for (path, a), b in zip(jax.tree.leaves_with_path((one.params, one.batch_stats)),
                          jax.tree.leaves((eight.params, eight.batch_stats)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_continuous_sampling_and_time_input_reach_every_weight_of_the_field(folder):
  config = smoke_config(folder).unlock()
  config.field.update(ensemble=True, use_time=True, residual=False)
  config.lock()
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config)
  optimizer, _ = train_state.make_optimizer(config.train)
  state = train_state.state_creator(model, optimizer, config)(constants)
  batch = input_pipeline.TrainBatches(subject, split.train, seed=0, batch_size=16, blend_every=2).batch(0, with_frames=False)
  resident = input_pipeline.make_resident(subject, OwnFeatures(subject, 'mel', 16, False, split.train))
  loss = train_step.make_loss(model, config)
  gradients, _ = jax.jit(jax.grad(loss, has_aux=True))(state.params, state.batch_stats, batch, resident, constants,
                                                       train_step.Frozen(),
                                                       jax.random.key(0))
  for path, gradient in jax.tree.leaves_with_path((gradients['lip_field'], gradients['audio_net'])):
    assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)


def test_each_phase_compiles_once(training):
  _, traced = training
  assert sorted(traced) == ['blend', 'lips', 'perceptual']


@pytest.mark.slow
def test_a_run_that_was_cut_off_continues_with_the_same_values(folder, workdir, tmp_path):
  stop_after = 9

  class Cut(Exception):
    pass

  class CutSummary(training_loop.Summary):
    def scalars(self, step, values):
      super().scalars(step, values)
      if step > stop_after:
        raise Cut

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
    patch.setattr(training_loop, 'Summary', CutSummary)
    training_loop.train_and_evaluate(smoke_config(folder), str(tmp_path))
  with (tmp_path / 'log.jsonl').open('a') as log:
    log.write('{"step": 11, "loss/to')  # a line cut short
  training_loop.train_and_evaluate(smoke_config(folder), str(tmp_path))
  assert log_of(tmp_path) == log_of(workdir)


def test_a_run_that_was_asked_to_stop_writes_a_checkpoint_and_continues_with_the_same_values(folder, workdir, tmp_path, capsys):
  ask_after = 6

  class Asked(training_loop.Training):
    def step_taken(self, done, has_compiled):
      super().step_taken(done, has_compiled)
      if done == ask_after:
        os.kill(os.getpid(), signal.SIGUSR1)

  handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
  with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
    patch.setattr(training_loop, 'Training', Asked)
    training_loop.train_and_evaluate(smoke_config(folder), str(tmp_path))
  assert stopped.value.code == 75 and f'checkpoint of step {ask_after} written' in capsys.readouterr().err
  assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == handlers
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert (checkpoints.latest_step(), checkpoints.best_step()) == (ask_after, 4), 'a step without validation is never the best'
  training_loop.train_and_evaluate(smoke_config(folder), str(tmp_path))
  assert log_of(tmp_path) == log_of(workdir)


def test_asked_to_stop_before_the_first_step_it_exits_at_once(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(training_loop, 'open_frozen', lambda *_: os.kill(os.getpid(), signal.SIGTERM))
  with pytest.raises(SystemExit) as stopped:
    training_loop.train_and_evaluate(smoke_config(folder), str(tmp_path))
  assert stopped.value.code == 75 and 'SIGTERM before the first step' in capsys.readouterr().err


def start_training(folder, workdir, *flags):
  """A process of its own, on one CPU device."""
  command = [sys.executable, '-m', 'speech2lip_jax.train', '--config=configs/smoke.py', f'--workdir={workdir}',
             f'--config.data.path={folder}', *flags]
  environment = os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_killed_process_continues_with_the_same_values(folder, tmp_path):
  assert start_training(folder, tmp_path / 'whole').wait() == 0
  process = start_training(folder, tmp_path / 'killed')
  while not (tmp_path / 'killed/log.jsonl').is_file() or max(log_of(tmp_path / 'killed'), default=0) < 10:
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert start_training(folder, tmp_path / 'killed').wait() == 0
  assert log_of(tmp_path / 'killed') == log_of(tmp_path / 'whole')


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(folder, tmp_path):
  assert start_training(folder, tmp_path / 'one').wait() == 0
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  processes = [start_training(folder, tmp_path / 'two', '--distributed', f'--coordinator_address={address}',
                              '--num_processes=2', f'--process_id={i}') for i in range(2)]
  assert [process.wait() for process in processes] == [0, 0]
  one, two = log_of(tmp_path / 'one'), log_of(tmp_path / 'two')
  assert one.keys() == two.keys()
  for step, values in one.items():
    for name, value in values.items():
      assert two[step][name] == pytest.approx(value, rel=1e-3), (step, name)


def test_another_config_in_a_workdir_is_refused_by_field(folder, workdir):
  with pytest.raises(InputError, match=r'config.train.weight_decay=0.0001, now 0.5'):
    training_loop.train_and_evaluate(smoke_config(folder, weight_decay=0.5), str(workdir))


def test_a_trained_workdir_goes_on_with_what_our_remedies_change(folder, workdir, tmp_path):
  copy = shutil.copytree(workdir, tmp_path / 'run')
  config = smoke_config(folder, num_steps=24, learning_rate=1e-4)
  config.train.batch_size = 32
  lines = config_file.claim_workdir(copy, config)
  assert [line.split('config.')[1].split('=')[0] for line in lines] == [
      'perceptual.start_step', 'sync.start_step', 'train.batch_size', 'train.blend_start_step', 'train.learning_rate',
      'train.num_steps']
  assert config_file.read_config(copy).train.num_steps == 24 and config_file.claim_workdir(copy, config) == []


def test_a_config_that_is_refused_leaves_nothing_that_refuses_the_next_one(folder, tmp_path):
  config = smoke_config(folder).unlock()
  config.audio.network = 'recurrent'
  with pytest.raises(InputError, match='recurrent'):
    training_loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  config.audio.network = 'strided'
  config_file.claim_workdir(tmp_path / 'run', config)
  assert config_file.claim_workdir(tmp_path / 'run', smoke_config(folder)) == [], 'there is no checkpoint to protect yet'
  assert config_file.read_config(tmp_path / 'run').audio.network == 'residual'


def test_the_learning_rate_falls_to_0_or_stays():
  config = default.get_config()
  peak, warmup = config.train.learning_rate, config.train.warmup_steps
  for kind, last in (('cosine', 0), ('constant', peak)):
    config.train.schedule = kind
    _, schedule = train_state.make_optimizer(config.train)
    rates = [schedule(step) for step in (0, warmup, config.train.num_steps)]
    np.testing.assert_allclose(rates, [peak / warmup, peak, last], atol=1e-9)


def test_a_workdir_from_before_a_field_was_there_opens_with_its_default(tmp_path):
  values = json.loads(default.get_config().to_json_best_effort())
  del values['train']['schedule'], values['train']['initial_weights']
  (tmp_path / 'config.json').write_text(json.dumps(values))
  train = config_file.read_config(tmp_path).train
  assert (train.schedule, train.initial_weights) == ('cosine', 'own')


def test_a_workdir_finds_its_subject_from_any_folder(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(folder.parent)
  config = smoke_config(folder.name)
  config_file.claim_workdir(tmp_path, config)
  assert config_file.read_config(tmp_path).data.path == str(folder)


def test_the_best_checkpoint_is_of_the_latest_phase(tmp_path):
  state = workdir_state.TrainState(*[np.int32(0)] * 5)
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    for step, (score, phase) in enumerate([(30.0, 0), (31.0, 0), (29.0, 1), (28.0, 1)], 1):
      checkpoints.save(state._replace(step=np.int32(step)), score, phase)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (3, 4)
    for step, score in ((5, 28.0), (6, 27.0)):
      checkpoints.save(state._replace(step=np.int32(step)), score, 2, by_score=False)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.best_step() == 6, 'PSNR falls where lips grow sharper'


def test_phases_begin_at_shares_of_the_steps_and_what_is_not_reached_is_said():
  config = default.get_config()
  assert (config.train.blend_start_step, config.sync.start_step) == (1500, 375)
  phases = [train_step.phase_of_step(step, config) for step in (0, 1124, 1125, 1499)]
  assert [phase.name for phase in phases] == ['lips', 'lips', 'lips+perceptual', 'lips+perceptual']
  config.train.blend_start_step = 1440
  phases += [train_step.phase_of_step(step, config) for step in (1440, 1499)]
  assert [phase.name for phase in phases[-2:]] == ['blend', 'blend']
  assert [phase.rank for phase in phases] == sorted(phase.rank for phase in phases)
  config = default.get_config()
  config.train.num_steps = 1100
  assert (config.train.blend_start_step, config.sync.start_step) == (1100, 275)
  assert ['Blend-Net: off' in line for line in plan.what_will_not_happen(config)] == [True]
  config.train.blend_start_step = 1000
  assert plan.what_will_not_happen(config) == []
  config.train.blend_start_step = 1100
  config.sync.update(expert='own', start_step=2000)
  blend, sync = plan.what_will_not_happen(config)
  assert 'Blend-Net: off' in blend and '1100' in blend and 'sync.start_step=2000' in sync


def test_a_batch_without_whole_shares_of_composed_frames_is_refused(folder, tmp_path):
  with pytest.raises(InputError, match='batch_size=16: must be a multiple of train.blend_every=3; give 18'):
    config = smoke_config(folder).unlock()
    config.train.blend_every = 3
    training_loop.train_and_evaluate(config, str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_held_out_frames_are_scored_beside_baselines_and_oracle(workdir, tmp_path):
  trained = trained_run.load_trained(str(workdir), batch_size=2)
  record = held_out.evaluate(trained, tmp_path, workdir=workdir)
  assert record == json.loads((tmp_path / 'metrics.json').read_text())
  assert record['num_frames'] == len(trained.split.test)
  assert set(record['baselines']) == {'truth', 'without_blend_net', 'oracle', *metric_table.BASELINES}
  assert record['sync_conf0'] is None and '--judge' in record['reasons']['sync_conf0']
  assert record['baselines']['oracle']['psnr_lip'] > 45
  assert record['baselines']['oracle']['psnr_lip'] > record['baselines']['mean_lips']['psnr_lip'] + 10
  assert (tmp_path / 'strips.png').is_file()
  nulls = {name for name in names_of_metrics.METRICS if record[name] is None}
  assert nulls == set(record['reasons']) and {'lpips_lip', 'lmd_px', 'sync_conf0'} <= nulls
  assert record['untouched_levels'] == 0 and record['seam_levels'] < 2
  page = (tmp_path / 'report.html').read_text()
  assert all(part in page for part in ('Numbers', 'worst frames', 'Training', 'clip1')), 'the report has its parts'


def test_rendering_any_sound_touches_the_mouth_alone_and_lasts_as_long(workdir, tmp_path):
  trained = trained_run.load_trained(str(workdir), batch_size=2)
  seconds, rate = 5.03, 44100  # longer than the toy's longest clip of 2.4 s
  noise = np.random.default_rng(0).integers(-9000, 9000, (int(seconds * rate), 2)).astype(np.int16)
  wavfile.write(tmp_path / 'speech.wav', rate, noise)
  said = Person(trained, workdir).say(tmp_path / 'speech.wav')
  said.write(tmp_path / 'out.mp4')
  with av.open(str(tmp_path / 'out.mp4')) as container:
    assert sum(1 for _ in container.decode(video=0)) == len(said)
    assert abs(container.duration / av.time_base - seconds) <= 0.04
  ids = trained.split.test[:3]
  windows = dataset.subject_mel_windows(trained.subject, ids, 16)
  height, width = trained.predictor._model.geometry.window
  for frame_id, prediction in zip(ids, trained.predictor.from_speech(ids, windows), strict=True):
    rows, columns = np.nonzero((prediction.rgb_face != trained.subject.frames[frame_id]).any(-1))
    assert 0 < len(rows) and np.ptp(rows) < height and np.ptp(columns) < width
    assert prediction.mask_mouth.any()


def test_held_out_frames_render_with_their_own_sound(workdir, tmp_path):
  person = open_person(workdir, batch_size=2)
  person.held_out().write(tmp_path / 'test.mp4')
  with av.open(str(tmp_path / 'test.mp4')) as container:
    assert abs(container.duration / av.time_base - len(person.trained.split.test) / 25) <= 0.04


def test_a_workdir_without_checkpoint_or_config_is_named(tmp_path, folder):
  with pytest.raises(InputError, match='not a training workdir'):
    trained_run.load_trained(str(tmp_path))


def test_running_out_of_memory_says_what_to_lower():
  with pytest.raises(InputError, match='out of memory; lower --batch_size'), devices.memory_explained('lower --batch_size'):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes')
  with pytest.raises(jax.errors.JaxRuntimeError), devices.memory_explained('lower --batch_size'):
    raise jax.errors.JaxRuntimeError('INTERNAL: something else')
