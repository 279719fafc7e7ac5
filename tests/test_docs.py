"""The pages that docs/generate.py writes say what the code says."""
import importlib.util
import pathlib

import pytest
from ml_collections import ConfigDict

from speech2lip_jax.common import recipes

DOCS = pathlib.Path(__file__).resolve().parents[1] / 'docs'


@pytest.fixture(scope='module')
def generate():
  spec = importlib.util.spec_from_file_location('generate', DOCS / 'generate.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('page', ['commands.md', 'configuration.md'])
def test_the_page_is_what_the_generator_writes(generate, page):
  assert (DOCS / page).read_text(encoding='utf-8') == generate.PAGES[page](), 'run python docs/generate.py'


def _leaves(config, prefix=''):
  for name, value in config.items():
    yield from _leaves(value, f'{prefix}{name}.') if isinstance(value, ConfigDict) else [f'{prefix}{name}']


@pytest.mark.parametrize('recipe', ['default', 'expert'])
def test_every_field_of_the_recipe_has_a_line(generate, recipe):
  named = {name: value for name, value, _ in generate.fields(recipe)}
  config = recipes.load(recipe).get_config()
  assert not [name for name in _leaves(config) if name not in named and name.split('.')[0] not in named]
  assert not [name for name, _, comment in generate.fields(recipe) if not comment], 'each says its unit and range'
  for name, value in named.items():
    if '.' in name:
      section, field = name.split('.')
      assert eval(value.rpartition(' = ')[2]) == config[section][field]  # what stands in the file is what holds


def test_the_pages_name_no_folder_of_this_machine(generate):
  assert not any(str(DOCS.parent) in write() for write in generate.PAGES.values())
