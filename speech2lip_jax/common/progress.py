"""How far work is, on standard error: a bar in a terminal, a plain line now and then where the output is none."""
import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

LINE_S = 12.0  # from one plain line to the next
SLOW_S = 5.0  # a stage that took longer says so at its end

_PLAIN = '{desc}{n_fmt}/{total_fmt} {unit}s, {elapsed} passed, {remaining} left{postfix}'


class _Lines:
  """What a bar writes to where there is no terminal: of its redraws the first, one every LINE_S and the last are lines."""

  def __init__(self, stream: TextIO):
    self._stream, self._latest, self._printed, self.due = stream, '', '', 0.0

  def write(self, text: str) -> None:
    """Takes what a bar draws, '\\r' + its text, or the '\\n' at its end."""
    self._latest = text.strip('\r\n ') or self._latest
    if self._latest != self._printed and (text.endswith('\n') or time.monotonic() >= self.due):
      print(self._latest, file=self._stream, flush=True)
      self._printed, self.due = self._latest, time.monotonic() + LINE_S

  def flush(self) -> None:
    """Each line is flushed when it is printed."""


class Bar(tqdm):
  """tqdm's bar whose time left comes from warm steps alone: those after the last compilation.

  Iterating it counts each item when the next one is asked for.
  """

  def __init__(self, iterable: Iterable | None = None, *, total: int | None = None, initial: int = 0, title: str = '',
               unit: str = 'frame', show: bool = True, compiles: bool = False):
    """compiles: the first step compiles. title and show are tqdm's `desc` and `not disable`; the others are tqdm's own."""
    self._lines = None if sys.stderr.isatty() else _Lines(sys.stderr)
    self._is_compiling, self._warm_since, self._warm_from = compiles, time.monotonic(), initial
    super().__init__(
        iterable, total=total, initial=initial, desc=f'{title}: ' if title else None, unit=unit, disable=not show,
        file=self._lines or sys.stderr, dynamic_ncols=self._lines is None, bar_format=_PLAIN if self._lines else None,
        postfix='compiling' if compiles else None)

  def __iter__(self) -> Iterator[Any]:
    with self:
      for item in self.iterable:
        yield item
        self.update()

  @property
  def warm(self) -> tuple[int, float]:
    """Steps since the last compilation, and the seconds that they took; none while one runs."""
    return (0, 0.0) if self._is_compiling else (self.n - self._warm_from, time.monotonic() - self._warm_since)

  @property
  def format_dict(self) -> dict[str, Any]:
    """tqdm's numbers with the rate of warm steps; 0, shown as '?', before there is one."""
    steps, seconds = self.warm
    return super().format_dict | {'rate': steps / seconds if steps and seconds else 0}

  def compiling(self) -> None:
    """Shows 'compiling' until the next `update`, whose step is not counted as warm."""
    self._is_compiling = True
    if self._lines:
      self._lines.due = 0.0  # nothing else is printed until it is done
    self.set_postfix_str('compiling')

  def update(self, n: float | None = 1) -> bool | None:
    """Counts n steps."""
    if self._is_compiling:
      self._is_compiling, self._warm_since, self._warm_from = False, time.monotonic(), self.n + n
      self.set_postfix_str('', refresh=False)
    return super().update(n)


@contextlib.contextmanager
def stage(name: str, show: bool = True) -> Iterator[None]:
  """Says that work without a count begins; if it takes more than SLOW_S, now and then how long it has taken, and at its end."""
  started, is_over = time.monotonic(), threading.Event()

  def tell(more: str) -> None:
    tqdm.write(f'{name}: {time.monotonic() - started:.0f} s{more}', file=sys.stderr)

  def tell_now_and_then() -> None:
    wait_s = SLOW_S
    while not is_over.wait(wait_s):
      tell(' so far')
      wait_s = LINE_S

  if not show:
    yield
    return
  tqdm.write(f'{name} …', file=sys.stderr)
  thread = threading.Thread(target=tell_now_and_then, daemon=True)
  thread.start()
  try:
    yield
  finally:
    is_over.set()
    thread.join()
  if time.monotonic() - started > SLOW_S:
    tell('')
