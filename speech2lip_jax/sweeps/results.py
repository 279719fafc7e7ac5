"""What a sweep's trials have come to: their progress from their logs, and results.csv, table.md, table.csv, plot.svg, best.py."""
import csv
import io
import json
import pathlib
import pprint
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.figures import literal, new_figure, plain, svg
from speech2lip_jax.common.files import write_text
from speech2lip_jax.workdir.summary import read_log

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# Column: (heading, format, whether it is plotted).
COLUMNS = {
    'psnr_lip': ('psnr_lip dB ↑', 'z.2f', True), 'ssim_lip': ('ssim_lip ↑', 'z.4f', True),
    'psnr_img': ('psnr_img dB ↑', 'z.2f', False),
    'sync_conf0': ('conf0 ↑', 'z.3f', True), 'opening_corr': ('opening corr ↑', 'z.3f', True),
    'psnr_lip_val': ('psnr_lip, validation', 'z.2f', False), 'step_s': ('s a step', '.3f', False),
    'num_parameters': ('parameters', ',.0f', False)}
SELECTED_BY = 'psnr_lip_val'  # never by the test frames


class Trial(NamedTuple):
  """One training of a sweep. name: of its folder. row: the name without the seed. overrides: of config fields, by get_hyper."""
  name: str
  row: str
  overrides: dict[str, Any]
  config: ConfigDict
  workdir: pathlib.Path

  @property
  def metrics_json(self) -> pathlib.Path:
    """What `speech2lip evaluate` writes last: a trial that has it is finished."""
    return self.workdir / 'eval' / 'metrics.json'

  @property
  def log(self) -> pathlib.Path:
    """What the trial's commands printed."""
    return self.workdir / 'sweep.log'


class Progress(NamedTuple):
  """How far a training is. eta_s: seconds left. psnr_lip_val: dB, the last; None before the first."""
  step: int
  eta_s: float | None
  psnr_lip_val: float | None


def progress(trial: Trial) -> Progress:
  """The trial's progress by its log."""
  records = read_log(trial.workdir / 'log.jsonl')
  last = lambda name: next((record[name] for record in reversed(records) if name in record), None)
  return Progress(int(last('step') or 0), last('time/eta_s'), last('metric/psnr_lip_val'))


def step_seconds(records: list[dict[str, float]]) -> float | None:
  """Median seconds of a step of the last phase, that with every loss on; its first logged part, which compiles, is left out."""
  timed = [record for record in records if 'time/step_s' in record]
  losses = lambda record: {name for name in record if name.startswith('loss/')}
  last_phase = [record['time/step_s'] for record in timed if losses(record) == losses(timed[-1])]
  return float(np.median(last_phase[1:] or last_phase)) if last_phase else None


def result(trial: Trial) -> dict[str, float | None]:
  """The finished trial's `COLUMNS`; None where a metric was not measured."""
  records = read_log(trial.workdir / 'log.jsonl')
  record = json.loads(trial.metrics_json.read_text())
  scores = [line['metric/psnr_lip_val'] for line in records if 'metric/psnr_lip_val' in line]
  numbers = [line['metric/num_parameters'] for line in records if 'metric/num_parameters' in line]
  of_training = {'psnr_lip_val': max(scores, default=None), 'step_s': step_seconds(records),
                 'num_parameters': numbers[-1] if numbers else None}
  return {name: of_training.get(name, record.get(name)) for name in COLUMNS}


Rows = dict[str, list[dict[str, float | None]]]


def _spread(row: list[dict[str, float | None]], name: str) -> tuple[float, float | None] | None:
  """(mean, standard deviation over the seeds or None of one) of a column; None where nobody has it."""
  values = [value for result in row if (value := result[name]) is not None]
  return (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None) if values else None


def _columns(rows: Rows) -> list[str]:
  return [name for name in COLUMNS if any(_spread(row, name) for row in rows.values())]


