"""The report's first lines: what the numbers mean, in words, each graded good, fair or poor by the limits named here."""
from typing import Any, NamedTuple

from speech2lip_jax.report.table import BASELINES, NAMES, Rows

CLOSE_CORRELATION, LOOSE_CORRELATION = 0.9, 0.6  # of the opening with the true one
LAGS_MS = (-40, 40), (-80, 80)  # a frame, two frames at 25 fps: good, fair
AMPLITUDES = (0.8, 1.25), (0.5, 2.0)  # of the opening over the true one: good, fair
JITTERS = (0.7, 1.3), (0.4, 2.0)  # of the landmarks' acceleration over the true one: good, fair
SEAMS = (0.9, 1.1), (0.75, 1.35)  # of steps across the window's edge over the true ones: good, fair


class Line(NamedTuple):
  """grade: 'good', 'fair', 'poor' or '' (no opinion)."""
  grade: str
  title: str
  text: str


def _within(value: float, ranges: tuple[tuple[float, float], tuple[float, float]]) -> str:
  good, fair = ranges
  return 'good' if good[0] <= value <= good[1] else 'fair' if fair[0] <= value <= fair[1] else 'poor'


def _worst_of(*grades: str) -> str:
  return max(grades, key=('', 'good', 'fair', 'poor').index)


def verdict(rows: Rows, record: dict[str, Any]) -> list[Line]:
  """Lines on the mouth's picture, its timing, sync, steadiness and seam; those without numbers are left out.

  Args:
    rows: {name: metrics}: 'model', and 'truth', 'oracle' and baselines where there are any.
    record: contents of metrics.json.
  """
  ours, lines = rows['model'], []
  truth = rows.get('truth', {})
  baselines = {name: row['psnr_lip'] for name, row in rows.items()
               if name in BASELINES and row.get('psnr_lip') is not None}
  psnr = ours.get('psnr_lip')
  if psnr is not None:
    text = f'PSNR of the mouth over {record["num_frames"]} frames'
    grade = ''
    if baselines:
      best = max(baselines, key=baselines.get)
      above = psnr - baselines[best]
      text += f', {above:+.1f} dB against the best baseline, {NAMES[best]} ({baselines[best]:.1f})'
      grade = 'good' if above > 0.3 else 'fair' if above > -0.3 else 'poor'
    if rows.get('oracle', {}).get('psnr_lip') is not None:
      text += f'; the ceiling is {rows["oracle"]["psnr_lip"]:.1f}'
    lines.append(Line(grade, f'Mouth {psnr:.2f} dB', text + '.'))
  elif ours.get('psnr_img') is not None:
    lines.append(Line('', f'Frame {ours["psnr_img"]:.2f} dB', f'PSNR of the whole frame over {record["num_frames"]} frames.'))
  if (correlation := ours.get('opening_corr')) is not None:
    lag, amplitude = ours['opening_lag_ms'], ours['opening_amplitude']
    grade, follows = (('good', 'follows') if correlation >= CLOSE_CORRELATION else
                      ('fair', 'loosely follows') if correlation >= LOOSE_CORRELATION else ('poor', 'does not follow'))
    when = 'in time' if abs(lag) < 10 else f'{abs(lag):.0f} ms {"late" if lag > 0 else "early"}'
    how_far = f'{100 * amplitude:.0f} % as far' + (': it mumbles' if amplitude < AMPLITUDES[0][0] else '')
    grade = _worst_of(grade, _within(lag, LAGS_MS), _within(amplitude, AMPLITUDES))
    text = f'correlation: the mouth {follows} the true one, {when}, and opens {how_far}.'
    lines.append(Line(grade, f'Opening {correlation:.2f}', text))
  if (conf0 := ours.get('sync_conf0')) is not None and truth.get('sync_conf0'):
    share, judge = conf0 / truth['sync_conf0'], record.get('judge', {})
    who = f'{judge.get("name", "the judge")} ({"SyncNet" if judge.get("kind") == "syncnet" else "expert of the subject"})'
    lines.append(Line('good' if share > 0.85 else 'fair' if share > 0.5 else 'poor', f'Sync {100 * share:.0f} % of true',
                      f'conf0 {conf0:.3f}, the true frames {truth["sync_conf0"]:.3f}, by {who}. Means of mouths can exceed 100 %.'))
  if (jitter := ours.get('jitter_ratio')) is not None:
    lines.append(Line(_within(jitter, JITTERS), f'Jitter {jitter:.2f} × true',
                      'acceleration of the mouth’s landmarks; speech itself accelerates, so 1 is best.'))
  if (seam := ours.get('seam_ratio')) is not None:
    changed = ours['untouched_levels']
    outside = f'Pixels outside it change by up to {changed:.0f} levels!' if changed else 'No pixel outside it was touched.'
    lines.append(Line(_worst_of(_within(seam, SEAMS), 'poor' if changed else 'good'), f'Seam {seam:.3f} × true',
                      f'steps across the edge of the painted window. {outside}'))
  return lines
