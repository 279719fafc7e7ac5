"""report.html: what an evaluation found, in one file that opens without a network. No scripts; pictures and plots are inside.

`page.html.j2` holds the page and its words; here stands what it shows. Parts that there is nothing for are left out.
"""
import base64
import dataclasses
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from speech2lip_jax.common.figures import svg
from speech2lip_jax.common.files import write_text
from speech2lip_jax.report import pictures, plots, side_by_side
from speech2lip_jax.report.table import COLOURS, COLUMNS, GROUPS, Rows, best_rows, cell, shown_columns
from speech2lip_jax.report.verdict import verdict

if TYPE_CHECKING:
  from matplotlib.figure import Figure

HISTOGRAMS = ('psnr_lip', 'ssim_lip', 'cpbd_lip')  # metrics of a frame whose spread is shown
SHOWN_BASELINES = ('nearest_8_mean', 'kernel_ridge')  # below ours
WHOLE, SHEET = 280, 1120  # widths in pixels of a frame, and of the contact sheet
PACKAGES = ('speech2lip_jax', 'jax', 'flax', 'numpy', 'scipy', 'opencv-contrib-python', 'mediapipe')
CURVE_COLOURS = ('#2563eb', '#d97706', '#059669', '#9333ea', '#dc2626', '#0891b2', '#111827')


@dataclasses.dataclass(frozen=True)
class Report:
  """What the page shows.

  title, subtitle: plain text. names: what the rows are called. record: contents of metrics.json. rows: {name: metrics}, in the
  table's order. album: kept frames. film: an mp4 of true and ours, or empty. frame_of_row: frame id and clip's name (or '') of a
  row. histograms: {metric: {name: values [n]}}. openings: {name: [n]}, or empty. sound: [n·samples a frame] −1 … 1, or None. fps:
  frames a second. clip_starts: (row, clip name) of the rows' clips. log: lines of log.jsonl. contact_sheet: [H, W, 3] uint8 or
  None. settings: what it was made with, as text. with_published: the paper's table too.
  """
  title: str
  subtitle: str
  names: dict[str, str]
  record: dict[str, Any]
  rows: Rows
  album: pictures.Album
  film: bytes
  frame_of_row: Callable[[int], tuple[int, str]]
  histograms: dict[str, dict[str, np.ndarray]]
  openings: dict[str, np.ndarray]
  sound: np.ndarray | None
  fps: float
  clip_starts: list[tuple[int, str]]
  log: list[dict[str, float]]
  contact_sheet: np.ndarray | None
  settings: str
  with_published: bool


