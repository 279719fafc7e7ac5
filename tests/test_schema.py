"""Recipes are checked whole, by one schema, before anything is written: names, types, ranges, choices, relations."""
import copy
import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import schema
from speech2lip_jax.sweeps import hyper, trials

ROOT = pathlib.Path(__file__).resolve().parents[1]
FULL = ('default', 'expert')
BIG = 10**12

# Values of another type, or of no finite number, by the type that a field has.
ODD = {'int': ['many', 1.5, None, True, (1,)], 'float': ['much', None, float('nan'), float('inf'), -float('inf'), True, (1.0,)],
       'bool': [1, 0, 'True', None], 'str': [3, None, ['a'], 'two\nlines', '\0']}


@functools.cache
def values_of(recipe):
  return recipes.load(recipe).get_config().to_dict()


def changed(recipe, name, value):
  """A recipe with one field changed, added or, where the value is `del`, taken out."""
  values = copy.deepcopy(values_of(recipe))
  section, _, field = name.rpartition('.')
  place = values[section] if section else values
  if value == 'del':
    del place[field]
  else:
    place[field] = value
  return ConfigDict(values)


def out_of_range():
  """(recipe, field, value) of every kind that a field may not have: at least two a field."""
  for recipe in FULL:
    for name, rule in schema.RULES[recipe].items():
      for value in ODD[rule.kind]:
        yield recipe, name, value
      yield recipe, name, 'del'
      if rule.kind in ('int', 'float'):
        numbers = [float(number) for number in re.findall(r'-?[\d.]+(?:e\d+)?', rule.words)]
        as_kind = int if rule.kind == 'int' else float
        low, high = min(numbers), max(numbers)
        step = 1 if rule.kind == 'int' else 1e-6
        yield recipe, name, as_kind(low - step)
        yield recipe, name, as_kind(high + max(step, high * 1e-6))
        yield recipe, name, as_kind(-BIG)
        yield recipe, name, as_kind(BIG)
      elif 'one of' in rule.words:
        yield recipe, name, 'something else'
  for recipe, name in (('default', 'train.num_stps'), ('default', 'trian'), ('default', 'data.part'), ('default', 'foo'),
                       ('expert', 'train.batch_size'), ('expert', 'expert.widht'), ('default', 'num_steps')):
    yield recipe, name, 3


CASES = list(out_of_range())


def test_there_are_as_many_wrong_values_as_the_table_tells():
  assert len(CASES) >= 600 and {recipe for recipe, _, _ in CASES} == set(FULL)


@pytest.mark.parametrize('recipe', FULL)
def test_every_wrong_value_is_told_in_one_line_that_names_the_field_the_value_and_the_rule(recipe):
  for _, name, value in (case for case in CASES if case[0] == recipe):
    with pytest.raises(InputError) as caught:
      schema.check(changed(recipe, name, value), recipe)
    line = str(caught.value)
    flag = 'config' if recipe == 'default' else 'recipe'
    assert len(line.splitlines()) == 1 and line.startswith(f'{flag}.{name}'), line
    if value == 'del':
      assert f'{flag}.{name}: is missing; must be {schema.RULES[recipe][name].words}' == line
    elif name in schema.RULES[recipe]:
      assert line == f'{flag}.{name}={value!r}: must be {schema.RULES[recipe][name].words}'
    else:
      assert 'no such field' in line


@pytest.mark.parametrize('name, meant', [('train.num_stps', 'train.num_steps'), ('trian.num_steps', 'train.num_steps'),
                                         ('num_steps', 'train.num_steps'), ('train.lerning_rate', 'train.learning_rate'),
                                         ('data.window_steps', 'audio.window_steps')])
def test_a_mistyped_field_is_told_with_the_one_that_was_meant(name, meant):
  config = ConfigDict(recipes.load('default').get_config().to_dict())
  section, _, field = name.rpartition('.')
  if section and section not in config:
    config[section] = ConfigDict()
  (config[section] if section else config)[field] = 1
  with pytest.raises(InputError, match=f'config.{name}=1: no such field; did you mean {meant}[?]$'):
    schema.check(config)


@pytest.mark.parametrize('changes, told', [
    ({'train.batch_size': 63, 'train.blend_start_step': 0},
     'train.batch_size=63: must be a multiple of train.blend_every=16; give 64'),
    ({'audio.features_rate': 50.0}, r"audio.features_rate=50.0: is for a .npy file of steps, not for audio.features='mel.whisper'"),
    ({'field.kind': 'decoder', 'compose.sampling': 'direct'}, "compose.sampling='direct': must be 'grid'"),
    ({'field.kind': 'decoder', 'field.ensemble': True}, "field.ensemble=True: must be False with field.kind='decoder'"),
    ({'field.kind': 'decoder', 'field.use_time': True}, "field.use_time=True: must be False with field.kind='decoder'"),
    ({'field.kind': 'reference'}, 'field.skip_after=5: must be below field.depth=4'),
    ({'loss.lip_weight': 0.0, 'loss.frame_weight': 0.0, 'loss.lip_perceptual_weight': 0.0}, 'loss.lip_weight=0: must be above 0')])
