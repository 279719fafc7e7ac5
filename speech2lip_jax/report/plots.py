"""Plots as SVG text, to be put into a page as they are. Sizes are in the SVG's own units; a page scales them to its width."""
import html
from typing import NamedTuple

import numpy as np

INK, GREY, FAINT = '#1f2937', '#6b7280', '#e5e7eb'
LEFT, RIGHT, TOP, BOTTOM = 54, 20, 12, 34  # room around a plot
MAX_POINTS = 1200  # of a curve


class Curve(NamedTuple):
  """A line: its name in the legend, x and y [n] (nan breaks it), a CSS colour."""
  name: str
  x: np.ndarray
  y: np.ndarray
  colour: str


def _number(value: float) -> str:
  return f'{value:.4g}'


def ticks(low: float, high: float, count: int = 5) -> np.ndarray:
  """About `count` round numbers in low … high."""
  step = 10.0**np.floor(np.log10((high - low) / count))
  step *= min((1, 2, 5, 10), key=lambda m: abs((high - low) / (m * step) - count))
  return np.round(np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step, 10) + 0.0  # no −0


def _range(values: list[np.ndarray]) -> tuple[float, float]:
  """Smallest and largest finite value of all, never equal."""
  finite = np.concatenate([np.asarray(v, float)[np.isfinite(v)] for v in values] or [np.zeros(1)])
  low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
  return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def text(x: float, y: float, words: str, anchor: str = 'start', colour: str = GREY, size: int = 12) -> str:
  """A line of text."""
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{html.escape(words)}</text>'


def polyline(x: np.ndarray, y: np.ndarray, colour: str, width: float = 1.6) -> str:
  """Lines through the points, broken at nan."""
  stride = max(1, len(x) // MAX_POINTS)
  x, y = np.asarray(x, float)[::stride], np.asarray(y, float)[::stride]
  parts = []
  for run in np.split(np.arange(len(x)), np.flatnonzero(np.diff(np.isfinite(y).astype(int))) + 1):
    if len(run) and np.isfinite(y[run[0]]):
      points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x[run], y[run], strict=True))
      parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>')
  return ''.join(parts)


def picture(width: int, height: int, body: str, label: str) -> str:
  """The SVG element; `label` is read to those who cannot see it."""
  return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}" '
          f'xmlns="http://www.w3.org/2000/svg">{body}</svg>')


def legend(curves: list[tuple[str, str]], right: float, y: float) -> str:
  """Names (name, colour) in a row that ends at `right`."""
  parts, x = [], right
  for name, colour in reversed(curves):
    x -= 7.0 * len(name)
    parts.append(text(x, y, name, colour=INK))
    parts.append(f'<line x1="{x - 22:.1f}" y1="{y - 4:.1f}" x2="{x - 6:.1f}" y2="{y - 4:.1f}" stroke="{colour}" stroke-width="3"/>')
    x -= 38
  return ''.join(parts)


