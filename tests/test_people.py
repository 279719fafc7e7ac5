"""Many people in one program: each as if alone, with what is compiled for one."""
import csv
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from speech2lip_jax.common import processes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import input_pipeline
from speech2lip_jax.rendering.predictor import Predictor
from speech2lip_jax.training import beginning, frozen, loop, people, plan, preemption, rounding
from speech2lip_jax.training import step as train_step
from speech2lip_jax.workdir import checkpoint
from speech2lip_jax.workdir.run import open_run
from tests.toy_subject import write_toy_subject

BOXES = {'anna': (12, 20), 'ben': (14, 22)}
NUM_STEPS = 4


def config(seed=0):
  recipe = smoke.get_config().unlock()  # (a batch of 11 takes one of the tests' eight devices)
  recipe.train.update(num_steps=NUM_STEPS, blend_start_step=NUM_STEPS, batch_size=11, eval_every=2)
  recipe.seed, recipe.audio.network, recipe.field.depth = seed, 'strided', 1
  recipe.perceptual.start_step, recipe.depth.num_frames = 2, 0
  return recipe.lock()


@pytest.fixture(scope='module')
def subjects(tmp_path_factory):
  home = tmp_path_factory.mktemp('subjects')
  frames = {'anna': (60, 40), 'ben': (62, 40)}
  return [str(write_toy_subject(home / name, clip_frames=frames[name], seed=i, lip_size=box))
          for i, (name, box) in enumerate(BOXES.items())]


@pytest.fixture(scope='module')
def together(subjects, tmp_path_factory):
  """The workdirs of both, trained in one program, and how often a loss was traced."""
  runs = tmp_path_factory.mktemp('together')
  traced, make_loss = [], train_step.make_loss

  def counted(model, *arguments):
    loss = make_loss(model, *arguments)
    return lambda *values: traced.append(model.geometry.lip_size) or loss(*values)

  rounding.forget()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_step, 'make_loss', counted)
    patch.setattr(plan, 'compiles_ahead', lambda: True)  # as on an accelerator
    everybody = people.people_of(subjects, config(), str(runs))
    people.train_people(everybody, everybody, str(runs))
  return runs, traced


def weights(workdir, step=NUM_STEPS):
  import orbax.checkpoint as ocp
  with ocp.CheckpointManager(workdir / 'checkpoints', options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
    return manager.restore(step, args=ocp.args.StandardRestore())


def test_two_people_share_every_compiled_step(together):
  _, traced = together
  assert len(traced) == 2, 'one of the lips, one with the perceptual distance, for both people'
  assert set(traced) == {(16, 32)}


def test_each_of_two_is_as_if_alone(subjects, together, tmp_path):
  runs, _ = together
  alone = config().unlock()
  alone.data.path = subjects[1]
  rounding.forget()
  loop.train_and_evaluate(alone.lock(), str(tmp_path / 'ben'))
  jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / 'ben'), weights(runs / 'ben'))
  values = lambda path: [{name: value for name, value in json.loads(line).items() if not name.startswith('time/')}
                         for line in (path / 'log.jsonl').read_text().splitlines()]
  assert values(tmp_path / 'ben') == values(runs / 'ben')


def test_rounded_shapes_change_neither_the_loss_nor_a_frame(subjects, together):
  runs, _ = together
  recipe = config().unlock()
  recipe.data.path, recipe.train.lip_pixels = subjects[1], 0  # all: else other pixels are drawn
  run = open_run(recipe)
  rounded, resident = rounding.Rounded.of(run), input_pipeline.make_resident(run.subject, run.features)
  with checkpoint.Checkpoints(runs / 'ben') as checkpoints:
    like = rounding.Rounded.of(run).compiled(run.features.num_channels, jax.devices()[:1]).create(rounded.constants)
    state = checkpoints.restore(NUM_STEPS, rounded.own_state(like))
  batch = input_pipeline.TrainBatches(run.subject, run.split.train, seed=0, batch_size=8, blend_every=8).batch(0, with_frames=False)

  def lip_loss(model, state, resident, constants):
    loss = train_step.make_loss(model, recipe)
    arguments = batch, resident, constants, frozen.Frozen(), jax.random.key(0)
    return float(jax.jit(loss)(state.params, state.batch_stats, *arguments)[0])

  def frames(model, state, constants):
    predictor = Predictor(model, {'params': state.ema_params, 'batch_stats': state.batch_stats}, constants, run.subject,
                          batch_size=1, with_blend_net=False)
    return np.stack([each.rgb_face for each in predictor.from_speech(np.arange(8), run.features.subject_windows(np.arange(8)))])

  wide = rounded.state(state)
  assert wide.params['linear_lips']['components'].shape[1] > state.params['linear_lips']['components'].shape[1]
  np.testing.assert_allclose(lip_loss(rounded.model, wide, rounded.resident(resident), rounded.constants),
                             lip_loss(run.model, state, resident, run.constants), rtol=1e-5)
  np.testing.assert_allclose(frames(rounded.model, wide, rounded.constants).astype(int),
                             frames(run.model, state, run.constants).astype(int), atol=1)
  jax.tree.map(np.testing.assert_array_equal, rounded.own_state(wide), state)


