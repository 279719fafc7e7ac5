"""Progress on standard error: lines without a terminal, honest times, no silent stage."""
import io
import re
import time
import types

import pytest

from speech2lip_jax.common import progress


class Screen(io.StringIO):
  """A standard error that may be a terminal."""

  def __init__(self, is_terminal):
    super().__init__()
    self._is_terminal = is_terminal

  def isatty(self):
    return self._is_terminal


def _shown_on(screen, monkeypatch):
  monkeypatch.setattr(progress, 'sys', types.SimpleNamespace(stderr=screen))  # pytest sets sys.stderr anew after fixtures
  return screen


@pytest.fixture
def file(monkeypatch):
  return _shown_on(Screen(False), monkeypatch)


@pytest.fixture
def terminal(monkeypatch):
  return _shown_on(Screen(True), monkeypatch)


@pytest.fixture
def clock(monkeypatch):
  """A clock that is set by hand, clock[0] seconds, for the module and for tqdm."""
  now = [1000.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  return now


def test_without_a_terminal_the_first_and_the_last_state_are_lines(file):
  assert list(progress.Bar(range(500), total=500, title='frames')) == list(range(500))
  lines = file.getvalue().splitlines()
  assert len(lines) == 2 and '\r' not in file.getvalue()
  assert lines[0].startswith('frames: 0/500 frames') and lines[1].startswith('frames: 500/500 frames')


def test_without_a_terminal_a_line_comes_every_so_often(file, clock, monkeypatch):
  with progress.Bar(total=100, unit='step') as bar:
    bar.mininterval = 0
    for _ in range(100):
      clock[0] += 1
      bar.update()
  lines = file.getvalue().splitlines()
  assert len(lines) == 2 + 100 // int(progress.LINE_S)
  assert lines[1].startswith('12/100 steps') and '01:28 left' in lines[1]


def test_in_a_terminal_the_bar_is_redrawn_in_place(terminal):
  list(progress.Bar(range(3), total=3, title='lips'))
  assert terminal.getvalue().count('\n') == 1 and '\rlips: 100%' in terminal.getvalue()


def test_the_time_left_does_not_count_the_step_that_compiled(terminal, clock):
  with progress.Bar(total=12, unit='step', compiles=True) as bar:
    assert 'compiling' in str(bar) and '?step/s' in str(bar)
    clock[0] += 60
    bar.update()
    assert 'compiling' not in str(bar) and '<?' in str(bar), 'nothing is known before a warm step'
    clock[0] += 2
    bar.update()
    assert bar.warm == (1, 2.0) and '<00:20' in str(bar)
    bar.compiling()
    assert 'compiling' in str(bar) and bar.warm == (0, 0.0)
    clock[0] += 90
    bar.update()
    clock[0] += 3
    bar.update()
    assert bar.warm == (1, 3.0) and '<00:24' in str(bar)


def test_compiling_is_a_line_of_its_own_at_once(file):
  with progress.Bar(total=3, unit='step') as bar:
    bar.update()
    bar.compiling()
    assert file.getvalue().splitlines()[-1].endswith(', compiling')


def test_a_resumed_count_starts_where_it_was(terminal, clock):
  with progress.Bar(total=100, initial=90, unit='step') as bar:
    clock[0] += 4
    bar.update(2)
    assert '92/100' in str(bar) and '<00:16' in str(bar)


def test_a_hidden_bar_prints_nothing_and_still_iterates(file):
  bar = progress.Bar(range(4), total=4, show=False, compiles=True)
  bar.compiling()
  assert list(bar) == [0, 1, 2, 3] and file.getvalue() == ''


def test_a_stage_is_named_before_it_begins_and_timed_when_it_was_slow(file, clock):
  with progress.stage('sound'):
    assert file.getvalue() == 'sound …\n'
    clock[0] += progress.SLOW_S
  assert file.getvalue() == 'sound …\n'
  with progress.stage('tracking'):
    clock[0] += 70
  assert re.search(r'tracking …\ntracking: 70 s\n$', file.getvalue())


def test_a_slow_stage_says_now_and_then_that_it_goes_on(file, monkeypatch):
  monkeypatch.setattr(progress, 'SLOW_S', 0.02)
  monkeypatch.setattr(progress, 'LINE_S', 0.02)
  with progress.stage('tracking'):
    while file.getvalue().count('tracking: 0 s so far') < 2:
      time.sleep(0.01)
  assert file.getvalue().endswith('tracking: 0 s\n')
