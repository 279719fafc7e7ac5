"""A workdir keeps its config and subject: what may change, what is refused, what is found after a move; each remedy is tried."""
import os
import re
import shutil

import numpy as np
import pytest

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir.state import TrainState
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('workdir') / 'toy', size=32, clip_frames=(30,))


@pytest.fixture(scope='module')
def other(tmp_path_factory):
  """Another subject of the same sizes."""
  return write_toy_subject(tmp_path_factory.mktemp('workdir') / 'other', size=32, clip_frames=(30,), seed=1)


def config_of(subject, **changes):
  config = smoke.get_config().unlock()
  config.data.path = str(subject)
  config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in changes.items()})
  return config.lock()


def state_of(step):
  weights = {'w': np.full((3, 4), step, np.float32)}
  return TrainState(np.int32(step), weights, {}, weights, weights)


@pytest.fixture
def workdir(subject, tmp_path):
  """A workdir with checkpoints of steps 4 and 8, the later better."""
  config_file.claim_workdir(tmp_path / 'run', config_of(subject))
  with checkpoint.Checkpoints(tmp_path / 'run', keep=2) as checkpoints:
    for step in (4, 8):
      checkpoints.save(state_of(step), 20.0 + step, 0)
  return tmp_path / 'run'


@pytest.mark.parametrize('name', config_file.MAY_CHANGE)
def test_what_may_change_is_taken_with_a_line_and_kept(subject, workdir, name):
  if name == 'data.path':
    return  # `test_the_same_subject_is_known_by_any_path`
  rule, before = config_schema.DEFAULT[name], dict(config_schema.fields(config_of(subject)))[name]
  value = {'train.schedule': 'constant', 'compose.jaw': False, 'train.batch_size': 16}.get(name)
  value = value if value is not None else (before + 1 if rule.kind == 'int' else before / 2 + 0.1)
  config = config_of(subject, **{name: value})
  line, = [line for line in config_file.claim_workdir(workdir, config) if f'config.{name}=' in line]
  assert line == f'{workdir}: goes on with config.{name}={value!r}, before {before!r}'
  assert dict(config_schema.fields(config_file.read_config(workdir)))[name] == value
  assert not [line for line in config_file.claim_workdir(workdir, config) if f'config.{name}=' in line]


def test_every_other_field_is_refused_all_at_once_and_nothing_is_written(subject, workdir):
  before = (workdir / 'config.json').read_text()
  with pytest.raises(InputError) as caught:
    config_file.claim_workdir(workdir, config_of(subject, field__width=64, audio__noise_std=0.1, train__num_steps=24))
  lines = str(caught.value).splitlines()
  assert [re.search(r'config\.([\w.]+)=', line)[1] for line in lines] == ['audio.noise_std', 'field.width']
  assert (workdir / 'config.json').read_text() == before
  assert config_file.claim_workdir(workdir, config_of(subject)) == [], 'the same config resumes, as the message says'
  assert config_file.claim_workdir(workdir.parent / 'another', config_of(subject, field__width=64)) == []


def test_the_same_subject_is_known_by_any_path(subject, workdir, tmp_path, monkeypatch):
  (tmp_path / 'link').symlink_to(subject)
  monkeypatch.chdir(subject.parent)
  for path in (subject.name, f'./{subject.name}/', f'{subject}/../{subject.name}', tmp_path / 'link', subject):
    assert config_file.claim_workdir(workdir, config_of(path)) == []
  monkeypatch.chdir(tmp_path)
  found = config_file.read_config(workdir).data.path
  assert os.path.isabs(found) and dataset.load_subject(found).meta.num_frames == 30


def test_another_subject_of_the_same_sizes_is_refused(workdir, subject, other):
  with pytest.raises(InputError, match=f'{other}: is not the subject that {workdir} was trained on'):
    config_file.claim_workdir(workdir, config_of(other))
  with pytest.raises(InputError, match='is not the subject'):
    config_file.check_subject(workdir, str(other))
  config_file.check_subject(workdir, str(subject))


