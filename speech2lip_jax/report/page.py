"""report.html: what an evaluation found, in one file that opens without a network. No scripts; pictures and plots are inside.

Verdict first, then the table, pictures, the mouth's opening under the sound, histograms, training, the subject, the settings.
Parts that there is nothing for are left out.
"""
import dataclasses
import html
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from speech2lip_jax.common.files import write_text
from speech2lip_jax.report import pictures, plots
from speech2lip_jax.report.table import COLUMNS, Rows, best_rows, cell, shown_columns
from speech2lip_jax.report.verdict import verdict

OURS, TRUE, BASELINE, OTHER = '#2563eb', '#111827', '#d97706', '#059669'
ROW_S, MAX_ROWS = 8.0, 6  # of the plot of the opening
PACKAGES = ('speech2lip_jax', 'jax', 'flax', 'numpy', 'scipy', 'scikit-image', 'opencv-python', 'mediapipe')


# Speech2Lip, ICCV 2023, table 1: Testset I (May, 500×500).
PAPER_COLUMNS = ('', 'PSNR dB ↑', 'SSIM ↑', 'CPBD', 'LMD px ↓', 'Sync conf. ↑', 'training', 'FPS')
PAPER = (('true frames', '–', '1', '.186', '0', '9.10', '', ''), ('Wav2Lip', '31.56', '.980', '.115', '3.05', '10.03', '', ''),
         ('AD-NeRF', '32.22', '.954', '.051', '2.99', '6.04', '80 h', '0.06'),
         ('DFRF', '33.29', '.974', '.094', '3.08', '5.25', '60 h', '0.04'),
         ('Speech2Lip', '34.82 (frame 37.25)', '.987', '.224', '2.98', '7.77', '30 h', '18'))


@dataclasses.dataclass(frozen=True)
class Report:
  """What the page shows.

  title, subtitle: plain text. names: what the rows are called. record: contents of metrics.json. rows: {name: metrics}, in the
  table's order. album: kept frames. frame_of_row: frame id and clip's name (or '') of a row. histograms: {metric: {name: values
  [n]}}. openings: {name: [n]}, or empty. sound: [n·samples a frame] −1 … 1, or None. fps: frames a second. clip_starts: (row,
  clip name) of the rows' clips. log: {name: (steps, values)}. contact_sheet: [H, W, 3] uint8 or None. settings: what it was
  made with, as text. with_published: the paper's table too.
  """
  title: str
  subtitle: str
  names: dict[str, str]
  record: dict[str, Any]
  rows: Rows
  album: pictures.Album
  frame_of_row: Callable[[int], tuple[int, str]]
  histograms: dict[str, dict[str, np.ndarray]]
  openings: dict[str, np.ndarray]
  sound: np.ndarray | None
  fps: float
  clip_starts: list[tuple[int, str]]
  log: dict[str, tuple[np.ndarray, np.ndarray]]
  contact_sheet: np.ndarray | None
  settings: str
  with_published: bool


def write_report(path: os.PathLike | str, report: Report) -> None:
  """Writes the page."""
  parts = [_head(report), _table(report), _paper(report), _strips(report), _worst(report), _openings(report),
           _histograms(report), _training(report), _subject(report), _settings(report)]
  style = f'<style>{_STYLE}</style>'
  write_text(path, f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(report.title)}</title>'
             f'<meta name="viewport" content="width=device-width, initial-scale=1">{style}</head><body><main>'
             + ''.join(parts) + '</main></body></html>\n')


def _section(title: str, body: str, note: str = '') -> str:
  note = f'<p class="note">{note}</p>' if note else ''
  return f'<section><h2>{html.escape(title)}</h2>{note}{body}</section>'


def _head(report: Report) -> str:
  items = ''.join(f'<li class="{line.grade}"><b>{html.escape(line.title)}</b><span>{html.escape(line.text)}</span></li>'
                  for line in verdict(report.rows, report.record))
  return (f'<header><h1>{html.escape(report.title)}</h1><p>{html.escape(report.subtitle)}</p></header>'
          f'<ul class="verdict">{items}</ul>')


