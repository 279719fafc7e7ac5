"""python -m speech2lip_jax.app.child SERVER VERB [flags]: runs a verb that stops when process SERVER, which started it, is gone.

It is then sent SIGTERM, at which training writes a checkpoint. On Linux alone; elsewhere it runs on to its end.
"""
import ctypes
import os
import signal
import sys

from speech2lip_jax import cli
from speech2lip_jax.common.processes import STOPPED

_PR_SET_PDEATHSIG = 1


def main() -> None:
  """Ties this process to its server, then does as `speech2lip` does."""
  server = int(sys.argv.pop(1))
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server:  # it went before it could be tied to
      sys.exit(STOPPED)
  cli.main()


if __name__ == '__main__':
  main()
