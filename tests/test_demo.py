"""The demo, tiny: every step, going on where it was, and mistakes answered in one line."""
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from speech2lip_jax import demo
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import landmarks, video
from speech2lip_jax.provenance import inspection, manifest
from tests.test_cli import fails

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = {'size': 64, 'seconds': 5.0, 'steps': 4}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """What the verb leaves, without landmark model and network."""
  folder = tmp_path_factory.mktemp('demo')
  environment = os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'XDG_CACHE_HOME': str(folder / 'cache'),
                              landmarks.MODEL_VARIABLE: '', 'https_proxy': 'http://127.0.0.1:9'}
  flags = [f'--{name}={value}' for name, value in TINY.items()]
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'demo', f'--workdir={folder / "work"}', *flags], cwd=ROOT,
                        env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'the exact ones of talk.npz' in done.stdout
  return demo.run(folder / 'work', **TINY)


def test_the_demo_goes_from_a_video_to_new_speech(files):
  subject = schema.validate(files.clip.parent / 'subject')
  assert subject.num_frames == 125 and subject.height == 64
  held_out, foreign = video.probe(str(files.held_out)), video.probe(str(files.foreign))
  assert held_out.num_frames == files.metrics['num_frames'] == round(0.15 * 125)
  assert foreign.num_frames > 250
  assert np.isfinite(files.metrics['psnr_lip']) and 'mean_lips' in files.metrics['baselines']
  assert all(path.stat().st_size > 1000 for path in (files.sheet, files.contact_sheet, files.held_out, files.foreign))
  assert '| model |' in files.table.read_text()


def test_what_the_demo_leaves_says_that_it_is_synthetic(files):
  for path in (files.held_out, files.foreign, files.sheet):
    told = manifest.read(path)
    assert told.is_valid and told.actions[0] == 'created (trainedAlgorithmicMedia)' and told.model.startswith('run (sha256')
  assert inspection.tags_of(str(files.foreign))['comment'].startswith('AI-generated')


def test_given_again_it_does_only_what_is_missing(files, capsys):
  kept = {path: path.stat().st_mtime_ns for path in files.clip.parent.rglob('*') if path.is_file()}
  files.sheet.unlink()
  again = demo.run(files.clip.parent, **TINY)
  assert again.metrics == files.metrics and again.sheet.is_file()
  assert [path.name for path, when in kept.items() if path.stat().st_mtime_ns != when] == ['sheet.png']
  assert 'train' not in capsys.readouterr().out
  start = time.monotonic()
  demo.run(files.clip.parent, **TINY)
  assert time.monotonic() - start < 5


def test_other_values_in_a_demos_folder_are_refused(files):
  with pytest.raises(InputError, match=r'begun with steps=4, now 5; .* another --workdir'):
    demo.run(files.clip.parent, **TINY | {'steps': 5})


def test_mistakes_are_one_line(tmp_path):
  a_file = tmp_path / 'file'
  a_file.write_text('x')
  assert '--workdir is missing' in fails('demo')
  line = fails('demo', f'--workdir={a_file}')
  assert str(a_file) in line and 'is a file' in line
  with pytest.raises(InputError, match='holds other files'):
    demo.run(tmp_path)
  with pytest.raises(InputError, match='--size 66'):
    demo.run(tmp_path / 'new', size=66)
  with pytest.raises(InputError, match='no such file'):
    landmarks.model_at_hand(str(tmp_path / 'none.task'))
  assert not (tmp_path / 'new').exists()