def test_the_table_has_a_line_for_each(together):
  runs, _ = together
  rows = list(csv.DictReader((runs / people.TABLE).open()))
  assert [(row['person'], row['state'], row['step']) for row in rows] == [('anna', 'trained', '4'), ('ben', 'trained', '4')]
  logged = [json.loads(line) for line in (runs / 'ben' / 'log.jsonl').read_text().splitlines()]
  assert rows[1]['psnr_lip_val'] == f'{logged[-1]["metric/psnr_lip_val"]:.2f}'
  assert 0 < float(rows[1]['compile_seconds']) < float(rows[1]['seconds'])


def test_a_stopped_program_goes_on_with_the_person_at_whom_it_was(subjects, together, tmp_path, monkeypatch):
  runs, _ = together
  shutil.copytree(runs, tmp_path / 'runs')
  shutil.rmtree(tmp_path / 'runs' / 'ben')
  everybody = people.people_of(subjects, config(), str(tmp_path / 'runs'))
  begun, enter = [], loop.Training.__enter__
  monkeypatch.setattr(loop.Training, '__enter__', lambda self: begun.append(self.workdir) or enter(self))
  is_for_step = preemption.Notice.is_for_step
  monkeypatch.setattr(preemption.Notice, 'is_for_step', lambda self, step: is_for_step(self, step) or step == 1)
  with pytest.raises(SystemExit) as stopped:
    people.train_people(everybody, everybody, str(tmp_path / 'runs'))
  assert stopped.value.code == processes.STOPPED and checkpoint.steps_in(tmp_path / 'runs' / 'ben' / 'checkpoints') == [1]
  monkeypatch.setattr(preemption.Notice, 'is_for_step', is_for_step)
  people.train_people(everybody, everybody, str(tmp_path / 'runs'))
  assert begun == [str(tmp_path / 'runs' / 'ben')] * 2, 'anna was finished'
  jax.tree.map(np.testing.assert_array_equal, weights(tmp_path / 'runs' / 'ben'), weights(runs / 'ben'))


def test_all_mistakes_are_told_before_anybody_is_trained(subjects, together, tmp_path):
  runs, _ = together
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError) as told:
    people.people_of([*subjects, str(tmp_path / 'empty'), str(tmp_path / 'gone')], config(seed=1), str(runs))
  lines = str(told.value).splitlines()
  assert all(any(name in line for line in lines) for name in ('anna', 'ben', 'empty', 'gone')), lines
  assert 'config.seed' in lines[0]


@pytest.fixture
def at_once(monkeypatch):
  """So many places that one is left over by two people."""
  monkeypatch.setattr(people, 'min', lambda wanted, there_are: wanted, raising=False)
  return 3


def test_one_who_fails_does_not_stop_the_others(subjects, at_once, tmp_path, monkeypatch, capsys):
  def log(self, step, values):
    if self.workdir.endswith('anna') and step == 2:
      raise InputError(f'{self.workdir}: the disk of this one is gone')
    as_ever(self, step, values)
  as_ever = loop.Training._log
  monkeypatch.setattr(loop.Training, '_log', log)
  everybody = people.people_of(subjects, config(), str(tmp_path))
  with pytest.raises(InputError, match=r'^anna: .*the disk of this one is gone$'):
    people.train_people(everybody, everybody, str(tmp_path), at_once)
  rows = list(csv.DictReader((tmp_path / people.TABLE).open()))
  assert [row['state'] for row in rows] == ['failed', 'trained'] and 'the disk' in rows[0]['why']
  assert 'failed' in capsys.readouterr().out
  assert checkpoint.steps_in(tmp_path / 'ben' / 'checkpoints')[-1] == NUM_STEPS
  with lock(tmp_path / 'anna', 'training'):
    pass


def test_two_who_take_their_steps_together_are_as_if_alone(subjects, together, at_once, tmp_path, monkeypatch):
  runs, _ = together
  everybody = people.people_of(subjects, config(), str(tmp_path))
  is_for_step = preemption.Notice.is_for_step
  monkeypatch.setattr(preemption.Notice, 'is_for_step', lambda self, step: is_for_step(self, step) or step == 3)
  with pytest.raises(SystemExit) as stopped:
    people.train_people(everybody, everybody, str(tmp_path), at_once)
  assert stopped.value.code == processes.STOPPED
  assert [checkpoint.steps_in(tmp_path / name / 'checkpoints')[-1] for name in BOXES] == [3, 3]
  monkeypatch.setattr(preemption.Notice, 'is_for_step', is_for_step)
  people.train_people(everybody, everybody, str(tmp_path), at_once)
  for name in BOXES:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), weights(tmp_path / name), weights(runs / name))
  assert [row['state'] for row in csv.DictReader((tmp_path / people.TABLE).open())] == ['trained'] * 2


