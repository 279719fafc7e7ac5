"""How many cores this process may use: on a shared machine or in a container fewer than there are."""
import math
import os
import pathlib


def cores(root: str = '/') -> int:
  """At least 1: of those that the process is bound to, as many as the limits of its control groups let it use at once."""
  bound = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return max(1, min([bound, *map(math.ceil, _limits(pathlib.Path(root)))]))


def _limits(root: pathlib.Path) -> list[float]:
  """Cores' worth of time a second that the control group of this process and those above it may take."""
  limits = []
  for line in _text(root / 'proc/self/cgroup').splitlines():
    _, controllers, path = line.split(':', 2)
    if controllers and 'cpu' not in controllers.split(','):
      continue
    top = root / 'sys/fs/cgroup' / ('cpu' if controllers else '')
    inner = top / path.lstrip('/')
    for group in (inner, *inner.parents):
      if controllers:
        words = [_text(group / name).strip() for name in ('cpu.cfs_quota_us', 'cpu.cfs_period_us')]
      else:
        words = _text(group / 'cpu.max').split()
      if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        limits.append(int(words[0]) / int(words[1]))
      if group == top:
        break
  return limits


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except OSError:
    return ''
