"""Checksums, 128 bits of BLAKE2b in hexadecimal: of a file, of an array, and of a JSON record that carries its own."""
import hashlib
import json
import os
from typing import Any

import numpy as np

from speech2lip_jax.common.errors import InputError

SEAL = 'checksum'  # the key of a record's own
_BYTES = 16


def of_file(path: os.PathLike | str) -> str:
  """Of a file's bytes, read once."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()


def of_array(array: np.ndarray) -> str:
  """Of an array's dtype, shape and values."""
  array = np.asarray(array)
  digest = hashlib.blake2b(f'{array.dtype.str} {array.shape}'.encode(), digest_size=_BYTES)
  digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return digest.hexdigest()


def of_record(record: Any) -> str:
  """Of what a record is as JSON, whatever its order and layout."""
  text = json.dumps(record, sort_keys=True, separators=(',', ':'))
  return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
  """The record with its checksum under SEAL."""
  return record | {SEAL: of_record(json.loads(json.dumps(record)))}


def unsealed(record: Any) -> dict[str, Any]:
  """The record without its checksum; one that has none, from before there were any, as it is.

  Raises:
    ValueError: it is no record, or not what was sealed.
  """
  if not isinstance(record, dict):
    raise ValueError(f'holds {type(record).__name__}, not a record')
  rest = {name: value for name, value in record.items() if name != SEAL}
  if SEAL in record and of_record(rest) != record[SEAL]:
    raise ValueError('its checksum is of other values')
  return rest


def read_record(path: os.PathLike | str, remedy: str) -> dict[str, Any]:
  """A JSON record from a file, without its checksum; `remedy` ends the message of an error.

  Raises:
    InputError: the file cannot be read, is no JSON record, or not what was sealed.
  """
  try:
    with open(path, encoding='utf-8') as file:
      return unsealed(json.load(file))
  except (OSError, ValueError, RecursionError) as error:
    reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    raise InputError(f'{path}: damaged ({reason}); {remedy}') from error