def write_report(path: os.PathLike | str, report: Report) -> None:
  """Writes the page."""
  environment = jinja2.Environment(loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True,
                                   undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
  page = environment.get_template('page.html.j2').render(
      report=report, verdict=verdict(report.rows, report.record), columns=[COLUMNS[name] for name in shown_columns(report.rows)],
      tables=_tables(report), strips=[pictures.data_uri(sheet) for sheet in strips(report, SHOWN_BASELINES)],
      whole=_whole(report), worst=_worst(report),
      film=f'data:video/mp4;base64,{base64.b64encode(report.film).decode()}' if report.film else None, film_s=side_by_side.MAX_S,
      apart=pictures.APART, opening=_opening(report), opening_s=plots.MAX_ROWS * plots.ROW_S, histograms=_histograms(report),
      training=_training(report), versions=versions(),
      contact_sheet=None if report.contact_sheet is None else pictures.data_uri(pictures.shrink(report.contact_sheet, SHEET)))
  write_text(path, page)


def _tables(report: Report) -> list[dict[str, Any]]:
  """The metrics in groups: a title, its columns, and for each row its key, name and (text, is best) of each column."""
  shown = shown_columns(report.rows)
  best = {name: best_rows(report.rows, name) for name in shown}
  groups = {group: [name for name in shown if COLUMNS[name].group == group] for group in GROUPS}
  return [{'title': group, 'columns': [COLUMNS[name] for name in names],
           'rows': [(key, report.names.get(key, key), [(cell(row, name), key in best[name]) for name in names])
                    for key, row in report.rows.items()]}
          for group, names in groups.items() if names]


def _heading(report: Report, row: int) -> str:
  """As in 'frame 1602, 64.08 s', the time since the first frame of all."""
  frame, _ = report.frame_of_row(row)
  return f'frame {frame}, {frame / report.fps:.2f} s'


def strips(report: Report, others: Sequence[str]) -> list[np.ndarray]:
  """The chosen frames' mouths, enlarged and labelled: true, ours, difference, and of the others those that were scored."""
  album = report.album
  shown = {name: album.others[name] for name in others if name in album.others}
  return pictures.mouth_sheets(album.chosen, [_heading(report, shot.row) for shot in album.chosen], shown, report.names)


def _whole(report: Report) -> str | None:
  """Some of the chosen frames, true above ours."""
  shots = report.album.chosen[::2]
  return pictures.data_uri(pictures.film_strip([[pictures.shrink(picture, WHOLE) for picture in (shot.pair.true, shot.pair.rgb)]
                                                for shot in shots])) if shots else None


def _worst(report: Report) -> dict[str, Any] | None:
  """The worst frames: their mouths in sheets; frame id, clip and dB of each."""
  shots = report.album.worst()
  if not shots:
    return None
  headings = [f'{i + 1}. {_heading(report, shot.row)}: {shot.psnr_lip:.2f} dB' for i, shot in enumerate(shots)]
  lines = [(*report.frame_of_row(shot.row), shot.psnr_lip) for shot in shots]
  sheets = pictures.mouth_sheets(shots, headings, {}, report.names)
  return {'sheets': [pictures.data_uri(sheet) for sheet in sheets], 'lines': lines}


def _plot_uri(figure: 'Figure') -> str:
  """The plot as SVG inside an address; as an <img> it shares no names with the page's other plots."""
  return f'data:image/svg+xml;base64,{base64.b64encode(svg(figure).encode()).decode()}'


def _opening(report: Report) -> str | None:
  known = {name: 100 * values for name, values in report.openings.items() if np.isfinite(values).any()}
  if not known:
    return None
  curves = [(report.names[name], values, COLOURS[name]) for name, values in known.items()]
  return _plot_uri(plots.opening_plot(curves, report.sound, report.fps, report.clip_starts))


def _histograms(report: Report) -> list[tuple[str, str]]:
  """(plot, what it shows) of each metric of a frame."""
  shown = []
  for metric, by_name in report.histograms.items():
    samples = {report.names[name]: (values, COLOURS[name]) for name, values in by_name.items() if np.isfinite(values).any()}
    if samples:
      heading = COLUMNS[metric].heading
      shown.append((_plot_uri(plots.histogram(samples, heading)), f'histogram of {heading}'))
  return shown


def _curves(log: list[dict[str, float]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """(steps, values) of everything that was logged twice or more often."""
  points: dict[str, list[tuple[float, float]]] = {}
  for record in log:
    for name, value in record.items():
      if name != 'step' and np.isfinite(value):
        points.setdefault(name, []).append((record['step'], value))
  steps_and_values = {name: np.array(pairs, float).T for name, pairs in points.items() if len(pairs) > 1}
  return {name: (steps, values) for name, (steps, values) in steps_and_values.items()}


def _training(report: Report) -> list[tuple[str, str]]:
  """(plot, what it shows) of the losses, the validation and the learning rate."""
  logged = _curves(report.log)
  losses = [name for name in logged if name.startswith('loss/')]
  losses = [name for name in losses if name != 'loss/total' or len(losses) > 2]
  groups = (('loss', True, losses),
            ('PSNR of the mouth on validation frames, dB', False, [name for name in logged if name.startswith('metric/psnr')]),
            ('learning rate', False, [name for name in logged if name == 'metric/learning_rate']))
  shown = []
  for title, log_y, names in groups:
    curves = [plots.Curve(name.split('/')[-1], *logged[name], CURVE_COLOURS[i % len(CURVE_COLOURS)])
              for i, name in enumerate(names)]
    if curves:
      shown.append((_plot_uri(plots.line_plot(curves, 'step', title, log_y)), f'{title} over steps'))
  return shown


def versions() -> str:
  """Versions of Python and of the packages that numbers depend on, a line each."""
  lines = [f'Python {platform.python_version()}, {platform.system()} {platform.machine()}']
  for name in PACKAGES:
    try:
      lines.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      continue
  return '\n'.join(lines)
