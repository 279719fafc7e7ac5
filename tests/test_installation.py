"""What an installation must get right by itself: one OpenCV, every package with its files, every recipe."""
import configparser
import importlib
import pathlib
from importlib import metadata

import cv2
import pytest

from speech2lip_jax.common import recipes
from speech2lip_jax.sweeps import trials
from speech2lip_jax.training import loop

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'speech2lip_jax'
RECIPES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem != '__init__')


@pytest.fixture(scope='module')
def setup():
  """The sections of setup.cfg."""
  parser = configparser.ConfigParser()
  parser.read(ROOT / 'setup.cfg')
  return parser


def test_there_is_one_opencv():
  """Wheels of OpenCV overwrite one another's cv2; the metadata asks for the one that mediapipe brings."""
  wheels = {}
  for name in ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless'):
    try:
      wheels[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  assert list(wheels) == ['opencv-contrib-python'], f'uninstall all of {wheels}, then install this project again'
  assert wheels['opencv-contrib-python'].startswith(cv2.__version__)


def test_every_package_is_installed(setup):
  folders = {path.parent.relative_to(ROOT) for path in PACKAGE.rglob('*.py')}
  found = {'.'.join(folder.parts) for folder in folders} | {'speech2lip_jax.configs'}
  assert set(setup['options']['packages'].split()) == found
  assert all((ROOT / folder / '__init__.py').is_file() for folder in [*folders, 'configs'])


def test_every_file_that_a_package_reads_is_installed(setup):
  installed = set()
  for package, patterns in setup['options.package_data'].items():
    installed |= {path for pattern in patterns.split() for path in ROOT.joinpath(*package.split('.')).glob(pattern)}
  present = {path for path in PACKAGE.rglob('*') if path.is_file() and path.suffix not in ('.py', '.pyc')}
  assert present - installed == set(), 'in no package_data of setup.cfg'


def test_the_recipes_are_the_files_of_configs():
  assert recipes.names() == RECIPES and 'default' in RECIPES


@pytest.mark.parametrize('name', RECIPES)
def test_every_config_loads_and_is_locked_and_in_range(name):
  module = importlib.import_module(f'speech2lip_jax.configs.{name}')
  config = module.get_config()
  with pytest.raises(AttributeError):
    config.train.num_stps = 3
  if 'compose' in config:  # else the expert's, which trains another network
    loop.validate_config(config)
  if hasattr(module, 'get_hyper'):
    assert trials.make_trials(trials.load_hyper(module.__file__), config, pathlib.Path('runs'))
