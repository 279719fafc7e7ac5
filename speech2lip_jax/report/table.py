"""The metrics by name, and how they are shown: titles, units and directions, which row is best, and the table as Markdown.

`NAMES` says what each row is called, `COLUMNS` what each metric is, everywhere in the report.
"""
from collections.abc import Callable
from typing import NamedTuple

ARROWS = {'high': '↑', 'low': '↓', 'one': '→ 1', 'zero': '→ 0', None: ''}
BADNESS: dict[str, Callable[[float], float]] = {
    'high': lambda value: -value, 'low': lambda value: value, 'one': lambda value: abs(value - 1), 'zero': abs}


class Column(NamedTuple):
  """best: 'high', 'low', 'one' (nearest to 1), 'zero', or None where more is not better; it also gives the arrow.

  group: the table of the report that it stands in.
  """
  group: str
  title: str
  unit: str
  form: str
  best: str | None
  meaning: str

  @property
  def unit_and_arrow(self) -> str:
    """As in 'dB ↑'."""
    return ' '.join(filter(None, (self.unit, ARROWS[self.best])))

  @property
  def heading(self) -> str:
    """As in 'PSNR mouth dB ↑'."""
    return ' '.join(filter(None, (self.title, self.unit_and_arrow)))


PICTURE, MOTION = GROUPS = 'The picture', 'Speech and motion'
COLUMNS = {
    'psnr_lip': Column(PICTURE, 'PSNR mouth', 'dB', 'z.2f', 'high', 'peak signal-to-noise ratio over the mouth region'),
    'ssim_lip': Column(PICTURE, 'SSIM mouth', '', 'z.4f', 'high', 'structural similarity over the mouth region, −1 … 1'),
    'lpips_lip': Column(PICTURE, 'LPIPS mouth', '', 'z.4f', 'low', 'perceptual distance of whole 64×64 blocks there, by the '
                        'network of --lpips'),
    'cpbd_lip': Column(PICTURE, 'CPBD mouth', '', 'z.3f', None, 'sharpness of the same blocks without a reference, 0 … 1: as the '
                       'true frames have it is best'),
    'laplacian_ratio': Column(PICTURE, 'Laplacian', '× true', 'z.2f', 'one', 'detail of the mouth region: mean size of the '
                              "Laplacian of its grey values over the true frames' (a ratio of means; the camera's grain is "
                              'detail too)'),
    'lmd_px': Column(PICTURE, 'LMD', 'px', 'z.2f', 'low', "distance of the mouth's 20 landmarks from the true ones, each set less "
                     'its mean'),
    'opening_corr': Column(MOTION, 'opening', 'corr.', 'z.3f', 'high', 'correlation of the lip opening with the true one'),
    'opening_lag_ms': Column(MOTION, 'lag', 'ms', 'z.0f', 'zero', 'how late the mouth opens'),
    'opening_amplitude': Column(MOTION, 'amplitude', '', 'z.2f', 'one', 'how far it opens, of the truth'),
    'motion_ratio': Column(MOTION, 'motion', '× true', 'z.2f', 'one', 'mean absolute change of the lips between neighbouring '
                           "frames, in canonical space, where the head stands still, over the true frames' (a ratio of means)"),
    'lpips_flicker': Column(MOTION, 'flicker', 'LPIPS', 'z.4f', 'low', 'tLP (Chu et al., ACM TOG 2020): how much the LPIPS of '
                            "neighbouring frames differs from the true ones', in 64×64 blocks about the mouth"),
    'closed_share': Column(MOTION, 'closed', 'share', 'z.3f', None, 'of the frames, by landmarks: the gap of the lips is below '
                           "the subject's own threshold, a tenth of the way from its closed mouth to its 90th percentile; as the "
                           'true frames have it is best'),
    'closed_ratio': Column(MOTION, 'closed', '× true', 'z.2f', 'one', 'that share over the true one'),
    'closures_made': Column(MOTION, 'closures', 'share', 'z.2f', 'high', 'share of the true closures in which ours shuts too, a '
                            'frame early or late at most'),
    'sync_conf': Column(MOTION, 'Sync conf.', '', 'z.3f', 'high', 'LSE-C (the field’s sync confidence) by the judge: median '
                        'distance over ±15 frames less the least'),
    'sync_dist': Column(MOTION, 'Sync dist.', '', 'z.3f', 'low', 'LSE-D (the field’s sync distance) by the judge: the least '
                        'distance over ±15 frames. Both are on the field’s scale only where the judge is the original SyncNet'),
    'sync_conf0': Column(MOTION, 'conf0', '', 'z.3f', 'high', 'LSE-C read at offset 0: median distance over ±15 frames less the '
                         'distance in time. A mouth that is late keeps its LSE-C, not its conf0'),
    'sync_acc5': Column(MOTION, 'acc5', '', 'z.3f', 'high', 'share of mouth windows of 5 frames (0.2 s) that are nearer to their '
                        'own speech than to other speech of the clip, by the judge; chance is 0.5'),
    'jitter_ratio': Column(MOTION, 'jitter', '× true', 'z.2f', 'one', "acceleration of the mouth's landmarks over the true "
                           "frames'"),
    'seam_ratio': Column(PICTURE, 'seam', '× true', 'z.3f', 'one', "steps across the painted window's edge over the true frame's "
                         'there'),
    'seam_lip_ratio': Column(PICTURE, 'lip seam', '× true', 'z.3f', 'one', 'the same across the edge of the mouth region'),
    'untouched_levels': Column(PICTURE, 'outside', 'levels', 'z.0f', 'low', 'largest change of a pixel outside the painted '
                               'window and the jaw that moves with it, 0 … 255'),
    'psnr_img': Column(PICTURE, 'PSNR frame', 'dB', 'z.2f', 'high', "over the whole frame, most of which is the video's own"),
    'ssim_img': Column(PICTURE, 'SSIM frame', '', 'z.4f', 'high', "over the whole frame, most of which is the video's own"),
}
NAMES = {'truth': 'true frames', 'model': 'ours', 'without_blend_net': 'ours without Blend-Net',
         'mean_lips': 'mean training lips', 'nearest': 'lips of the nearest sound',
         'nearest_8_mean': 'mean of the 8 nearest', 'ridge': 'ridge regression', 'kernel_ridge': 'kernel ridge regression',
         'oracle': 'oracle: own lips, there and back'}