class Axes:
  """A frame with ticks: maps values to places. log_y: a logarithmic vertical axis (values > 0)."""

  def __init__(self, width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float], x_label: str,
               y_label: str, log_y: bool = False, head: int = 18):
    self.width, self.height, self._log = width, height, log_y
    self._x, self._y = x_range, tuple(np.log10(y_range)) if log_y else y_range
    self._top = TOP + head
    self._x_label, self._y_label = x_label, y_label

  def x(self, values: np.ndarray) -> np.ndarray:
    """Places of values along x."""
    share = (np.asarray(values, float) - self._x[0]) / (self._x[1] - self._x[0])
    return LEFT + share * (self.width - LEFT - RIGHT)

  def y(self, values: np.ndarray) -> np.ndarray:
    """Places of values along y."""
    values = np.asarray(values, float)
    if self._log:
      values = np.log10(np.where(values > 0, values, np.nan))
    share = (values - self._y[0]) / (self._y[1] - self._y[0])
    return self.height - BOTTOM - share * (self.height - BOTTOM - self._top)

  def frame(self) -> str:
    """Grid lines, numbers and labels."""
    bottom, parts = self.height - BOTTOM, []
    if self._log:
      at = np.outer(10.0**np.arange(np.floor(self._y[0]), np.ceil(self._y[1])), (1, 2, 5)).reshape(-1)
      at = at[(np.log10(at) >= self._y[0]) & (np.log10(at) <= self._y[1])]
      at = at if len(at) < 8 else at[np.isclose(np.log10(at) % 1, 0)]
    else:
      at = ticks(*self._y, 4)
    for value in at:
      y = float(self.y(value))
      parts += [f'<line x1="{LEFT}" y1="{y:.1f}" x2="{self.width - RIGHT}" y2="{y:.1f}" stroke="{FAINT}"/>',
                text(LEFT - 6, y + 4, _number(value), 'end')]
    for value in ticks(*self._x, max(3, self.width // 90)):
      x = float(self.x(value))
      parts += [f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="{GREY}"/>',
                text(x, bottom + 17, _number(value), 'middle')]
    parts += [f'<line x1="{LEFT}" y1="{bottom}" x2="{self.width - RIGHT}" y2="{bottom}" stroke="{GREY}"/>',
              text(self.width - RIGHT, self.height - 3, self._x_label, 'end'), text(LEFT, TOP + 4, self._y_label, colour=INK)]
    return ''.join(parts)


def line_plot(curves: list[Curve], x_label: str, y_label: str, log_y: bool = False, width: int = 430, height: int = 230) -> str:
  """Curves over a common x."""
  positive = [curve.y[curve.y > 0] if log_y else curve.y for curve in curves]
  axes = Axes(width, height, _range([curve.x for curve in curves]), _range(positive), x_label, y_label, log_y)
  lines = ''.join(polyline(axes.x(curve.x), axes.y(curve.y), curve.colour) for curve in curves)
  names = legend([(curve.name, curve.colour) for curve in curves], width - RIGHT, TOP + 4) if len(curves) > 1 else ''
  return picture(width, height, axes.frame() + lines + names, f'{y_label} over {x_label}')


def histogram(samples: dict[str, tuple[np.ndarray, str]], x_label: str, width: int = 430, height: int = 230) -> str:
  """Shares of frames in 30 common bins, an outline for each name → (values [n], colour); the first is filled."""
  known = {name: (values[np.isfinite(values)], colour) for name, (values, colour) in samples.items()}
  low, high = _range([values for values, _ in known.values()])
  edges = np.linspace(low, high, 31)
  shares = {name: 100 * np.histogram(values, edges)[0] / max(len(values), 1) for name, (values, _) in known.items()}
  axes = Axes(width, height, (low, high), (0, max(float(share.max()) for share in shares.values()) * 1.05 or 1), x_label,
              '% of frames')
  parts = []
  for i, (name, share) in enumerate(shares.items()):
    x = axes.x(np.repeat(edges, 2))
    y = axes.y(np.concatenate([[0], np.repeat(share, 2), [0]]))
    if i == 0:
      points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x, y, strict=True))
      parts.append(f'<polygon points="{points}" fill="{known[name][1]}" opacity="0.18"/>')
    parts.append(polyline(x, y, known[name][1]))
  names = legend([(name, colour) for name, (_, colour) in known.items()], width - RIGHT, TOP + 4)
  return picture(width, height, axes.frame() + ''.join(parts) + names, f'histogram of {x_label}')


def waveform(samples: np.ndarray, x: tuple[float, float], middle: float, half_height: float, colour: str = '#9ca3af') -> str:
  """The sound's envelope [n] as a filled shape between places x, about the height `middle`; scaled by the caller's peak of 1."""
  count = max(2, min(int(x[1] - x[0]), len(samples)))
  pieces = np.array_split(np.asarray(samples, float), count)
  high, low = np.array([piece.max() for piece in pieces]), np.array([piece.min() for piece in pieces])
  at = np.linspace(*x, count)
  top = [f'{a:.1f},{middle - half_height * b:.1f}' for a, b in zip(at, high, strict=True)]
  bottom = [f'{a:.1f},{middle - half_height * b:.1f}' for a, b in zip(at[::-1], low[::-1], strict=True)]
  return f'<polygon points="{" ".join(top + bottom)}" fill="{colour}"/>'


def opening_plot(curves: list[tuple[str, np.ndarray, str]], sound: np.ndarray | None, fps: float, first_s: float,
                 breaks: list[tuple[int, str]], y_range: tuple[float, float], width: int = 1120, height: int = 190) -> str:
  """Lip opening over time under the waveform of the sound.

  Args:
    curves: (name, opening [n] in % of the face's height, colour).
    sound: [m] −1 … 1 over the same time, or None.
    fps: frames a second. first_s: time of the first frame in the axis's seconds.
    breaks: (frame, name) where a clip begins.
    y_range: of the opening, the same in all rows of a page.
  """
  num = len(curves[0][1])
  head = 62 if sound is not None else 18
  axes = Axes(width, height, (first_s, first_s + num / fps), y_range, 's', '', head=head - 6)
  parts = [axes.frame(), text(LEFT, head + 2, 'opening, % of the face', colour=INK)]
  at = first_s + (np.arange(num) + 0.5) / fps
  if sound is not None:
    parts.append(waveform(sound, (float(axes.x(first_s)), float(axes.x(first_s + num / fps))), 30, 22))
  for frame, name in breaks:
    x = float(axes.x(first_s + frame / fps))
    parts.append(f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{GREY}" stroke-dasharray="3 3"/>')
    parts.append(text(x + 4, 12, name, size=11))
  breaking = np.isin(np.arange(num), [frame for frame, _ in breaks if frame])
  for _, values, colour in curves:
    pieces = np.split(np.arange(num), np.flatnonzero(breaking))
    parts += [polyline(axes.x(at[rows]), axes.y(values[rows]), colour) for rows in pieces]
  parts.append(legend([(name, colour) for name, _, colour in curves], width - RIGHT, head + 2))
  return picture(width, height, ''.join(parts), 'lip opening over time under the sound')
