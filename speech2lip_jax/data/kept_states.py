"""A speech encoder's states of a subject's sound, kept in SUBJECT/features so that they are computed once."""
import hashlib
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from speech2lip_jax.common import checksums, npz
from speech2lip_jax.common.files import open_atomic, write_text
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data.dataset import Subject

VERSION = 2  # of what is kept; part of its mark


def ranges_of(lengths: list[int]) -> list[tuple[int, int]]:
  ends = np.cumsum([0, *lengths]).tolist()
  return list(zip(ends[:-1], ends[1:]))


def kept_states(subject: Subject, name: str, digest: str, load: Callable[[], Any],
                encode: Callable[[Any, np.ndarray], np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
  """A speech encoder's states of a subject's sound, each clip on its own, from SUBJECT/features or computed and put there.

  Args:
    subject: whose sound it is.
    name: begins the files' names.
    digest: tells the weights, and whatever else the states follow from.
    load: gives the encoder, an `Encoder`.
    encode: (encoder, [n] int16) → [M, C].

  Returns:
    states: [M, C] float16, clips one after another; a memory map where they were there.
    record: 'rate', 'first_step', 'steps_of_clips' and what made them.
  """
  mark = {'version': VERSION, 'encoder_sha256': digest, 'sound_sha256': _sound_digest(subject)}
  stem = re.sub(r'[^A-Za-z0-9_.-]+', '_', name)
  key = hashlib.sha256(json.dumps(mark, sort_keys=True).encode()).hexdigest()[:12]
  array_path = subject.folder / 'features' / f'{stem}-{key}.npy'
  record_path = array_path.with_suffix('.json')
  try:
    record = checksums.unsealed(json.loads(record_path.read_text()))
    states = npz.open_npy(array_path)
    if all(record[name] == value for name, value in mark.items()) and list(states.shape) == record['shape'] and (
        states.dtype == np.float16 and sum(record['steps_of_clips']) == len(states)) and (
            record.get('blake2b') in (None, checksums.of_array(states))):
      return states, record
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    pass  # not there, damaged, half written by an older kind of program, or of something else: made again
  encoder, clips = load(), subject.meta.clips
  parts = [encode(encoder, subject.sound[clip.start:clip.stop].reshape(-1)).astype(np.float16)
           for clip in Bar(clips, total=len(clips), title='speech features', unit='clip')]
  states = np.concatenate(parts)
  record = mark | {'source': stem, 'library': encoder.library, 'rate': encoder.rate, 'first_step': encoder.first_step,
                   'shape': list(states.shape), 'steps_of_clips': [len(part) for part in parts],
                   'blake2b': checksums.of_array(states)}
  # Several processes may do this at once: each writes its own file and puts the same content under the name.
  try:
    array_path.parent.mkdir(exist_ok=True)
    with open_atomic(array_path) as file:
      np.save(file, states)
    write_text(record_path, json.dumps(checksums.sealed(record), indent=1) + '\n')
  except OSError as error:
    print(f'{array_path}: cannot be kept ({error.strerror}); speech features are computed again each time', file=sys.stderr)
  return states, record


def _sound_digest(subject: Subject) -> str:
  """Of the subject's sound and where its clips begin."""
  with open(subject.folder / 'audio.wav', 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256')
  digest.update(repr([(clip.start, clip.num_frames) for clip in subject.meta.clips]).encode())
  return digest.hexdigest()
