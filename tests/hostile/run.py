"""Does what a user would with each kind of input named on the command line, and prints a JSON line about each.

    python -m tests.hostile.run NAME …

In a process of its own, because a decoder that crashes or hangs takes the process with it: the caller sees which was begun last.
"""

import faulthandler
import json
import logging
import os
import pathlib
import re
import resource
import sys
import tempfile
import time
import traceback

import numpy as np

from speech2lip_jax.common import weights
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import file_features
from speech2lip_jax.data.utterance import read_utterance
from speech2lip_jax.dubbing import source as source_module
from speech2lip_jax.dubbing import text as text_module
from speech2lip_jax.preprocess import audio, landmarks, tracks, video
from speech2lip_jax.released import import_dataset
from tests.hostile.kinds import KINDS, VIDEO_OF_TRACKS

HANG_S = 30
MAX_BYTES = 6 * 2**30  # of addresses: more than any of this needs, less than a bomb takes


class Speaker:
  """Says a tenth of a second a word."""

  title, licence = 'a tester', 'free'

  def speak(self, text, speed=1.0):
    return np.ones(round(1600 * len(text.split()) / speed), np.int16), 16_000


def hear(path):
  said = read_utterance(path)
  assert abs(len(said.mono) / 16_000 - said.seconds) < 0.05
  return {'seconds': said.seconds}


def look(path, needs_sound=False):
  [path] = video.expand_inputs([path])
  info = video.probe(path, needs_sound=needs_sound)
  if needs_sound:
    audio.check(info)
    assert len(audio.read_sound(info)) == info.num_frames * 640
  count, image = 0, None
  for _, image in video.read_frames(info, max_side=64):
    assert image.dtype == np.uint8 and image.shape[2] == 3
    count += 1
  assert count == info.num_frames
  return {'seconds': count / 25, 'size': (info.width, info.height)}


def see(path):
  return look(path, needs_sound=True)


def source(path):
  opened = source_module.open_source(path)
  count = len(opened.facts.times_s)
  assert sum(1 for _ in opened.read(range(count))) == count
  return {'seconds': opened.facts.duration_s}


def landmarks_of(path):
  folder = pathlib.Path(path).parent
  [info] = [video.probe(str(folder / VIDEO_OF_TRACKS))]
  [path] = video.expand_inputs([path], '--tracks')
  [rows] = tracks.grid_pictures([path], [info])
  segment = landmarks.Segment(info, 0, info.num_frames, folder / 'part.npz', 'mark')
  assert tracks.copy_segment(segment, path, rows) == len(rows)
  return {'seconds': len(rows) / 25}


def features(path):
  file_features.open_array(path, 'give another')
  return {}


def read_weights(path):
  weights.load_tree(path, 'give another')
  return {}


def picture(path):
  import_dataset._read_picture(pathlib.Path(path))
  return {}


def text(path):
  sound, rate = text_module.speak(path, Speaker())
  return {'seconds': len(sound) / rate}


ACTS = {
  'hear': hear,
  'look': look,
  'see': see,
  'source': source,
  'tracks': landmarks_of,
  'features': features,
  'weights': read_weights,
  'picture': picture,
  'text': text,
}


def outcome(kind, given, warnings):
  """'line', 'right', 'silent' or 'traceback', and what was told."""
  expected = kind.expected
  try:
    found = ACTS[kind.act](given)
  except InputError as error:
    line = str(error)
    is_clear = (
      isinstance(expected, str) and re.search(expected, line) and '\n' not in line and not re.search('[\x00-\x1f]', line)
    )
    return 'line' if is_clear else 'traceback', line
  except BaseException as error:
    return 'traceback', ''.join(traceback.format_exception(error)[-3:])
  told = '; '.join(warnings)
  if isinstance(expected, str):
    return ('right' if re.search(expected, '') else 'silent'), f'{found} {told}'
  fits = (
    (expected.seconds is None or abs(found['seconds'] - expected.seconds) <= expected.within)
    and (expected.size is None or found['size'] == expected.size)
    and (
      expected.warns == 'any' or (len(warnings) == 1 and re.search(expected.warns, told) if expected.warns else not warnings)
    )
  )
  return 'right' if fits else 'silent', f'{found} {told}'


class Kept(logging.Handler):
  def __init__(self):
    super().__init__()
    self.told = []

  def emit(self, record):
    self.told.append(record.getMessage())


def main(names):
  resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
  kept = Kept()
  logging.getLogger('absl').handlers, logging.getLogger('absl').propagate = [kept], False
  for name in names:
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
      print(json.dumps({'begun': name}), flush=True)
      given = kind.make(pathlib.Path(folder))
      kept.told.clear()
      faulthandler.dump_traceback_later(HANG_S, exit=True)
      started = time.monotonic()
      what, told = outcome(kind, given, kept.told)
      seconds = time.monotonic() - started
      faulthandler.cancel_dump_traceback_later()
      if folder in told and what == 'line':
        told = told.replace(folder, '…')
      peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
      print(json.dumps({'name': name, 'outcome': what, 'told': told, 'seconds': seconds, 'peak': peak}), flush=True)


if __name__ == '__main__':
  os.umask(0o077)
  main(sys.argv[1:] or list(KINDS))
