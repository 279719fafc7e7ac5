"""Any number of devices and processes: how many of them a recipe uses, and that they take the same steps."""
import importlib
import json

import jax
import pytest

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import default, smoke
from speech2lip_jax.sweeps import hyper
from speech2lip_jax.sweeps.trials import make_trials
from speech2lip_jax.training import loop as training_loop
from tests.toy_subject import write_toy_subject

TRAINED = [name for name in recipes.names() if name != 'expert']


def used(config, num_devices):
  count = training_loop.num_devices_used(config, num_devices)
  lines = training_loop.idle_devices(config, num_devices, count)
  assert bool(lines) == (count < num_devices) and len(lines) <= 1
  return count


@pytest.mark.parametrize('name', TRAINED)
@pytest.mark.parametrize('num_devices', range(1, 9))
def test_every_recipe_and_trial_runs_on_any_number_of_devices(name, num_devices, tmp_path):
  module = importlib.import_module(f'speech2lip_jax.configs.{name}')
  configs = [module.get_config()]
  if hasattr(module, 'get_hyper'):
    configs += [trial.config for trial in make_trials(module.get_hyper(hyper), configs[0], tmp_path)]
  for config in configs:
    count = used(config, num_devices)
    assert 1 <= count <= num_devices and config.train.batch_size % count == 0


def test_the_default_uses_eight_devices_and_fewer_where_frames_are_composed():
  config = default.get_config().unlock()
  assert [used(config, n) for n in range(1, 9)] == [1, 2, 2, 4, 4, 4, 4, 8]
  config.train.blend_start_step = 1000
  assert used(config, 8) == 4, '64 / 16 frames are composed'
  line, = training_loop.idle_devices(config, 8, 4)
  assert line == ('4 of 8 devices are used: 64 / config.train.blend_every=16 composed frames cannot be shared by more of them '
                  'evenly')
  config.sync.update(expert='own', num_windows=6)
  assert used(config, 8) == 2


def test_processes_have_as_many_devices_each_or_are_told_how_many_may_be():
  config = default.get_config()
  assert training_loop.num_devices_used(config, 6, num_processes=2) == 4
  with pytest.raises(InputError, match='batch_size=64: cannot be shared evenly by 3 processes; give a multiple of 3'):
    training_loop.num_devices_used(config, 12, num_processes=3)


def test_three_of_eight_devices_log_what_one_logs(tmp_path, monkeypatch, capsys):
  config = smoke.get_config().unlock()
  config.data.path, config.data.num_val_frames = str(write_toy_subject(tmp_path / 'toy')), 1
  config.train.update(batch_size=9, num_steps=2, eval_every=2, blend_start_step=2)
  config.depth.num_frames, config.linear.share, config.linear.amplitude, config.loss.lip_perceptual_weight = 0, 0.0, 0.0, 0.0
  records = {}
  for count in (3, 1):
    if count == 1:
      monkeypatch.setattr(training_loop, 'num_devices_used', lambda *_: 1)
    training_loop.train_and_evaluate(config, str(tmp_path / str(count)))
    assert f'{count} of {jax.device_count()} devices are used' in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / str(count) / 'log.jsonl').read_text().splitlines()]
    records[count] = [{name: value for name, value in line.items() if not name.startswith('time/')} for line in lines]
  assert [line['step'] for line in records[1] if 'loss/lip' in line] == [1, 2]
  for three, one in zip(records[3], records[1], strict=True):
    assert three == pytest.approx(one, rel=1e-5)
