"""The report's first lines: what the numbers mean, in words, each graded good, fair or poor by the limits named here."""
from typing import Any, NamedTuple

from speech2lip_jax.report.table import BASELINES, NAMES, Rows

CLOSE_CORRELATION, LOOSE_CORRELATION = 0.9, 0.6  # of the opening with the true one
LAGS_MS = (-40, 40), (-80, 80)  # a frame, two frames at 25 fps: good, fair
AMPLITUDES = (0.8, 1.25), (0.5, 2.0)  # of the opening over the true one: good, fair
JITTERS = (0.7, 1.3), (0.4, 2.0)  # of the landmarks' acceleration over the true one: good, fair
DETAILS = (0.9, 1.1), (0.75, 1.35)  # of the Laplacian and the motion over the true ones: good, fair
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
  return max(grades, key=lambda grade: ('', 'good', 'fair', 'poor').index(grade))


def verdict(rows: Rows, record: dict[str, Any]) -> list[Line]:
  """Lines on the mouth's picture, its timing, sync, detail, steadiness and seam; those without numbers are left out.

  Args:
    rows: {name: metrics}: 'model', and 'truth', 'oracle' and baselines where there are any.
    record: contents of metrics.json.
  """
  ours, truth, oracle = ({metric: value for metric, value in rows.get(name, {}).items() if value is not None}
                         for name in ('model', 'truth', 'oracle'))
  lines = []
  if 'psnr_lip' in ours:
    psnr, grade = ours['psnr_lip'], ''
    text = f'PSNR of the mouth over {record["num_frames"]} frames'
    baselines = {name: value for name in BASELINES if (value := rows.get(name, {}).get('psnr_lip')) is not None}
    if baselines:
      best = max(baselines, key=lambda name: baselines[name])
      above = psnr - baselines[best]
      text += f', {above:+z.1f} dB against the best baseline, {NAMES[best]} ({baselines[best]:.1f})'
      grade = 'good' if above > 0.3 else 'fair' if above > -0.3 else 'poor'
    if 'psnr_lip' in oracle:
      text += f'; the ceiling is {oracle["psnr_lip"]:.1f}'
    lines.append(Line(grade, f'Mouth {psnr:.2f} dB', text + '.'))
  elif 'psnr_img' in ours:
    lines.append(Line('', f'Frame {ours["psnr_img"]:.2f} dB', f'PSNR of the whole frame over {record["num_frames"]} frames.'))
  if 'opening_corr' in ours:
    correlation, lag, amplitude = ours['opening_corr'], ours['opening_lag_ms'], ours['opening_amplitude']
    grade, follows = (('good', 'follows') if correlation >= CLOSE_CORRELATION else
                      ('fair', 'loosely follows') if correlation >= LOOSE_CORRELATION else ('poor', 'does not follow'))
    when = 'in time' if abs(lag) < 10 else f'{abs(lag):.0f} ms {"late" if lag > 0 else "early"}'
    how_far = f'{100 * amplitude:.0f} % as far' + (': it mumbles' if amplitude < AMPLITUDES[0][0] else '')
    grade = _worst_of(grade, _within(lag, LAGS_MS), _within(amplitude, AMPLITUDES))
    text = f'correlation: the mouth {follows} the true one, {when}, and opens {how_far}.'
    lines.append(Line(grade, f'Opening {correlation:z.2f}', text))
  if 'sync_conf0' in ours and truth.get('sync_conf0'):
    conf0, true_conf0 = ours['sync_conf0'], truth['sync_conf0']
    share, judge = conf0 / true_conf0, record.get('judge') or {}
    who = f'{judge.get("name", "the judge")} ({"SyncNet" if judge.get("kind") == "syncnet" else "expert of the subject"})'
    warnings = judge.get('warnings', [])
    grade = '' if warnings else 'good' if share > 0.85 else 'fair' if share > 0.5 else 'poor'
    lines.append(Line(grade, f'Sync {100 * share:z.0f} % of true',
                      f'conf0 {conf0:z.3f}, the true frames {true_conf0:z.3f}, by {who}. Means of mouths can exceed 100 %.'))
    if warnings:
      lines.append(Line('poor', 'Weak judge', '; '.join(warnings) + '.'))
  if 'laplacian_ratio' in ours:
    detail, motion = ours['laplacian_ratio'], ours.get('motion_ratio')
    grade, text = _within(detail, DETAILS), 'Laplacian of the mouth: below 1 is softer, above it is rougher'
    if motion is not None:
      grade, text = _worst_of(grade, _within(motion, DETAILS)), f'{text}. The lips move {motion:.2f} × as much'
    lines.append(Line(grade, f'Detail {detail:.2f} × true', f'{text}.'))
  if 'jitter_ratio' in ours:
    jitter = ours['jitter_ratio']
    lines.append(Line(_within(jitter, JITTERS), f'Jitter {jitter:.2f} × true',
                      'acceleration of the mouth’s landmarks; speech itself accelerates, so 1 is best.'))
  if 'seam_ratio' in ours:
    seam, changed = ours['seam_ratio'], ours['untouched_levels']
    outside = (f'Pixels outside it and the jaw change by up to {changed:.0f} levels!' if changed else
               'No pixel outside it and the jaw was touched.')
    lines.append(Line(_worst_of(_within(seam, SEAMS), 'poor' if changed else 'good'), f'Seam {seam:.3f} × true',
                      f'steps across the edge of the painted window. {outside}'))
  return lines
