"""Fault injection: a verb dies, or finds the disk full, at its k-th write; the same command must then end as if nothing had been.

    python -m tests.faults                        every place of every verb, as a table
    python -m tests.faults --verb 'train;render' --every 4 --kind killed,full

Under the folder that a verb writes into, each of these is a place to die: opening a file to write, each write, flush and close of
it, fsync, the flush of a memory map, rename, unlink, mkdir, rmdir, truncate, and each packet given to FFmpeg's muxer. They are
seen by Python's audit events, by a file object that stands in for the built-in one, and by a stand-in for PyAV's container. What
C++ writes by itself (Orbax's arrays through TensorStore, the bytes of a muxer) is seen only by what Python does around it: files
opened, folders made, renamed and removed. `kind=random`, a kill after a random time, reaches into those too.

Each try runs in a process forked from one that has imported everything but started no device; programs are compiled once, into
JAX's cache. Work that a verb spreads over processes is done in threads of this one.
"""
import argparse
import pathlib
import sys
import tempfile

import numpy as np

from tests.faults.cases import CASES
from tests.faults.laboratory import Laboratory, tries

KINDS = {'killed': 'SIGKILL before a write', 'torn': 'SIGKILL in the middle of a write', 'full': 'disk full from a write on',
         'random': 'SIGKILL after a random time'}


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description='Fault injection')
  parser.add_argument('--verb', default=';'.join(CASES), help='cases, with semicolons; all by default')
  parser.add_argument('--kind', default=','.join(KINDS))
  parser.add_argument('--every', type=int, default=1, help='each so-manieth place')
  parser.add_argument('--most', type=int, help='at most so many places of a kind and verb')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--home', help='a folder for inputs and compiled programs that is kept')
  options = parser.parse_args()
  home = pathlib.Path(options.home or tempfile.mkdtemp(prefix='speech2lip_faults_')).resolve()
  laboratory = Laboratory(home)
  names = [name for name in options.verb.split(';') if name in CASES] or list(CASES)
  laboratory.make_inputs([CASES[name] for name in names])
  print('| verb | fault | tried | survived | equal | told, nothing half-written |\n|---|---|---|---|---|---|', flush=True)
  total = np.zeros(4, int)
  for name in names:
    rows: dict[str, np.ndarray] = {}
    for kind, at, result in tries(laboratory, CASES[name], options.kind.split(','), options.every, options.seed, options.most):
      rows.setdefault(kind, np.zeros(4, int))[:] += (1, result.survived, result.equal, result.told)
      if result.why:
        print(f'{name}, {kind} at {at}: {result.why}', file=sys.stderr, flush=True)
    for kind, row in rows.items():
      total += row
      print(f'| {name} | {KINDS[kind]} | {" | ".join(map(str, row))} |', flush=True)
  print(f'| all | | {" | ".join(map(str, total))} |')
  sys.exit(int((total != total[0]).any()))


if __name__ == '__main__':
  main()
