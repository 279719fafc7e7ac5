"""Good files with changed bytes are read, or refused in one line: 20 of each container, and SPEECH2LIP_FUZZ (500) with -m slow.

SPEECH2LIP_FUZZ_SEED is the first of the seeds, 0 if not given: another night, other bytes.
"""
import os

import pytest

from tests.hostile import fuzz, harness


def container_of(name):
  return name.rsplit(' ', 1)[0]


def flips(seed, count):
  return harness.results([f'{kind} {number}' for kind in fuzz.SEEDS for number in range(seed, seed + count)], 'tests.hostile.fuzz')


def test_changed_bytes_are_read_or_refused_in_one_line():
  harness.check(flips(0, 20), container_of)


@pytest.mark.slow
def test_many_changed_bytes_are_read_or_refused_in_one_line():
  seed, count = int(os.environ.get('SPEECH2LIP_FUZZ_SEED', '0')), int(os.environ.get('SPEECH2LIP_FUZZ', '500'))
  harness.check(flips(seed, count), container_of)