def test_a_subject_that_was_moved_is_told_and_both_remedies_work(subject, tmp_path):
  here = shutil.copytree(subject, tmp_path / 'here')
  run = tmp_path / 'run'
  config_file.claim_workdir(run, config_of(here))
  with checkpoint.Checkpoints(run) as checkpoints:
    checkpoints.save(state_of(4), 20.0, 0)
  there = here.rename(tmp_path / 'there')
  with pytest.raises(InputError, match=f'{here}: the subject of {run} is not there; .* make a link'):
    config_file.check_subject(run, config_file.read_config(run).data.path)
  here.symlink_to(there)
  config_file.check_subject(run, config_file.read_config(run).data.path)
  here.unlink()
  line, = config_file.claim_workdir(run, config_of(there))  # or the same train command with the new place
  assert f'config.data.path={str(there)!r}' in line
  config_file.check_subject(run, config_file.read_config(run).data.path)


def test_a_workdir_moves_with_the_subject_that_lies_in_it(subject, tmp_path):
  run = tmp_path / 'talk.speech2lip'
  inside = shutil.copytree(subject, run / 'subject')
  config_file.claim_workdir(run, config_of(inside))
  moved = run.rename(tmp_path / 'elsewhere')
  assert config_file.read_config(moved).data.path == str(moved / 'subject')
  config_file.check_subject(moved, config_file.read_config(moved).data.path)


def test_a_damaged_checkpoint_is_told_and_without_it_the_one_before_is_taken(workdir):
  array = max((workdir / 'checkpoints/8/default').rglob('d/*'), key=lambda path: path.stat().st_size)
  raw = bytearray(array.read_bytes())
  raw[len(raw) // 2] ^= 1
  array.write_bytes(raw)
  told = pytest.raises(InputError, match='checkpoints/8: damaged .* delete this folder')
  with checkpoint.Checkpoints(workdir) as checkpoints, told:
    checkpoints.restore(8, state_of(0))
  shutil.rmtree(workdir / 'checkpoints/8')
  with checkpoint.Checkpoints(workdir) as checkpoints:
    assert (checkpoints.best_step(), checkpoints.latest_step()) == (4, 4)
    np.testing.assert_array_equal(checkpoints.restore(4, state_of(0)).params['w'], state_of(4).params['w'])
  with checkpoint.Checkpoints(workdir) as checkpoints:
    weights = checkpoints.restore_weights(4, {'ema_params': state_of(0).ema_params})
    np.testing.assert_array_equal(weights['ema_params']['w'], state_of(4).params['w'])


def test_a_checkpoint_of_another_model_is_not_taken_for_damaged(workdir):
  with checkpoint.Checkpoints(workdir) as checkpoints, pytest.raises(InputError, match='does not fit this config and subject'):
    checkpoints.restore_weights(4, {'ema_params': {'v': np.zeros((3, 4), np.float32)}})


def test_a_checkpoint_of_before_there_were_checksums_opens(workdir):
  path = workdir / 'checkpoints/4/_CHECKPOINT_METADATA'
  path.write_text(re.sub(r'"custom_metadata": \{.*\}', '"custom_metadata": {}}', path.read_text()))
  assert checkpoint.read_records(path.parent) == {}
  with checkpoint.Checkpoints(workdir) as checkpoints:
    assert checkpoints.restore(4, state_of(0)).step == 4 and checkpoints.damage(4) is None


@pytest.mark.parametrize('changes', [{'train.batch_size': 63, 'train.blend_start_step': 0}, {'audio.features_rate': 50.0},
                                     {'field.kind': 'decoder', 'field.use_time': True},
                                     {'field.kind': 'reference'}, {'field.kind': 'decoder', 'compose.sampling': 'direct'}])
def test_what_a_refused_recipe_is_told_to_give_is_taken(changes):
  config = recipes.load('default').get_config()
  config.update_from_flattened_dict(changes)
  line, = config_schema.problems(config)
  name = line.split('=')[0]
  remedy = re.search(r'give (\d+)$|leave it (\d+)$|must be (\S+) with|skip_after=(\d+)$', line)
  section, field = name.split('.')
  config[section][field] = type(config[section][field])(eval(next(part for part in remedy.groups() if part)))
  assert config_schema.problems(config) == []
