"""Which process works on a trial, among processes of many machines that share a disk.

A lock in the trial's folder, which the system lets go of when its process dies, decides on one machine. Not every shared disk
takes locks from one machine to another: what a process of another machine has claimed is also its own until it has given no sign
for LEASE_S, by the disk's own clock.
"""
import contextlib
import json
import os
import pathlib
import socket
import tempfile
import time

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock

SIGN_S = 10.0  # from one sign to the next
LEASE_S = 180.0  # NFS may show a file's time a minute late


class Claims:
  """The folders that this process works on."""

  def __init__(self) -> None:
    self._held: dict[pathlib.Path, contextlib.ExitStack] = {}
    self._signed = time.monotonic()

  def take(self, folder: pathlib.Path) -> bool:
    """Claims a folder, made where it is not there; False where somebody works on it, be it this process.

    Of processes on machines whose locks do not reach each other only one at a time may ask.
    """
    claim = folder / '.claim'
    claim.mkdir(parents=True, exist_ok=True)
    if folder in self._held or _is_kept_elsewhere(claim):
      return False
    held = contextlib.ExitStack()
    try:
      held.enter_context(lock(claim, 'search'))
    except InputError:
      return False
    self._held[folder] = held
    return True

  def sign(self) -> None:
    """To be called often: tells the other machines that this process is alive."""
    if time.monotonic() - self._signed > SIGN_S:
      self._signed = time.monotonic()
      for folder in self._held:
        with contextlib.suppress(OSError):
          os.utime(_holder(folder / '.claim'))

  def drop(self, folder: pathlib.Path) -> None:
    """Lets go of a folder."""
    self._held.pop(folder).close()

  def close(self) -> None:
    """Lets go of all."""
    for folder in list(self._held):
      self.drop(folder)


def _holder(claim: pathlib.Path) -> pathlib.Path:
  return claim / '.lock.holder'  # of `lock`; a process that was killed leaves it


def _is_kept_elsewhere(claim: pathlib.Path) -> bool:
  """Whether a process of another machine has given a sign within LEASE_S."""
  try:
    host = json.loads(_holder(claim).read_text())['host']
    signed = _holder(claim).stat().st_mtime
  except (OSError, ValueError, KeyError):
    return False
  if host == socket.gethostname():
    return False  # the lock tells
  with tempfile.NamedTemporaryFile(dir=claim) as now:
    return os.stat(now.name).st_mtime - signed < LEASE_S
