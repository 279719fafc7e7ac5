"""Each kind of hostile input comes to its line or its result: a sample, and all with -m slow -s, which prints the table."""

import pytest

from tests.hostile import harness
from tests.hostile.kinds import KINDS

AREAS = {
  'hear': 'sound',
  'look': 'video',
  'see': 'video',
  'source': 'video',
  'tracks': 'landmarks in a file',
  'features': 'arrays',
  'weights': 'arrays',
  'picture': 'pictures',
  'text': 'text that is spoken',
}


def area_of(name):
  return 'names' if ' name ' in name else AREAS[KINDS[name].act]


def test_there_are_150_kinds():
  assert len(KINDS) >= 150


def test_a_sample_of_hostile_input_comes_to_its_line_or_its_result():
  harness.check(harness.results(list(KINDS)[3::9]), area_of)


@pytest.mark.slow
def test_all_hostile_input_comes_to_its_line_or_its_result():
  harness.check(harness.results(list(KINDS)), area_of)
