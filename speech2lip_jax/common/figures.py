"""Figures by matplotlib's object interface: no pyplot, no state between figures, and the same file from the same numbers.

matplotlib is imported by the functions, so that programs that plot nothing need not wait for it.
"""
import io
import os
from typing import TYPE_CHECKING

from speech2lip_jax.common.errors import one_line
from speech2lip_jax.common.files import open_atomic

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DPI = 100
_METADATA = {'Date': None, 'Creator': None, 'Format': None, 'Type': None}  # nothing that differs from one day to the next


def new_figure(width: int, height: int) -> 'Figure':
  """An empty figure of width × height pixels; its parts are laid out so that none covers another."""
  from matplotlib.figure import Figure
  return Figure((width / DPI, height / DPI), dpi=DPI, layout='constrained')


def literal(name: str) -> str:
  """A name of the user's as a text or label that shows it: dollars would be formulas, and labels that begin with _ are left out."""
  return (' ' if name.startswith('_') else '') + one_line(name).replace('$', r'\$')


def plain(axes: 'Axes', size: int = 8) -> None:
  """Leaves the axes a bottom line and horizontal grid lines, numbers in `size` points."""
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.grid(axis='y', color='#e5e7eb', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(labelsize=size, labelcolor='#6b7280', color='#6b7280')
  axes.tick_params(axis='y', length=0)


def legend_above(figure: 'Figure', axes: 'Axes', size: int = 8) -> None:
  """The names of the axes' curves above all axes, in as many rows as they need."""
  handles, names = axes.get_legend_handles_labels()
  for columns in range(len(names), 0, -1):
    legend = figure.legend(handles, names, loc='outside upper right', ncols=columns, frameon=False, fontsize=size,
                           handlelength=1.5, columnspacing=1.5, borderpad=0, borderaxespad=0.2)
    if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
      return
    legend.remove()


def svg(figure: 'Figure') -> str:
  """The figure as an SVG document; letters are shapes, so that it looks the same wherever it is opened."""
  import matplotlib
  buffer = io.StringIO()
  with matplotlib.rc_context({'svg.hashsalt': 'speech2lip', 'svg.fonttype': 'path'}):
    figure.savefig(buffer, format='svg', metadata=_METADATA)
  return buffer.getvalue()


def write_png(figure: 'Figure', path: os.PathLike | str) -> None:
  """Writes the figure as PNG; the file appears under its name only when complete."""
  with open_atomic(path) as file:
    figure.savefig(file, format='png', metadata={'Software': None}, pil_kwargs={'compress_level': 3})