def _definitions(summary: str, items: dict[str, str]) -> str:
  entries = ''.join(f'<dt>{html.escape(name)}</dt><dd>{html.escape(what)}</dd>' for name, what in items.items())
  return f'<details><summary>{summary}</summary><dl>{entries}</dl></details>' if items else ''


GROUPS = {'The picture': ('psnr_lip', 'ssim_lip', 'lpips_lip', 'cpbd_lip', 'lmd_px', 'seam_ratio', 'seam_lip_ratio',
                          'untouched_levels', 'psnr_img', 'ssim_img'),
          'Speech and motion': ('opening_corr', 'opening_lag_ms', 'opening_amplitude', 'sync_conf', 'sync_dist', 'sync_conf0',
                                'sync_acc5', 'jitter_ratio')}


def _group(report: Report, title: str, columns: list[str]) -> str:
  rows = []
  header = ''.join(f'<th title="{html.escape(COLUMNS[name].meaning)}">{COLUMNS[name].title}'
                   f'<small>{COLUMNS[name].unit_and_arrow}</small></th>' for name in columns)
  best = {name: best_rows(report.rows, name) for name in columns}
  for key, row in report.rows.items():
    cells = ''.join(f'<td{" class=best" if key in best[name] else ""}>{cell(row, name)}</td>' for name in columns)
    rows.append(f'<tr class="{html.escape(key)}"><th>{html.escape(report.names.get(key, key))}</th>{cells}</tr>')
  return (f'<div class="wide"><table><thead><tr><th class="group">{title}</th>{header}</tr></thead>'
          f'<tbody>{"".join(rows)}</tbody></table></div>')


def _table(report: Report) -> str:
  columns = shown_columns(report.rows)
  groups = {title: [name for name in names if name in columns] for title, names in GROUPS.items()}
  tables = ''.join(_group(report, title, names) for title, names in groups.items() if names)
  details = _definitions('What the columns mean', {COLUMNS[name].title: COLUMNS[name].meaning for name in columns})
  details += _definitions('What could not be measured, and why', report.record.get('reasons', {}))
  note = 'Means over frames. Arrows point to better.'
  if 'oracle' in report.rows:
    note += (' The best of ours and the baselines is bold. Baselines take their lips from the training part and are composed like '
             'ours; the oracle is the ceiling of the composition.')
  return _section('Numbers', tables + details, note)


def _paper(report: Report) -> str:
  if not report.with_published:
    return ''
  header = ''.join(f'<th>{title}</th>' for title in PAPER_COLUMNS)
  body = ''.join(f'<tr><th>{row[0]}</th>' + ''.join(f'<td>{cell}</td>' for cell in row[1:]) + '</tr>' for row in PAPER)
  table = f'<div class="wide"><table class="other"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
  return _section('Published numbers, of another data set', table,
                  '<strong>Not comparable with the numbers above</strong>: another person and video (Testset I, “May”, 500×500), '
                  'another mouth region, and the original SyncNet’s scale. From Wu et al., <i>Speech2Lip</i>, ICCV 2023, table 1.')


def _strips(report: Report) -> str:
  shots = report.album.chosen
  if not shots:
    return ''
  close = pictures.film_strip([list(pictures.close_up(shot.pair, 150)) for shot in shots])
  whole = pictures.film_strip([[pictures.shrink(shot.pair.true, 230), pictures.shrink(shot.pair.rgb, 230)] for shot in shots[::2]])
  ids = ', '.join(str(report.frame_of_row(shot.row)[0]) for shot in shots)
  body = (f'<figure>{pictures.inline_image(close, "close-ups of the mouth: true, ours, difference", "full")}'
          f'<figcaption>From top to bottom: true, ours, difference (×{pictures.DIFFERENCE_GAIN}, white is none), '
          f'evenly spaced frames {ids}.</figcaption></figure>'
          f'<figure>{pictures.inline_image(whole, "whole frames: true above, ours below", "full")}'
          '<figcaption>Whole frames: true above, ours below.</figcaption></figure>')
  return _section('Side by side', body)


