"""Files that appear under their name only when complete, folders that one process at a time writes, and what a disk refuses."""
import contextlib
import errno
import json
import math
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import filelock

from speech2lip_jax.common.errors import InputError

if TYPE_CHECKING:
  import numpy as np

_HOST = re.sub(r'[^A-Za-z0-9-]+', '-', socket.gethostname())
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    errno.EACCES: 'give one that you may read and write', errno.EPERM: 'give one that you may read and write',
    errno.EROFS: 'give a folder on a disk that can be written', errno.EISDIR: 'a file is needed here, and this is a folder',
    errno.ENOTDIR: 'a folder is needed here, and a part of this path is a file', errno.EEXIST: 'a folder is needed here, and '
    'this is a file', errno.EFBIG: 'the limit on the size of a file (ulimit -f) is too low for it',
    errno.EMFILE: 'raise the limit on open files (ulimit -n)', errno.ENFILE: 'too many files are open on this machine',
    errno.ENAMETOOLONG: 'give a shorter name', errno.EIO: 'the disk does not answer; look whether it is sound'}


def temporary_beside(path: os.PathLike | str) -> pathlib.Path:
  """Where this process writes a file before it gets its name: in the same folder, hidden, with the same suffix.

  What processes of this machine that are dead by now were writing under that name is removed.
  """
  path = pathlib.Path(path)
  temporary = re.compile(re.escape(f'.{path.stem}.{_HOST}.') + r'(\d+)' + re.escape(f'.part{path.suffix}'))
  for other in path.parent.glob('.*.part*') if path.parent.is_dir() else ():
    if (found := temporary.fullmatch(other.name)) and not _is_alive(int(found[1])):
      other.unlink(missing_ok=True)
  return path.with_name(f'.{path.stem}.{_HOST}.{os.getpid()}.part{path.suffix}')


def _is_alive(pid: int) -> bool:
  if os.name == 'nt':  # there, signal 0 would end it
    return True
  try:
    os.kill(pid, 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    pass
  return True


@contextlib.contextmanager
def becoming(path: os.PathLike | str) -> Iterator[pathlib.Path]:
  """A name to write a file to, in a folder that exists. The file becomes `path` when the block ends, or is gone if it raises."""
  temporary = temporary_beside(path)
  try:
    with errors_named(path):
      yield temporary
      os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def errors_named(path: os.PathLike | str) -> Iterator[None]:
  """What the system refuses inside is told with the path, where it names none."""
  try:
    yield
  except OSError as error:
    if error.filename is not None or error.errno is None:
      raise
    raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def open_atomic(path: os.PathLike | str, mode: str = 'wb') -> Iterator[IO[Any]]:
  """A file to write, in a folder that exists. It appears as `path` when the block ends, and not at all if the block raises.

  It is on the disk before it has its name, so that a power cut leaves no record of what is lost.

  mode: 'wb' for bytes, 'w' for text in UTF-8; what UTF-8 cannot hold, as of a file's name in another encoding, is escaped.
  """
  encoding, errors = (None, None) if 'b' in mode else ('utf-8', 'backslashreplace')
  with becoming(path) as temporary, open(temporary, mode, encoding=encoding, errors=errors) as file:
    yield file
    file.flush()
    os.fsync(file.fileno())


def create_array(path: os.PathLike | str, dtype: Any, shape: tuple[int, ...]) -> 'np.memmap':
  """A new .npy file as a memory map to be filled, its place on the disk taken: a map of a full disk would end the process.

  Raises:
    InputError: there is too little room.
  """
  import numpy as np
  num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
  array = np.lib.format.open_memmap(path, 'w+', dtype, shape)
  try:
    if hasattr(os, 'posix_fallocate') and num_bytes:
      with open(path, 'r+b') as file:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
  except OSError as error:
    del array
    pathlib.Path(path).unlink(missing_ok=True)
    if error.errno not in DISK_FULL:
      raise
    raise InputError(f'{path}: needs {size_in_words(num_bytes)}, {_free_in_words(path)}; free some space; the same command then '
                     'goes on where it stopped') from error
  return array


def check_room(folder: os.PathLike | str, num_bytes: float, what: str) -> None:
  """Raises InputError where the disk of `folder` has less room; what: the message's subject and verb, 'a checkpoint needs'."""
  if shutil.disk_usage(_existing(folder)).free < num_bytes:
    raise InputError(f'{folder}: {what} {size_in_words(num_bytes)}, {_free_in_words(folder)}; free some space; the '
                     'same command then goes on where it stopped')


def size_in_words(num_bytes: float) -> str:
  """'3 kB', '40 MB' or '1.2 GB'."""
  return f'{num_bytes / 1e9:.1f} GB' if num_bytes >= 1e9 else f'{num_bytes / 1e6:.0f} MB' if num_bytes >= 1e6 else (
      f'{num_bytes / 1e3:.0f} kB')


def _existing(path: os.PathLike | str) -> pathlib.Path:
  """The path, or the nearest folder above it that is there."""
  path = pathlib.Path(path).absolute()
  return next(folder for folder in [path, *path.parents] if folder.exists())


def _free_in_words(path: os.PathLike | str) -> str:
  try:
    free = shutil.disk_usage(_existing(path)).free
  except OSError:
    return 'nothing is free'
  return f'{size_in_words(free)} are free' + (': is there a quota, or a limit on the number of files?' if free > 1e9 else '')


def refusal(error: OSError) -> str | None:
  """What an error of the operating system means, in one line with path and remedy; None where it is of another kind."""
  path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else None
  path = path and re.sub(r'\.([^/\\]*)\.' + re.escape(_HOST) + r'\.\d+\.part(?=[^/\\]*$)', r'\1', path)  # what the user knows it by
  if error.errno is None or error.errno not in errno.errorcode:
    return None
  reason = os.strerror(error.errno).lower()
  where = f'{path}: ' if path else ''
  if error.errno in DISK_FULL:
    free = f' ({_free_in_words(path)})' if path else ''
    return f'{where}{reason}{free}; free some space: the same command then goes on where it stopped, and what was finished is whole'
  if path is None and error.errno not in _REMEDIES:
    return None
  return f'{where}{reason}' + (f'; {_REMEDIES[error.errno]}' if error.errno in _REMEDIES else '')


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
