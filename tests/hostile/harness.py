"""Runs kinds of input in a process of their own, past those that crash or hang, and counts what they came to."""

import collections
import json
import subprocess
import sys
from typing import Any

COLUMNS = ('tried', 'clear line', 'right result', 'traceback', 'silent')


def results(names: list[str], module: str = 'tests.hostile.run') -> list[dict[str, Any]]:
  """What a module prints of what is named to it: name, outcome, told, seconds, peak (bytes). What takes the process with it is a
  traceback, and the rest is done by another process."""
  found: list[dict[str, Any]] = []
  while len(found) < len(names):
    done = subprocess.run([sys.executable, '-m', module, *names[len(found):]], capture_output=True, text=True,
                          timeout=600 + 2 * len(names), check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    found += [row for row in rows if 'outcome' in row]
    if done.returncode:
      assert rows and 'begun' in rows[-1], done.stderr
      told = f'died with status {done.returncode}: {done.stderr[-600:]}'
      found.append({'name': rows[-1]['begun'], 'outcome': 'traceback', 'told': told, 'seconds': 0.0, 'peak': 0})
  return found


def table(rows: list[dict[str, Any]], area_of) -> str:
  """Rows of a Markdown table by area, and their sum."""
  names = {'line': 'clear line', 'right': 'right result', 'traceback': 'traceback', 'silent': 'silent'}
  counts: dict[str, collections.Counter] = {}
  for row in rows:
    for area in (area_of(row['name']), 'all'):
      counts.setdefault(area, collections.Counter()).update(['tried', names[row['outcome']]])
  areas = [area for area in counts if area != 'all'] + ['all']
  lines = [f'| | {" | ".join(COLUMNS)} |', '|---|' + '---|' * len(COLUMNS)]
  return '\n'.join([*lines, *(f'| {area} | {" | ".join(str(counts[area][name]) for name in COLUMNS)} |' for area in areas)])


def check(rows: list[dict[str, Any]], area_of, max_s: float = 5.0) -> None:
  """Prints the table; fails where a kind came to anything but its line or its result, or took longer."""
  print('\n' + table(rows, area_of))
  refused = [row for row in rows if row['outcome'] == 'line']
  if refused:
    slowest = max(refused, key=lambda row: row['seconds'])
    print(
      f'slowest refusal: {slowest["seconds"]:.2f} s, {slowest["name"]}'
    )
  bad = [f'{row["name"]}: {row["outcome"]}: {row["told"]}' for row in rows if row['outcome'] in ('traceback', 'silent')]
  assert not bad, '\n'.join(bad)
