"""Whether a judge of sync can be believed: how well it does on true lips that it has not seen."""
import math
from collections.abc import Mapping
from typing import Any

LEAST_WITHIN_ONE = 0.9  # of 1 s windows of true lips best within a frame; experts of a minute and more reach .95 to 1
LEAST_ACC5 = 0.75  # asked where no run is long enough for these windows; such experts reach .82 to .95, chance is .5
FAR_ABOVE = 1.25  # ours over the truth's conf0; a good judge gives models up to 1.15


def why_weak(truth: Mapping[str, Any]) -> str | None:
  """What is wrong with a judge that gives held-out true lips these scores (sync_within_one, sync_acc5), and the remedy; or None."""
  remedy = 'use more video (two minutes and more), or another judge'
  within, acc5 = truth['sync_within_one'], truth['sync_acc5']
  if math.isfinite(within):
    return None if within >= LEAST_WITHIN_ONE else (
        f'a weak judge: it finds the time of the true lips in {100 * within:.1f} % of 1 s windows, within a frame; below '
        f'{100 * LEAST_WITHIN_ONE:.0f} % its scores say little; {remedy}')
  if acc5 >= LEAST_ACC5 or not math.isfinite(acc5):
    return None
  return (f'a weak judge: the true lips’ acc5 is {acc5:.2f} (chance is 0.5); below {LEAST_ACC5:.2f} its scores say little; '
          f'{remedy}')


def facts(truth: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
  """For metrics.json, of the scores that one judge gives the true lips and ours: truth_within_one (None without 1 s windows), and
  warnings, a list of lines."""
  weak = why_weak(truth)
  warnings = [weak] if weak else []
  if weak and ours['sync_conf0'] > max(FAR_ABOVE * truth['sync_conf0'], 0):
    warnings.append(f'it gives ours conf0 {ours["sync_conf0"]:z.3f}, the true lips {truth["sync_conf0"]:z.3f}: that is the '
                    'judge’s weakness, not better sync')
  within = truth['sync_within_one']
  return {'truth_within_one': within if math.isfinite(within) else None, 'warnings': warnings}
