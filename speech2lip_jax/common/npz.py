"""Reading .npz and .npy files that somebody else may have made: nothing is unpickled, no more is read than they may hold.

A zip tells how large a part will be; so does the header of the array in it. Both are compared with each other and with what is
expected before memory is taken: a file of 3 MB can hold 6 GB of zeros.
"""
import contextlib
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from speech2lip_jax.common.errors import one_line

MAX_BYTES = 2**30  # of all arrays of a file that is read whole: five times the largest weights that the program reads
_DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, OverflowError, MemoryError, SyntaxError,
           tokenize.TokenError, zipfile.BadZipFile, zlib.error)


class StoredArray:
  """An array in an open .npz, of which rows can be read. shape: more than no axes. dtype: no object."""

  def __init__(self, archive: zipfile.ZipFile, member: str):
    """Raises ValueError where the header is damaged, asks for Python objects, or says another size than the zip."""
    self._archive, self._member = archive, member
    with archive.open(member) as stream:
      version = np.lib.format.read_magic(stream)
      read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
      self.shape, self._is_fortran, self.dtype = read_header(stream)
      self._begin = stream.tell()
    if self.dtype.hasobject:
      raise ValueError(f'{member} holds Python objects')
    self.num_bytes = math.prod(self.shape) * self.dtype.itemsize
    held = archive.getinfo(member).file_size - self._begin
    if min(self.shape, default=0) < 0 or self.num_bytes != held:
      raise ValueError(f'{member} says {self.dtype} {list(self.shape)}, and holds {held} bytes')

  def read(self) -> np.ndarray:
    """All of it."""
    with self._archive.open(self._member) as stream:
      return np.lib.format.read_array(stream, allow_pickle=False)

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Rows start … stop − 1; those alone are held, unless the array lies column by column."""
    if self._is_fortran:
      return self.read()[start:stop]
    shape = (max(0, min(stop, self.shape[0]) - start), *self.shape[1:])
    size = math.prod(self.shape[1:]) * self.dtype.itemsize
    with self._archive.open(self._member) as stream:
      stream.seek(self._begin + start * size)
      return np.frombuffer(stream.read(shape[0] * size), self.dtype).reshape(shape)


@contextlib.contextmanager
def opened(path: os.PathLike | str) -> Iterator[dict[str, StoredArray]]:
  """The arrays of an .npz by name.

  Raises:
    ValueError: it is none, or damaged, also where that shows only when an array is read.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      yield {member.removesuffix('.npy'): StoredArray(archive, member)
             for member in archive.namelist() if member.endswith('.npy')}
  except _DAMAGE as error:
    raise ValueError(one_line(str(error)) or type(error).__name__) from error


def load(path: os.PathLike | str, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
  """All arrays of an .npz.

  Raises:
    ValueError: it is none, damaged, or would take more than `max_bytes`.
  """
  with opened(path) as arrays:
    total = sum(array.num_bytes for array in arrays.values())
    if total > max_bytes:
      raise ValueError(f'its arrays take {total / 1e9:.1f} GB, more than {max_bytes / 1e9:.1f}')
    return {name: array.read() for name, array in arrays.items()}


def open_npy(path: os.PathLike | str) -> np.ndarray:
  """A memory map of an .npy.

  Raises:
    ValueError: it is none, damaged, or holds Python objects.
  """
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except _DAMAGE as error:
    raise ValueError(one_line(str(error)) or type(error).__name__) from error
  if not isinstance(array, np.ndarray):
    raise ValueError('it holds several arrays')
  return array
