"""The metrics by name, and how they are shown: titles, units and directions, which row is best, and the table as Markdown."""
from typing import NamedTuple


class Column(NamedTuple):
  """best: 'high', 'low', 'one' (nearest to 1), 'zero', or None where more is not better; it also gives the arrow."""
  title: str
  unit: str
  form: str
  best: str | None
  meaning: str

  @property
  def unit_and_arrow(self) -> str:
    return ' '.join(filter(None, (self.unit, ARROWS[self.best])))



ARROWS = {'high': '↑', 'low': '↓', 'one': '→ 1', 'zero': '→ 0', None: ''}
COLUMNS = {
    'psnr_lip': Column('PSNR mouth', 'dB', 'z.2f', 'high', 'peak signal-to-noise ratio over the mouth region'),
    'ssim_lip': Column('SSIM mouth', '', 'z.4f', 'high', 'structural similarity over the mouth region, −1 … 1'),
    'lpips_lip': Column('LPIPS mouth', '', 'z.4f', 'low', 'perceptual distance (AlexNet, v0.1) of whole 64×64 blocks there'),
    'cpbd_lip': Column('CPBD mouth', '', 'z.3f', None, 'sharpness of the same blocks without a reference, 0 … 1: as the true '
                       'frames have it is best'),
    'lmd_px': Column('LMD', 'px', 'z.2f', 'low', "distance of the mouth's 20 landmarks from the true ones, each set less its mean"),
    'opening_corr': Column('opening', 'corr.', 'z.3f', 'high', 'correlation of the lip opening with the true one'),
    'opening_lag_ms': Column('lag', 'ms', 'z.0f', 'zero', 'how late the mouth opens'),
    'opening_amplitude': Column('amplitude', '', 'z.2f', 'one', 'how far it opens, of the truth'),
    'sync_conf': Column('Sync conf.', '', 'z.3f', 'high', "SyncNet's confidence by the judge: median distance over ±15 frames less "
                        'the least'),
    'sync_dist': Column('Sync dist.', '', 'z.3f', 'low', 'the least distance over ±15 frames, by the judge'),
    'sync_conf0': Column('conf0', '', 'z.3f', 'high', 'median distance over ±15 frames less that in time'),
    'sync_acc5': Column('acc5', '', 'z.3f', 'high', 'share of 0.2 s windows that are nearer to their own speech than to another'),
    'jitter_ratio': Column('jitter', '× true', 'z.2f', 'one', "acceleration of the mouth's landmarks over the true frames'"),
    'seam_ratio': Column('seam', '× true', 'z.3f', 'one', "steps across the painted window's edge over the true frame's there"),
    'seam_lip_ratio': Column('lip seam', '× true', 'z.3f', 'one', 'the same across the edge of the mouth region'),
    'psnr_img': Column('PSNR frame', 'dB', 'z.2f', 'high', "over the whole frame, most of which is the video's own"),
    'ssim_img': Column('SSIM frame', '', 'z.4f', 'high', "over the whole frame, most of which is the video's own"),
    'untouched_levels': Column('outside', 'levels', 'z.0f', 'low', 'largest change of a pixel outside the painted window, 0 … 255'),
}
NAMES = {'truth': 'true frames', 'model': 'ours', 'without_blend_net': 'ours without Blend-Net',
         'mean_lips': 'mean training lips', 'nearest': 'lips of the nearest sound',
         'nearest_8_mean': 'mean of the 8 nearest', 'oracle': 'oracle: own lips, there and back'}
BASELINES = ('mean_lips', 'nearest', 'nearest_8_mean')
Rows = dict[str, dict[str, float | None]]  # metrics by name of what was scored, in the table's order


def shown_columns(rows: Rows) -> list[str]:
  """The metrics that any row has."""
  return [name for name in COLUMNS if any(row.get(name) is not None for row in rows.values())]



def cell(row: dict[str, float | None], name: str) -> str:
  """A metric as text, '–' where there is none."""
  return '–' if row.get(name) is None else format(row[name], COLUMNS[name].form)



def best_rows(rows: Rows, name: str) -> set[str]:
  """The rows that show the best value of a metric, truth and oracle left out; none where all show the same."""
  badness = {'high': lambda value: -value, 'low': lambda value: value, 'one': lambda value: abs(value - 1), 'zero': abs}
  values = {key: row[name] for key, row in rows.items() if key not in ('truth', 'oracle') and row.get(name) is not None}
  if COLUMNS[name].best is None or len(values) < 2:
    return set()
  least = min(values.values(), key=badness[COLUMNS[name].best])
  best = {key for key in values if cell(rows[key], name) == format(least, COLUMNS[name].form)}
  return best if len(best) < len(values) else set()



def markdown(rows: Rows) -> str:
  """The table as Markdown, a row each."""
  columns = shown_columns(rows)
  titles = [' '.join(filter(None, (COLUMNS[name].title, COLUMNS[name].unit_and_arrow))) for name in columns]
  lines = ['| | ' + ' | '.join(titles) + ' |', '|---' * (len(columns) + 1) + '|']
  lines += [f'| {key} | ' + ' | '.join(cell(row, name) for name in columns) + ' |' for key, row in rows.items()]
  return '\n'.join(lines) + '\n'
