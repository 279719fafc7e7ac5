"""A real SLURM: a sweep as an array whose trials fail and are requeued, and srun of several processes. Skipped without `sinfo`.

One node with two cores is enough; set SLURM_CONF where it is not in its usual place.
"""
import os
import pathlib
import subprocess
import sys
import time

import av
import pytest

from tests.test_train import log_of
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = '''from configs import smoke


def get_config():
  config = smoke.get_config().unlock()
  config.train.update(num_steps=400, eval_every=100, log_every=10)
  config.depth.num_frames, config.linear.share, config.linear.amplitude, config.data.num_val_frames = 0, 0.0, 0.0, 1
  config.loss.lip_perceptual_weight = 0.0
  config.train.blend_start_step = 400
  return config.lock()


def get_hyper(hyper):
  return hyper.sweep('seed', range(3)) + hyper.named('never', {'audio.features': 'missing.npy'})
'''


def has_slurm():
  try:
    return subprocess.run(['sinfo', '--noheader'], capture_output=True, timeout=20, check=False).returncode == 0
  except (OSError, subprocess.TimeoutExpired):
    return False


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_slurm(), reason='no SLURM: sinfo does not answer')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('slurm') / 'toy')


def environment(**more):
  return os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'PYTHONPATH': str(ROOT)} | more


def verb(*arguments, **options):
  return [sys.executable, '-m', 'speech2lip_jax', *map(str, arguments)]


def test_an_array_of_trials_survives_a_failure_a_requeue_and_the_sweeps_end(folder, tmp_path):
  (tmp_path / 'tiny.py').write_text(TINY)
  sweep = verb('sweep', f'--config={tmp_path / "tiny.py"}', f'--workdir={tmp_path / "run"}', f'--config.data.path={folder}',
               '--launcher=slurm', '--trials_at_once=2', '--slurm=time=30', '--slurm=cpus_per_task=1')
  run = lambda *more: subprocess.run([*sweep, *more], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
  submitted = run('--nowait')
  assert submitted.returncode == 0 and '4 trials are job' in submitted.stdout, submitted.stderr
  array = submitted.stdout.split('are job ')[1].split(';')[0]
  first = tmp_path / 'run/seed=0'
  while not (first / 'log.jsonl').is_file() or max(log_of(first), default=0) < 20:
    time.sleep(0.1)
  subprocess.run(['scontrol', 'requeue', f'{array}_0'], check=True)
  followed = run()  # those in the queue are not submitted again
  assert 'are job' not in followed.stdout
  assert followed.returncode == 1 and 'failed: never' in followed.stderr and '| seed=' not in followed.stderr
  assert 'missing.npy' in (tmp_path / 'run/never/sweep.log').read_text()
  told = (first / 'sweep.log').read_text()
  assert 'asked to stop, checkpoint of step' in told and told.count('running on') == 3, 'trained twice, evaluated once'
  assert sorted(log_of(first)) == sorted(log_of(tmp_path / 'run/seed=1'))
  collected = run('--collect')
  assert collected.returncode == 0 and '| the config |' in collected.stdout and '| 3 |' in collected.stdout
  assert '3 finished, 1 failed' in collected.stderr


def test_srun_starts_processes_that_train_and_render_together(folder, tmp_path):
  srun = ['srun', '--ntasks=2', '--cpus-per-task=1', '--overlap']
  train = verb('train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}', f'--config.data.path={folder}')
  start = lambda *command: subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1200,
                                          check=False)
  trained = start(*srun, *train, '--distributed')
  assert trained.returncode == 0 and '2 processes, 2 CPU devices' in trained.stderr, trained.stderr
  render = verb('render', f'--workdir={tmp_path / "run"}', '--split=test')
  rendered = start(*srun, *render, f'--out={tmp_path / "two.mp4"}', '--distributed')
  assert rendered.returncode == 0 and rendered.stdout.count('frames, ') == 1, rendered.stderr
  assert start(*render, f'--out={tmp_path / "one.mp4"}').returncode == 0
  films = []
  for name in ('one', 'two'):
    with av.open(str(tmp_path / f'{name}.mp4')) as film:
      films.append([frame.to_ndarray(format='rgb24').astype(int) for frame in film.decode(video=0)])
  assert len(films[0]) == len(films[1])
  assert max(abs(one - two).mean() for one, two in zip(*films, strict=True)) < 4, 'encoded apart'
  assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]
