"""Mistakes at the command line: one line that names the file or value and the remedy, exit status 2, within seconds."""
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.io import wavfile

from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('cli') / 'toy', size=32, clip_frames=(30,))


def fails(*arguments):
  """Runs `speech2lip` and returns its one line of error."""
  start = time.monotonic()
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', *map(str, arguments)], cwd=ROOT, capture_output=True,
                        text=True, env=os.environ | {'XLA_FLAGS': ''})
  assert done.returncode == 2, done.stderr
  lines = done.stderr.strip().splitlines()
  assert len(lines) == 1, done.stderr
  assert time.monotonic() - start < 30, 'checks of the input come before any long work'
  return lines[0]


def test_an_unknown_verb_lists_the_verbs():
  assert 'preprocess, train, expert, render, evaluate' in fails('dance')


def test_a_misspelt_config_field_is_named(folder, tmp_path):
  line = fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path}', f'--config.data.path={folder}',
               '--config.train.num_stps=3')
  assert 'num_stps' in line and 'num_steps' in line


def test_an_unknown_flag_is_named():
  assert 'wrkdir' in fails('train', '--config=configs/smoke.py', '--wrkdir=x')


def test_a_missing_config_file_is_named():
  assert 'configs/none.py' in fails('train', '--config=configs/none.py', '--workdir=x')


def test_training_without_a_subject_says_how_to_give_one(tmp_path):
  assert '--config.data.path' in fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}')
  assert not (tmp_path / 'run').exists()


def test_a_subject_with_a_file_missing_is_named(tmp_path):
  copy = write_toy_subject(tmp_path / 'toy', size=32, clip_frames=(30,))
  (copy / 'frames.npy').unlink()
  line = fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}', f'--config.data.path={copy}')
  assert str(copy / 'frames.npy') in line and 'preprocess' in line


def test_rendering_needs_a_trained_workdir_and_a_sound(tmp_path):
  empty = tmp_path / 'empty.wav'
  wavfile.write(empty, 16000, np.zeros(0, np.int16))
  out = f'--out={tmp_path / "out.mp4"}'
  assert 'empty.wav: holds no sound' in fails('render', f'--workdir={tmp_path}', f'--audio={empty}', out)
  assert 'no such file' in fails('render', f'--workdir={tmp_path}', '--audio=none.wav', out)
  assert 'not a training workdir' in fails('render', f'--workdir={tmp_path}', '--split=test', out)
  assert not (tmp_path / 'out.mp4').exists()
