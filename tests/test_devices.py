"""Any number of devices and processes: how many of them a recipe uses, and that they take the same steps."""
import importlib
import json
import os

import jax
import numpy as np
import pytest

from speech2lip_jax.common import recipes
from speech2lip_jax.common.cores import cores
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import default, smoke
from speech2lip_jax.sweeps import hyper
from speech2lip_jax.sweeps.trials import make_trials
from speech2lip_jax.training import loop as training_loop
from speech2lip_jax.training import plan
from tests.toy_subject import write_toy_subject

TRAINED = [name for name in recipes.names() if name != 'expert']


def used(config, num_devices):
  count = plan.num_devices_used(config, num_devices)
  lines = plan.idle_devices(config, num_devices, count)
  assert bool(lines) == (count < num_devices) and len(lines) <= 1
  return count


@pytest.mark.parametrize('name', TRAINED)
@pytest.mark.parametrize('num_devices', range(1, 9))
def test_every_recipe_and_trial_runs_on_any_number_of_devices(name, num_devices, tmp_path):
  module = importlib.import_module(f'speech2lip_jax.configs.{name}')
  configs = [module.get_config()]
  if hasattr(module, 'get_hyper'):
    found = module.get_hyper(hyper)
    trials = hyper.ends(found) if isinstance(found, hyper.Space) else found
    configs += [trial.config for trial in make_trials(trials, configs[0], tmp_path)]
  for config in configs:
    count = used(config, num_devices)
    assert 1 <= count <= num_devices and config.train.batch_size % count == 0


def test_the_default_uses_eight_devices_and_fewer_where_frames_are_composed():
  config = default.get_config().unlock()
  assert [used(config, n) for n in range(1, 9)] == [1, 2, 2, 4, 4, 4, 4, 8]
  config.train.blend_start_step = 1000
  assert used(config, 8) == 4, '64 / 16 frames are composed'
  line, = plan.idle_devices(config, 8, 4)
  assert line == ('4 of 8 devices are used: 64 / config.train.blend_every=16 composed frames cannot be shared by more of them '
                  'evenly')
  config.sync.update(expert='own', num_windows=6)
  assert used(config, 8) == 2


def test_processes_have_as_many_devices_each_or_are_told_how_many_may_be():
  config = default.get_config()
  assert plan.num_devices_used(config, 6, num_processes=2) == 4
  with pytest.raises(InputError, match='batch_size=64: cannot be shared evenly by 3 processes; give a multiple of 3'):
    plan.num_devices_used(config, 12, num_processes=3)


def test_a_run_uses_three_of_eight_devices_and_says_so(tmp_path, capsys):
  config = smoke.get_config().unlock()
  config.data.path, config.data.num_val_frames = str(write_toy_subject(tmp_path / 'toy')), 1
  config.train.update(batch_size=9, num_steps=1, blend_start_step=1)
  config.depth.num_frames, config.linear.share, config.linear.amplitude, config.loss.lip_perceptual_weight = 0, 0.0, 0.0, 0.0
  training_loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert f'3 of {jax.device_count()} devices are used: config.train.batch_size=9 cannot be shared' in capsys.readouterr().err
  records = [json.loads(line) for line in (tmp_path / 'run/log.jsonl').read_text().splitlines()]
  assert all(np.isfinite(list(record.values())).all() for record in records) and records[-1]['step'] == 1


def test_cores_are_those_of_the_affinity_and_of_the_control_groups(tmp_path):
  mine = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  assert cores(str(tmp_path)) == mine
  group = tmp_path / 'sys/fs/cgroup/job/step'
  group.mkdir(parents=True)
  (tmp_path / 'proc/self').mkdir(parents=True)
  (tmp_path / 'proc/self/cgroup').write_text('0::/job/step\n')
  (group / 'cpu.max').write_text('max 100000\n')
  assert cores(str(tmp_path)) == mine
  (group.parent / 'cpu.max').write_text('50000 100000\n')
  assert cores(str(tmp_path)) == 1, 'half a core is one'
  (tmp_path / 'proc/self/cgroup').write_text('4:memory:/a\n3:cpu,cpuacct:/b\n')
  old = tmp_path / 'sys/fs/cgroup/cpu/b'
  old.mkdir(parents=True)
  (old / 'cpu.cfs_quota_us').write_text('-1\n')
  (old / 'cpu.cfs_period_us').write_text('100000\n')
  assert cores(str(tmp_path)) == mine
  (old / 'cpu.cfs_quota_us').write_text('100000\n')
  assert cores(str(tmp_path)) == 1