def test_values_that_do_not_go_together_are_told(changes, told):
  config = recipes.load('default').get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(InputError, match=f'^config.{told}'):
    schema.check(config)


def test_all_that_is_wrong_is_told_at_once_a_line_each():
  config = recipes.load('default').get_config()
  config.train.learning_rate, config.audio.noise_std, config.field.kind = -1.0, float('nan'), 'x'
  with pytest.raises(InputError) as caught:
    schema.check(config, where='FILE: ')
  lines = str(caught.value).splitlines()
  assert len(lines) == 3 and all(line.startswith('FILE: config.') for line in lines)
  assert schema.problems({'seed': 0}) == [': is dict, must be an ml_collections.ConfigDict']


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(schema.DEFAULT)), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text('abc', min_size=1, max_size=3), st.integers(), max_size=2)))
def test_no_value_of_any_kind_is_more_than_a_line(name, value):
  config = changed('default', name, value)
  lines = schema.problems(config)
  assert all('\n' not in line for line in lines)
  if not lines:
    assert schema.DEFAULT[name].allows(value)


@pytest.mark.parametrize('recipe', recipes.names())
def test_every_installed_recipe_is_in_range_and_so_are_its_trials(recipe):
  module = recipes.load(recipe)
  schema.check(module.get_config(), 'expert' if recipe == 'expert' else 'default')
  if hasattr(module, 'get_hyper'):
    found = trials.load_hyper(module.__file__)
    assert trials.make_trials(hyper.ends(found) if isinstance(found, hyper.Space) else found, module.get_config(),
                              pathlib.Path('runs'))


def test_a_sweep_is_refused_before_its_first_trial_by_the_trial_and_field():
  found = hyper.sweep('train.learning_rate', [1e-3, -1.0])
  with pytest.raises(InputError, match=r'^train.learning_rate=-1.0: config.train.learning_rate=-1.0: must be > 0 … 1$'):
    trials.make_trials(found, recipes.load('default').get_config(), pathlib.Path('runs'))


def test_the_schema_has_the_fields_of_the_recipes_in_their_order():
  for recipe in FULL:
    named = [name for name, _ in schema.fields(recipes.load(recipe).get_config())]
    assert sorted(named) == sorted(schema.RULES[recipe])
  reference = dict(schema.fields(recipes.load('reference').get_config()))
  assert set(reference) - set(schema.DEFAULT) == set(schema.REFERENCE)


def test_a_range_in_a_fields_comment_is_the_one_that_is_enforced():
  spec = importlib.util.spec_from_file_location('generate', ROOT / 'docs' / 'generate.py')
  generate = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(generate)
  for recipe in FULL:
    for name, _, comment in generate.fields(recipe):
      for low, high in re.findall(r'(?<!range )(?<![\d−])(\d[\d.]*) … (\d[\d.]*)', comment):
        assert f'{low} … {high}' in schema.RULES[recipe][name].words, name
      for low in re.findall(r'(?:≥|at least) (\d+)', comment):
        assert schema.RULES[recipe][name].words.startswith((f'≥ {low}', f'{low} …')), name


@pytest.mark.parametrize('verb, flags', [
    ('train', ['--workdir=W', '--config.data.path=S', '--config.train.learning_rate=-1', '--config.data.split=half']),
    ('sweep', ['--config=ablation', '--workdir=W', '--config.data.path=S', '--config.train.learning_rate=-1',
               '--config.data.split=half']),
    ('expert', ['--workdir=W', '--subject=S', '--recipe.train.learning_rate=-1', '--recipe.data.split=half'])])
def test_each_verb_that_takes_a_recipe_refuses_before_it_writes(verb, flags, tmp_path):
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', verb, *flags], cwd=tmp_path, capture_output=True, text=True,
                        env=os.environ | {'PYTHONPATH': str(ROOT)})
  lines = done.stderr.splitlines()
  assert done.returncode == 2 and len(lines) == 2, done.stderr
  assert 'data.split=' in lines[0] and 'train.learning_rate=-1.0: must be > 0 … 1' in lines[1]
  assert list(tmp_path.iterdir()) == []
