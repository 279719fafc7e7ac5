"""In the process that is to die: every write under a folder is counted, and at one of them it dies or the disk is full.

Python's audit events, a file object that stands in for the built-in one, and a stand-in for PyAV's container see the writes.
"""
import builtins
import errno
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

FREES = ('os.remove', 'os.rmdir', 'os.rename', 'close')  # what a full disk still allows
PATH_EVENTS = ('os.remove', 'os.rmdir', 'os.mkdir', 'os.rename', 'os.truncate', 'os.link', 'os.symlink')


class _File(io.BufferedIOBase):
  """Stands in for a file opened to write: the same bytes, each call an event."""

  def __init__(self, file, event):
    self._file, self._event, self.name, self.mode = file, event, file.name, file.mode

  def write(self, data):
    data = memoryview(data).cast('B')

    def half():
      self._file.write(data[:len(data) // 2])
      self._file.flush()
    self._event('write', self.name, half)
    return self._file.write(data)

  def flush(self):
    if not self._file.closed:
      self._event('flush', self.name)
      self._file.flush()

  def close(self):
    if not self._file.closed:
      try:
        self._event('close', self.name)
      finally:
        self._file.close()

  def __exit__(self, *_):
    self.close()

  closed = property(lambda self: self._file.closed)
  fileno = property(lambda self: self._file.fileno)
  read = property(lambda self: self._file.read)
  readinto = property(lambda self: self._file.readinto)
  seek = property(lambda self: self._file.seek)
  tell = property(lambda self: self._file.tell)
  truncate = property(lambda self: self._file.truncate)
  readable = property(lambda self: self._file.readable)
  writable = property(lambda self: self._file.writable)
  seekable = property(lambda self: self._file.seekable)


class _Container:
  """Stands in for PyAV's container of a file that is written: each packet and the end are events."""

  def __init__(self, container, event, path):
    self._container, self._event, self._path = container, event, path

  def __getattr__(self, name):
    return getattr(self._container, name)

  def mux(self, packets):
    self._event('mux', self._path)
    self._container.mux(packets)

  def close(self):
    self._event('mux', self._path)
    self._container.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


class Injector:
  """Counts a process's writes under a folder; at one of them the process dies, or from it on the disk is full."""

  def __init__(self, folder: pathlib.Path, kind: str | None = None, at: int = 0):
    self._folder, self._kind, self._at = os.path.join(os.path.realpath(folder), ''), kind, at
    self.count, self.seen = 0, []

  def install(self) -> None:
    """Begins to count; for the rest of the process."""
    import av
    real_open, real_av_open, real_flush = builtins.open, av.open, np.memmap.flush
    fsync = os.fsync

    def open_counted(file, mode='r', buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
      if not set(mode) & set('wax+') or isinstance(file, int) or not self._is_inside(file):
        return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
      if 'b' in mode:
        return _File(real_open(file, mode), self.event)
      binary = _File(real_open(file, mode.replace('t', '') + 'b'), self.event)
      return io.TextIOWrapper(binary, encoding or 'utf-8', errors, newline, line_buffering=buffering == 1)

    def open_av(file, mode=None, **options):
      container = real_av_open(file, mode, **options)
      is_ours = mode == 'w' and isinstance(file, str) and self._is_inside(file)
      return _Container(container, self.event, file) if is_ours else container

    def flush(array):
      if array.mode in ('w+', 'r+') and self._is_inside(array.filename):
        self.event('msync', array.filename)
      real_flush(array)

    def sync(file):
      self.event('fsync', self._path_of(file))
      fsync(file)

    builtins.open = io.open = open_counted
    av.open, np.memmap.flush, os.fsync = open_av, flush, sync
    sys.addaudithook(self._audit)

  def _path_of(self, file: int) -> str:
    try:
      return os.readlink(f'/proc/self/fd/{file}')
    except OSError:
      return ''

  def _is_inside(self, path, folder: int = -1) -> bool:
    if isinstance(path, int):
      path = self._path_of(path)
    try:
      path = os.fsdecode(path)
    except TypeError:
      return False
    if folder is not None and folder >= 0 and not os.path.isabs(path):
      path = os.path.join(self._path_of(folder), path)
    return (os.path.abspath(path) + os.sep).startswith(self._folder)

  def _audit(self, name, arguments) -> None:
    if name == 'open':
      path, _, flags = arguments
      if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and isinstance(path, (str, bytes, os.PathLike)) and self._is_inside(path):
        self.event('open', path)
    elif name in PATH_EVENTS:
      folder = arguments[-1] if isinstance(arguments[-1], int) else -1
      if self._is_inside(arguments[0], folder):
        self.event(name, arguments[0])

  def event(self, what: str, path, half: Callable[[], Any] | None = None) -> None:
    """A place to die. half: does half of what comes."""
    self.count += 1
    self.seen.append(what)
    if self._kind == 'full':
      if self.count >= self._at and what not in FREES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path) if not isinstance(path, int) else None)
    elif self._kind and self.count == self._at:
      if self._kind == 'torn' and half:
        half()
      os.kill(os.getpid(), signal.SIGKILL)