def _worst(report: Report) -> str:
  shots = report.album.worst()
  if not shots:
    return ''
  cards = []
  for i, shot in enumerate(shots):
    strip = pictures.film_strip([[picture] for picture in pictures.close_up(shot.pair, 150)])
    frame, clip = report.frame_of_row(shot.row)
    clip = f' of {html.escape(clip)}' if clip else ''
    caption = f'<b>{i + 1}.</b> frame {frame}{clip}: <b>{shot.psnr_lip:.2f} dB</b>'
    image = pictures.inline_image(strip, 'true, ours, difference', 'full')
    cards.append(f'<figure class="card">{image}<figcaption>{caption}</figcaption></figure>')
  return _section(f'The {len(shots)} worst frames', f'<div class="cards">{"".join(cards)}</div>',
                  f'By PSNR of the mouth, worst first, at most one of {pictures.APART} in a row: true, ours, difference.')


def _openings(report: Report) -> str:
  known = {name: 100 * values for name, values in report.openings.items() if np.isfinite(values).any()}
  if not known:
    return ''
  num = len(next(iter(known.values())))
  step = max(1, round(ROW_S * report.fps))
  colours = {'truth': TRUE, 'model': OURS}
  peak = None if report.sound is None else max(float(np.abs(report.sound).max()), 1e-6)
  per_frame = None if report.sound is None else len(report.sound) / num
  y_range = (0.0, max(max(float(np.nanmax(values)) for values in known.values()) * 1.05, 1.0))
  rows = []
  for start in range(0, min(num, MAX_ROWS * step), step):
    stop = min(start + step, num)
    curves = [(report.names[name], values[start:stop], colours[name]) for name, values in known.items() if name in colours]
    sound = None if peak is None else report.sound[round(start * per_frame):round(stop * per_frame)] / peak
    breaks = [(row - start, name) for row, name in report.clip_starts if start <= row < stop]
    width = round(plots.LEFT + plots.RIGHT + (1120 - plots.LEFT - plots.RIGHT) * (stop - start) / step)
    if stop - start >= 0.25 * step:
      rows.append(f'<div style="width:{100 * width / 1120:.1f}%">'
                  + plots.opening_plot(curves, sound, report.fps, start / report.fps, breaks, y_range, width) + '</div>')
  shown = f'The first {MAX_ROWS * ROW_S:.0f} s of {num / report.fps:.0f} s. ' if num > MAX_ROWS * step else ''
  note = 'Gap of the inner lips over the height of the face, by landmarks, under the sound. Dashed lines begin a clip.'
  return _section('Lip opening over time', ''.join(rows), shown + note)


def _histograms(report: Report) -> str:
  colours = {'model': OURS, 'mean_lips': BASELINE, 'nearest_8_mean': OTHER, 'truth': TRUE}
  shown = []
  for metric, by_name in report.histograms.items():
    samples = {report.names[name]: (values, colours[name]) for name, values in by_name.items() if np.isfinite(values).any()}
    if samples:
      column = COLUMNS[metric]
      label = ' '.join(filter(None, (column.title, column.unit_and_arrow)))
      shown.append(f'<figure class="plot">{plots.histogram(samples, label)}</figure>')
  return _section('How the frames spread', f'<div class="grid">{"".join(shown)}</div>') if shown else ''


def _training(report: Report) -> str:
  losses = [name for name in report.log if name.startswith('loss/')]
  losses = [name for name in losses if name != 'loss/total' or len(losses) > 2]
  groups = (('loss', True, losses),
            ('PSNR of the mouth on validation frames, dB', False, [name for name in report.log if name.startswith('metric/psnr')]),
            ('learning rate', False, [name for name in report.log if name == 'metric/learning_rate']))
  colours, shown = (OURS, BASELINE, OTHER, '#9333ea', '#dc2626', '#0891b2', TRUE), []
  for label, log_y, names in groups:
    curves = [plots.Curve(name.split('/')[-1], *report.log[name], colours[i % len(colours)]) for i, name in enumerate(names)
              if np.isfinite(report.log[name][1]).sum() > 1]
    if curves:
      shown.append(f'<figure class="plot">{plots.line_plot(curves, "step", label, log_y)}</figure>')
  return _section('Training', f'<div class="grid">{"".join(shown)}</div>') if shown else ''


