"""The gallery of the docs is what its command makes."""
import importlib.util
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

GALLERY = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'gallery'
LEAST_PSNR = 30.0  # dB; made twice from one demo: 35; the same film one picture late: 26 to 29


@pytest.fixture(scope='module')
def make():
  spec = importlib.util.spec_from_file_location('make', GALLERY / 'make.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def pictures(path):
  """[n, H, W, 3] of a WebP that moves."""
  with Image.open(path) as film:
    found = []
    for number in range(film.n_frames):
      film.seek(number)
      found.append(np.asarray(film.convert('RGB')))
  return np.stack(found)


def test_the_page_shows_all_that_is_made_and_no_file_is_large():
  page = (GALLERY / 'README.md').read_text(encoding='utf-8')
  made = sorted(path.name for path in GALLERY.iterdir() if path.suffix in ('.webp', '.mp4'))
  assert made and not [name for name in made if f']({name})' not in page]
  assert sum((GALLERY / name).stat().st_size for name in made) < 2e6 and max((GALLERY / name).stat().st_size for name in made) < 7e5


def test_moving_pictures_are_labelled_columns(make, tmp_path):
  columns = [[Image.new('RGB', (40, 30), colour) for colour in ('red', 'blue')] for _ in range(2)]
  make.save(tmp_path / 'a.webp', make.beside(('one', 'two'), zip(*columns)), 0.08)
  found = pictures(tmp_path / 'a.webp')
  assert found.shape == (2, 30 + make.LABEL_HEIGHT, 2 * 40 + make.GAP, 3)
  assert found[0, -5, 20, 0] > 200 > 50 > found[1, -5, 20, 0]


@pytest.mark.slow  # 10 minutes of two cores
def test_the_command_makes_the_gallery_again(make, tmp_path):
  if not shutil.which('espeak-ng'):
    pytest.skip('espeak-ng is not installed')
  from speech2lip_jax import demo
  from speech2lip_jax.preprocess import landmarks
  if not landmarks.model_at_hand(None):
    pytest.skip('no landmark model here: the take before another background is tracked by it')
  demo.run(tmp_path / 'demo')
  (tmp_path / 'gallery').mkdir()
  make.main(['make.py', str(tmp_path / 'demo'), str(tmp_path / 'gallery')])
  for path in sorted(GALLERY.glob('*.webp')):
    made, kept = pictures(tmp_path / 'gallery' / path.name), pictures(path)
    assert made.shape == kept.shape, path.name
    error = np.square(made.astype(float) - kept).mean()
    assert 10 * np.log10(255**2 / error) > LEAST_PSNR, path.name
  assert sorted(p.name for p in (tmp_path / 'gallery').glob('*.mp4')) == sorted(p.name for p in GALLERY.glob('*.mp4'))
