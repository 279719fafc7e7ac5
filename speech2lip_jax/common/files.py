"""Files that appear under their name only when complete, and folders that one process at a time writes."""
import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO, Any

import filelock

from speech2lip_jax.common.errors import InputError


def temporary_beside(path: os.PathLike | str) -> pathlib.Path:
  """Where this process writes a file before it gets its name: in the same folder, hidden, with the same suffix."""
  path = pathlib.Path(path)
  return path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')


@contextlib.contextmanager
def open_atomic(path: os.PathLike | str, mode: str = 'wb') -> Iterator[IO[Any]]:
  """A file to write, in a folder that exists. It appears as `path` when the block ends, and not at all if the block raises.

  mode: 'wb' for bytes, 'w' for text in UTF-8; what UTF-8 cannot hold, as of a file's name in another encoding, is escaped.
  """
  temporary = temporary_beside(path)
  try:
    encoding, errors = (None, None) if 'b' in mode else ('utf-8', 'backslashreplace')
    with open(temporary, mode, encoding=encoding, errors=errors) as file:
      yield file
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def write_text(path: os.PathLike | str, text: str) -> None:
  """Writes a text file with `open_atomic`."""
  with open_atomic(path, 'w') as file:
    file.write(text)


@contextlib.contextmanager
def lock(folder: pathlib.Path, what: str) -> Iterator[None]:
  """Holds `folder` for this process while the block runs; a process that dies lets go of it.

  Args:
    folder: must exist; gets a file `.lock`, which stays, and `.lock.holder`, which names the holder.
    what: the work, for the message: 'preprocess', 'training'.

  Raises:
    InputError: another process holds it (the message names process and host), or the folder cannot be written.
  """
  holder = folder / '.lock.holder'
  held = filelock.FileLock(folder / '.lock')
  try:
    held.acquire(blocking=False)
  except filelock.Timeout as error:
    raise InputError(f'{folder}: {_describe(holder)} is at work there; wait for it, stop it, or give {what} another folder'
                     ) from error
  except OSError as error:
    raise InputError(f'{folder}: cannot be locked for {what} ({error.strerror}); give a folder that you may write') from error
  try:
    write_text(holder, json.dumps({'what': what, 'pid': os.getpid(), 'host': socket.gethostname()}) + '\n')
    yield
  finally:
    holder.unlink(missing_ok=True)
    held.release()


def _describe(holder: pathlib.Path) -> str:
  try:
    record = json.loads(holder.read_text())
    return f'{record["what"]} (process {record["pid"]} on {record["host"]})'
  except (OSError, ValueError, KeyError):  # the holder is about to write it, or has just removed it
    return 'another process'