def table(rows: Rows) -> str:
  """The rows as a Markdown table: mean ± standard deviation over seeds."""
  columns = _columns(rows)
  lines = ['| | ' + ' | '.join(COLUMNS[name][0] for name in columns) + ' | seeds |', '|---' * (len(columns) + 2) + '|']

  def cell(row, name):
    form, spread = COLUMNS[name][1], _spread(row, name)
    if spread is None:
      return '–'
    mean, deviation = spread
    return format(mean, form) + (f' ± {deviation:{form}}' if deviation is not None and name != 'num_parameters' else '')

  for name, row in rows.items():
    lines.append(f'| {name} | ' + ' | '.join(cell(row, column) for column in columns) + f' | {len(row)} |')
  return '\n'.join(lines) + '\n'


def plot(rows: Rows) -> 'Figure':
  """For each plotted column a panel with a dot for each seed of each row and a bar at their mean."""
  panels = [name for name in _columns(rows) if COLUMNS[name][2]]
  figure = new_figure(8 * max(map(len, rows)) + 260 * len(panels), 22 * len(rows) + 80)
  for axes, column in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
    dots = [(value, i) for i, row in enumerate(rows.values()) for result in row if (value := result[column]) is not None]
    means = [(spread[0], i) for i, row in enumerate(rows.values()) if (spread := _spread(row, column))]
    axes.scatter(*zip(*means, strict=True), marker='|', s=200, linewidths=3, color='#b4503c')
    axes.scatter(*zip(*dots, strict=True), s=40, color='#3c64b4', alpha=0.6, linewidths=0)
    axes.set_title(COLUMNS[column][0], fontsize=9)
    axes.set_yticks(range(len(rows)), [literal(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.locator_params('x', nbins=4)
    plain(axes)
  return figure


def best(results: Sequence[tuple[Trial, dict[str, float | None]]]) -> Trial | None:
  """The trial that was best on validation frames in the row that was best by its mean; None where nothing has a score."""
  scored = [(trial, result[SELECTED_BY]) for trial, result in results if result[SELECTED_BY] is not None]
  if not scored:
    return None
  mean = lambda row: np.mean([score for trial, score in scored if trial.row == row])
  return max(scored, key=lambda pair: (mean(pair[0].row), pair[1]))[0]


def _csv(header: list[str], lines: list[list]) -> str:
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(header)
  writer.writerows(lines)
  return buffer.getvalue()


def write_results(trials: Sequence[Trial], folder: pathlib.Path) -> str:
  """Writes the files of all finished trials into `folder`, in the order of get_hyper; returns the table.

  results.csv has a line for each trial, table.md and table.csv one for each row, and best.py is a config file for
  `speech2lip train --config`: the trial that was best on the validation frames.
  """
  results = [(trial, result(trial)) for trial in trials if trial.metrics_json.is_file()]
  if not results:
    return ''
  fields = sorted({field for trial, _ in results for field in trial.overrides})
  lines = [[trial.name, *(trial.overrides.get(field, '') for field in fields), *values.values()] for trial, values in results]
  write_text(folder / 'results.csv', _csv(['trial', *fields, *COLUMNS], lines))
  rows: Rows = {}
  for trial, values in results:
    rows.setdefault(trial.row, []).append(values)
  columns = _columns(rows)
  pairs = [[row, len(values), *(x for name in columns for x in _spread(values, name) or ('', ''))] for row, values in rows.items()]
  header = [heading for name in columns for heading in (name, f'{name}_std')]
  write_text(folder / 'table.csv', _csv(['row', 'seeds', *header], pairs))
  write_text(folder / 'table.md', text := table(rows))
  write_text(folder / 'plot.svg', svg(plot(rows)))
  if chosen := best(results):
    write_text(folder / 'best.py', _config_file(chosen, len(results)))
  return text


def _config_file(trial: Trial, count: int) -> str:
  score = result(trial)[SELECTED_BY]
  values = pprint.pformat(trial.config.to_dict(), width=120, sort_dicts=False)
  return (f'"""{trial.name}: the best of {count} trials, {score:.2f} dB on the mouth of the validation frames."""\n'
          f'from ml_collections import ConfigDict\n\n\ndef get_config() -> ConfigDict:\n'
          f'  """The trial\'s config."""\n  return ConfigDict({values}).lock()\n')