def _subject(report: Report) -> str:
  if report.contact_sheet is None:
    return ''
  sheet = pictures.inline_image(pictures.shrink(report.contact_sheet, 1120), "the subject's contact sheet", 'full')
  return _section('The subject', f'<figure>{sheet}<figcaption>What preprocess made of the video.</figcaption></figure>')


def read_log(path: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """The curves of a run's log.jsonl: {name: (steps, values)}; empty without the file. A line cut short is left out."""
  curves = {}
  for line in path.read_text().splitlines() if path.is_file() else []:
    try:
      entry = json.loads(line)
      for name, value in entry.items():
        if name != 'step':
          curves.setdefault(name, []).append((entry['step'], value))
    except (ValueError, KeyError):
      continue
  return {name: tuple(np.array(points, float).T) for name, points in curves.items()}


def versions() -> str:
  """Versions of Python and of the packages that numbers depend on, a line each."""
  lines = [f'Python {platform.python_version()}, {platform.system()} {platform.machine()}']
  for name in PACKAGES:
    try:
      lines.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      continue
  return '\n'.join(lines)


def _settings(report: Report) -> str:
  blocks = [('Versions', versions())] + ([('Config', report.settings)] if report.settings else [])
  body = ''.join(f'<details><summary>{name}</summary><pre>{html.escape(text)}</pre></details>' for name, text in blocks)
  return _section('Made with', body)


_STYLE = '''
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0;background:#f8fafc;color:#1f2937;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}header p{margin:0 0 18px;color:#6b7280}
h2{font-size:19px;margin:0 0 10px}
section{background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:18px 20px;margin-top:18px}
.note,figcaption{color:#6b7280;font-size:14px;margin:0 0 12px}figcaption{margin:6px 0 0}
.verdict{list-style:none;display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:0;padding:0}
.verdict li{background:#fff;border:1px solid #e5e7eb;border-left:5px solid #9ca3af;border-radius:8px;padding:10px 14px}
.verdict b{display:block;font-size:18px}.verdict span{font-size:14px;color:#4b5563}
.verdict .good{border-left-color:#16a34a}.verdict .fair{border-left-color:#d97706}.verdict .poor{border-left-color:#dc2626}
.wide{overflow-x:auto;margin-bottom:14px}.group{text-align:left!important}table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}
td,thead th{padding:5px 7px;text-align:right;white-space:nowrap;border-bottom:1px solid #f1f5f9}
thead th{font-weight:600;vertical-align:bottom;border-bottom:2px solid #e5e7eb}
thead small{display:block;color:#6b7280;font-weight:400}
tbody th{text-align:left;font-weight:500;padding:5px 14px 5px 0;white-space:nowrap;border-bottom:1px solid #f1f5f9;
position:sticky;left:0;background:#fff}
tr.model td,tr.model th{background:#eff6ff}tr.model th{font-weight:700}td.best{font-weight:700}
tr.truth,tr.oracle{color:#6b7280}.other{color:#6b7280;width:auto}
details{margin-top:10px;font-size:14px}summary{cursor:pointer;color:#2563eb}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:8px 0}dt{font-weight:600}dd{margin:0}
figure{margin:0 0 16px}.full{width:100%;height:auto;display:block;border-radius:4px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:14px}.card{margin:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:16px}.plot{margin:0}
svg{width:100%;height:auto;display:block;font-family:inherit}
pre{background:#f8fafc;border:1px solid #e5e7eb;border-radius:6px;padding:10px;overflow-x:auto;font-size:12.5px;line-height:1.4}
@media print{body{background:#fff}section{break-inside:avoid}}
'''