COLOURS = {'truth': '#111827', 'model': '#2563eb', 'mean_lips': '#d97706', 'nearest_8_mean': '#059669'}  # in plots
BASELINES = ('mean_lips', 'nearest', 'nearest_8_mean', 'ridge', 'kernel_ridge')
Rows = dict[str, dict[str, float | None]]  # metrics by name of what was scored, in the table's order


def shown_columns(rows: Rows) -> list[str]:
  """The metrics that any row has."""
  return [name for name in COLUMNS if any(row.get(name) is not None for row in rows.values())]


def cell(row: dict[str, float | None], name: str) -> str:
  """A metric as text, '–' where there is none."""
  return '–' if row.get(name) is None else format(row[name], COLUMNS[name].form)


def best_rows(rows: Rows, name: str) -> set[str]:
  """The rows that show the best value of a metric, truth and oracle left out; none where all show the same."""
  column = COLUMNS[name]
  values = {key: value for key, row in rows.items() if key not in ('truth', 'oracle') and (value := row.get(name)) is not None}
  if column.best is None or len(values) < 2:
    return set()
  least = min(values.values(), key=BADNESS[column.best])
  best = {key for key, value in values.items() if format(value, column.form) == format(least, column.form)}
  return best if len(best) < len(values) else set()


def markdown(rows: Rows) -> str:
  """The table as Markdown, a row each."""
  columns = shown_columns(rows)
  lines = ['| | ' + ' | '.join(COLUMNS[name].heading for name in columns) + ' |', '|---' * (len(columns) + 1) + '|']
  lines += [f'| {key} | ' + ' | '.join(cell(row, name) for name in columns) + ' |' for key, row in rows.items()]
  return '\n'.join(lines) + '\n'


def not_measured(reasons: dict[str, str]) -> str:
  """Which metrics are missing and what would bring each, as text for a terminal: a line for each of the reasons; '' without any.

  reasons: {metric: why}, as in metrics.json.
  """
  metrics: dict[str, list[str]] = {}
  for name, reason in reasons.items():
    metrics.setdefault(reason, []).append(name)
  return ''.join(f'not measured: {", ".join(names)}: {reason}\n' for reason, names in metrics.items())


def definitions() -> dict[str, dict[str, str | None]]:
  """For metrics.json: of each metric that the report shows its unit, which values are better, and what it is."""
  return {name: {'unit': column.unit, 'best': column.best, 'meaning': column.meaning} for name, column in COLUMNS.items()}
