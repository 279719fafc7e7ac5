"""The report's plots. Sizes in pixels; a page may scale them."""
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from speech2lip_jax.common.figures import legend_above, literal, new_figure, plain

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

WIDTH, HEIGHT = 430, 250  # of a small plot
ROW_S, MAX_ROWS = 8.0, 6  # of the plot of the opening
NUM_BINS = 30
SOUND = '#9ca3af'


class Curve(NamedTuple):
  """A line: its name in the legend, x and y [n] (nan breaks it), a CSS colour."""
  name: str
  x: np.ndarray
  y: np.ndarray
  colour: str


def _small(x_label: str, title: str) -> 'tuple[Figure, Axes]':
  figure = new_figure(WIDTH, HEIGHT)
  axes = figure.subplots()
  plain(axes)
  axes.set_xlabel(x_label, fontsize=8)
  axes.set_title(title, fontsize=9, loc='left')
  return figure, axes


def line_plot(curves: list[Curve], x_label: str, title: str, log_y: bool = False) -> 'Figure':
  """Curves over a common x of whole numbers; log_y: a logarithmic vertical axis, on which values of 0 or less are left out."""
  figure, axes = _small(x_label, title)
  for curve in curves:
    axes.plot(curve.x, np.where(curve.y > 0, curve.y, np.nan) if log_y else curve.y, color=curve.colour, label=literal(curve.name),
              linewidth=1.3)
  axes.locator_params('x', integer=True)
  if log_y:
    from matplotlib.ticker import LogLocator, NullLocator
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_locator(NullLocator())
  if len(curves) > 1:
    legend_above(figure, axes)
  return figure


def histogram(samples: dict[str, tuple[np.ndarray, str]], x_label: str) -> 'Figure':
  """Shares of frames in common bins, an outline for each name → (values [n], colour); the first is filled."""
  known = {name: (values[np.isfinite(values)], colour) for name, (values, colour) in samples.items()}
  edges = np.histogram_bin_edges(np.concatenate([values for values, _ in known.values()]), NUM_BINS)
  figure, axes = _small(x_label, '% of frames')
  for i, (name, (values, colour)) in enumerate(known.items()):
    shares = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
    if i == 0:
      axes.stairs(shares, edges, color=colour, alpha=0.18, fill=True)
    axes.stairs(shares, edges, color=colour, label=literal(name), linewidth=1.3)
  legend_above(figure, axes)
  return figure


def opening_plot(curves: list[tuple[str, np.ndarray, str]], sound: np.ndarray | None, fps: float, breaks: list[tuple[int, str]]
                 ) -> 'Figure':
  """Lip opening over time under the waveform of the sound, in rows of `ROW_S` seconds, at most `MAX_ROWS`.

  Args:
    curves: (name, opening [n] in % of the face's height, colour).
    sound: [m] −1 … 1 over the same time, or None.
    fps: frames a second.
    breaks: (frame, name) where a clip begins.
  """
  duration = len(curves[0][1]) / fps
  num_rows = min(MAX_ROWS, max(1, int(np.ceil(duration / ROW_S))))
  row_s = min(ROW_S, duration)
  figure = new_figure(1120, 50 + 175 * num_rows)
  grid = figure.subplots(2 * num_rows, 1, height_ratios=[1, 3] * num_rows)
  starts = [frame for frame, _ in breaks if frame]
  times = np.insert((np.arange(len(curves[0][1])) + 0.5) / fps, starts, np.nan)
  peak = max(max(float(np.nanmax(values)) for _, values, _ in curves) * 1.05, 1.0)
  for row in range(num_rows):
    above, below = grid[2 * row:2 * row + 2]
    window = (row * row_s, (row + 1) * row_s)
    above.set_axis_off()
    plain(below)
    for frame, name in breaks:
      if window[0] <= frame / fps < window[1]:
        for axes in (above, below):
          axes.axvline(frame / fps, color='#6b7280', linewidth=0.8, linestyle=(0, (3, 3)))
        above.text(frame / fps, 1, f' {literal(name)}', fontsize=8, color='#6b7280', va='bottom',
                   transform=above.get_xaxis_transform())
    if sound is not None:
      _waveform(above, sound, duration, window)
    for name, values, colour in curves:
      below.plot(times, np.insert(values, starts, np.nan), color=colour, label=literal(name), linewidth=1.3)
    above.set_xlim(window)
    below.set_xlim(window)
    below.set_ylim(0, peak)
    below.set_ylabel('opening, %', fontsize=8)
  below.set_xlabel('s', fontsize=8)
  legend_above(figure, grid[1])
  return figure


def _waveform(axes: 'Axes', sound: np.ndarray, duration: float, window: tuple[float, float], count: int = 1000) -> None:
  """The part of the sound [m] in a window of seconds as a filled envelope, of the height of all the sound's peak."""
  first, last = (round(time / duration * len(sound)) for time in window)
  pieces = [piece for piece in np.array_split(sound[first:last], count) if len(piece)]
  times = np.linspace(window[0], min(window[1], duration), len(pieces))
  axes.fill_between(times, [piece.min() for piece in pieces], [piece.max() for piece in pieces], color=SOUND, linewidth=0)
  peak = max(float(np.abs(sound).max()), 1e-6)
  axes.set_ylim(-peak, peak)