def test_people_are_listed_by_commas_or_in_a_file(tmp_path):
  (tmp_path / 'list.txt').write_text('# two of them\na/anna\n\nb/ben\n')
  assert people.listed(str(tmp_path / 'list.txt')) == people.listed('a/anna, b/ben') == ['a/anna', 'b/ben']
  with pytest.raises(InputError, match='a/anna and b/anna would both be trained in WORKDIR/anna'):
    people.listed('a/anna,b/anna')
  with pytest.raises(InputError, match='names no subject folder'):
    people.listed(',')


@pytest.mark.parametrize('count', [2, 3, 5, 64, 100, 1500, 1536, 1537, 9000])
def test_counts_are_rounded_up_by_less_than_a_half(count):
  rounded = rounding.rounded_count(count)
  assert count <= rounded < 1.5 * count + 1 and rounded == rounding.rounded_count(rounded)


@pytest.mark.parametrize('flags, told', [
    (['--subjects=gone', '--config.data.path=here'], '--config.data.path with --subjects: give the one person or the many'),
    (['--subjects=gone', '--part=3/2'], '--part=3/2: must be I/N'),
    (['--part=1/2'], '--part: is for many people'),
    (['--subjects=gone', '--distributed'], 'people share no gradients'),
    (['--subjects=gone'], 'gone: ')])
def test_flags_that_do_not_go_together_are_told(flags, told, tmp_path):
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'train', f'--workdir={tmp_path}', *flags], capture_output=True,
                        text=True, check=False)
  assert done.returncode == 2 and told in done.stderr, done.stderr


def test_training_begins_from_the_audio_network_of_another_run(subjects, together, tmp_path):
  runs, _ = together
  recipe = config().unlock()
  recipe.data.path, recipe.audio.init = subjects[1], str(runs / 'anna')
  run = open_run(recipe, axis_name=train_step.AXIS)
  rounded = rounding.Rounded.of(run)
  compiled = rounded.compiled(run.features.num_channels, jax.devices()[:1])
  fresh = rounded.own_state(jax.device_get(compiled.create(rounded.constants)))
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    state, step, _ = beginning.begin(run, checkpoints, fresh, run.features.subject_speech())
  with checkpoint.Checkpoints(runs / 'anna') as checkpoints:
    theirs = weights(runs / 'anna', checkpoints.best_step())['ema_params']
  assert step == 0
  jax.tree.map(np.testing.assert_array_equal, state.params['audio_net'], theirs['audio_net'])
  jax.tree.map(np.testing.assert_array_equal, state.params['lip_field'], fresh.params['lip_field'])


@pytest.mark.parametrize('changes, told', [({'window_steps': 32}, 'config.audio.window_steps=16, here it is 32'),
                                           ({'init': 'gone'}, 'gone: not a training workdir')])
def test_an_audio_network_that_does_not_fit_is_told(changes, told, together):
  recipe = config().unlock()
  recipe.audio.update({'init': str(together[0] / 'anna')} | changes)
  with pytest.raises(InputError, match=told):
    beginning.check_init(recipe)


def test_a_shared_network_is_the_same_in_all_and_a_stop_changes_nothing(subjects, tmp_path, monkeypatch):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  people.train_shared(people.people_of(subjects, config(), str(whole)), str(whole), 'audio_net')
  anna, ben = (weights(whole / name)['params'] for name in BOXES)
  far = lambda name: max(np.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(each[name]) for each in (anna, ben)), strict=True))
  assert far('audio_net') < 0.2 * far('lip_field'), 'one step apart'
  is_for_step = preemption.Notice.is_for_step
  monkeypatch.setattr(preemption.Notice, 'is_for_step', lambda self, step: is_for_step(self, step) or step == 3)
  with pytest.raises(SystemExit) as stopped:
    people.train_shared(people.people_of(subjects, config(), str(parts)), str(parts), 'audio_net')
  assert stopped.value.code == processes.STOPPED
  assert [checkpoint.steps_in(parts / name / 'checkpoints')[-1] for name in BOXES] == [3, 3]
  monkeypatch.setattr(preemption.Notice, 'is_for_step', is_for_step)
  people.train_shared(people.people_of(subjects, config(), str(parts)), str(parts), 'audio_net')
  jax.tree.map(np.testing.assert_array_equal, weights(parts / 'ben')['params']['lip_field'], ben['lip_field'])
