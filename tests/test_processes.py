"""Several processes at one piece of work: who does what, who waits for whom, and what ends them."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from speech2lip_jax.common import processes
from speech2lip_jax.configs import smoke
from speech2lip_jax.report.pictures import Album, chosen_rows
from speech2lip_jax.report.scoring import Pair, Scores
from speech2lip_jax.training import loop
from tests.test_train import ROOT, log_of, start_training
from tests.toy_subject import write_toy_subject


def free_address():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{free.getsockname()[1]}'


def flags_of(process, address, count=2):
  return ['--distributed', f'--coordinator_address={address}', f'--num_processes={count}', f'--process_id={process}']


def start(verb, *flags, devices=1):
  # A detector of faces that ran in this process has left a proxy that nothing can use, of which gRPC would tell.
  environment = {name: value for name, value in os.environ.items() if 'proxy' not in name.lower()} | {
      'XLA_FLAGS': f'--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}'}
  return subprocess.Popen([sys.executable, '-m', 'speech2lip_jax', verb, *map(str, flags)], cwd=ROOT, env=environment,
                          stderr=subprocess.PIPE, text=True)


def both(verb, *flags, devices=1):
  """Two processes of a verb, both successful."""
  address = free_address()
  started = [start(verb, *flags, *flags_of(i, address), devices=devices) for i in range(2)]
  told = [process.communicate()[1] for process in started]
  assert [process.returncode for process in started] == [0, 0], told


@pytest.mark.parametrize('count', [0, 1, 7, 8])
def test_each_thing_is_one_processs(count, monkeypatch):
  shared, dealt = [], []
  for index in range(3):
    monkeypatch.setattr(processes, '_place', processes._Alone(index, 3))
    shared += range(count)[processes.share(count)]
    dealt += processes.dealt(list(range(count)))
  assert shared == list(range(count)) and sorted(dealt) == list(range(count))


def test_a_process_alone_does_everything_and_waits_for_nobody():
  assert processes.share(5) == slice(0, 5) and processes.dealt([1, 2]) == [1, 2] and processes.index() == 0
  processes.meet('nobody')
  assert processes.gathered('mine') == ['mine']


def test_what_processes_send_each_other_arrives_as_it_was():
  sent = {'a b': [np.arange(6, dtype=np.int16).reshape(2, 3), None, (1.5, 'x', True)], 'empty': {}, 'nan': np.float32('nan')}
  got = processes.unpacked(processes.packed(sent))
  np.testing.assert_array_equal(got['a b'][0], sent['a b'][0])
  assert got['a b'][0].dtype == np.int16 and got['a b'][1:] == [None, [1.5, 'x', True]]
  assert got['empty'] == {} and np.isnan(got['nan'])


def test_a_process_that_nobody_joins_says_so_in_one_line():
  address, started = free_address(), time.monotonic()
  process = start('render', '--workdir=none', '--split=test', '--out=none.mp4', '--start_timeout=1', *flags_of(1, address))
  told = process.communicate()[1]
  assert process.returncode == 2 and time.monotonic() - started < 60
  assert told.splitlines() == [
      f'speech2lip: error: process 1 of 2: nobody answers at {address}, where process 0 should be, for 1 s; start every process, '
      'with the same --coordinator_address and --num_processes, or give a larger --start_timeout']


def test_scores_and_pictures_of_parts_are_those_of_the_whole():
  rng = np.random.default_rng(0)
  psnr = rng.random(40)
  pair = lambda row: Pair(np.full((4, 4, 3), row, np.uint8), np.zeros((4, 4, 3), np.uint8))

  def album_of(rows):
    album = Album(chosen_rows(40))
    keep_other = album.keep_other('oracle')
    for row in rows:
      album.keep(row, pair(row), {'psnr_lip': psnr[row]})
      keep_other(row, pair(row), {})
    return album

  whole, parts = album_of(range(40)), album_of(range(17))
  parts.add(*processes.unpacked(processes.packed(album_of(range(17, 40)).kept())))
  shown = lambda album: ([shot.row for shot in album.chosen], [shot.row for shot in album.worst()],
                         [int(rgb[0, 0, 0]) for rgb in album.others['oracle']])
  assert shown(parts) == shown(whole)
  scores = Scores({'psnr_lip': psnr}, rng.random((40, 478, 2)))
  cut = lambda part: Scores({'psnr_lip': psnr[part]}, scores.landmarks[part])
  joined = Scores.joined([cut(slice(17)), cut(slice(16, 40)).without_first(1)])
  np.testing.assert_array_equal(joined.values['psnr_lip'], psnr)
  np.testing.assert_array_equal(joined.landmarks, scores.landmarks)


# ---- two processes

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('processes') / 'toy')


def test_two_processes_of_two_devices_take_the_steps_of_one_of_eight(folder, tmp_path):
  changes = {'data.path': str(folder), 'data.num_val_frames': 1, 'audio.features': 'mel', 'audio.network': 'strided',
             'field.depth': 1,
             'linear.share': 0.0, 'linear.amplitude': 0.0, 'depth.num_frames': 0, 'loss.lip_perceptual_weight': 0.0,
             'train.batch_size': 16, 'train.num_steps': 3, 'train.blend_start_step': 3, 'train.eval_every': 3, 'train.log_every': 1}
  config = smoke.get_config().unlock()
  config.update_from_flattened_dict(changes)
  loop.train_and_evaluate(config.lock(), str(tmp_path / 'one'))
  both('train', '--config=smoke', f'--workdir={tmp_path / "two"}', *(f'--config.{name}={value}' for name, value in changes.items()),
       devices=2)
  one, two = log_of(tmp_path / 'one'), log_of(tmp_path / 'two')
  assert one.keys() == two.keys() == {0, 1, 2, 3}
  for step, values in one.items():
    assert two[step] == pytest.approx(values, rel=1e-4), step


@pytest.mark.slow
def test_two_processes_of_which_one_is_asked_to_stop_save_one_step_and_go_on_with_the_same_values(folder, tmp_path):
  steps = ('--config.train.num_steps=60', '--config.train.eval_every=30')

  def train(workdir):
    address = free_address()
    return [start_training(folder, workdir, *steps, *flags_of(i, address)) for i in range(2)]

  started = train(tmp_path / 'stopped')
  while not (tmp_path / 'stopped/log.jsonl').is_file() or max(log_of(tmp_path / 'stopped'), default=0) < 5:
    assert all(process.poll() is None for process in started)
    time.sleep(0.01)
  started[1].send_signal(signal.SIGTERM)
  assert [process.wait() for process in started] == [75, 75]
  assert 5 <= max(log_of(tmp_path / 'stopped')) < 60
  for workdir in ('stopped', 'whole'):
    assert [process.wait() for process in train(tmp_path / workdir)] == [0, 0]
  assert log_of(tmp_path / 'stopped') == log_of(tmp_path / 'whole')


@pytest.mark.slow
def test_two_processes_score_and_render_what_one_does(folder, tmp_path):
  assert start_training(folder, tmp_path / 'run').wait() == 0
  workdir = f'--workdir={tmp_path / "run"}'
  both('evaluate', workdir, f'--out={tmp_path / "two"}')
  one = start('evaluate', workdir, f'--out={tmp_path / "one"}')
  one.communicate()
  assert one.returncode == 0

  def numbers(name):
    record = json.loads((tmp_path / name / 'metrics.json').read_text())
    rows = record['baselines'] | {'model': record}
    return {(row, metric): value for row, values in rows.items() for metric, value in values.items() if isinstance(value, float)}
  assert numbers('two') == pytest.approx(numbers('one'), rel=1e-4, abs=1e-4)
  both('render', workdir, '--split=test', f'--out={tmp_path / "two.mp4"}')
  assert (tmp_path / 'two.mp4').is_file() and not [*tmp_path.glob('.*')]


@pytest.mark.slow
def test_two_processes_find_the_landmarks_of_a_part_of_the_videos_each(tmp_path):
  from speech2lip_jax.synthetic.subject import make_clip
  tracks = []
  for i in range(2):
    make_clip(tmp_path / f'{i}.mp4', size=96, seconds=4.0, seed=i)
    tracks.append(str(pathlib.Path(tmp_path, f'{i}.npz')))
  flags = [f'--video={tmp_path}/*.mp4', f'--tracks={",".join(tracks)}', '--size=64']
  both('preprocess', *flags, f'--out={tmp_path / "two"}')
  one = start('preprocess', *flags, f'--out={tmp_path / "one"}')
  one.communicate()
  assert one.returncode == 0
  for name in ('landmarks', 'frames', 'observed_from_head'):
    files = [next((tmp_path / subject).glob(f'{name}*.npy'), None) for subject in ('one', 'two')]
    if files[0]:
      np.testing.assert_array_equal(np.load(files[0]), np.load(files[1]))
