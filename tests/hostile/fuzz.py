"""Byte flips of one small good file of each container, read as a user's file would be.

    python -m tests.hostile.fuzz 'mp4 0' 'mp4 1' 'npz 0' …

Any outcome is right but an exception that is no `InputError`, a hang, or a crash, which the caller sees as the end of the process.
"""

import faulthandler
import itertools
import json
import logging
import pathlib
import resource
import sys
import tempfile
import time
import traceback

import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from tests.hostile import run
from tests.hostile.makers import PICTURES, clip, faces, png, sound_file, wav, write

HANG_S = 60
SUBTITLES = '1\n00:00:00,000 --> 00:00:02,000\nHello <b>you</b>.\n\n2\n00:00:03,000 --> 00:00:04,500\nYes.\n'

SEEDS = {
  'mp4': ('see', lambda at: clip(at / 'a.mp4', movflags='faststart')),
  'mov': ('see', lambda at: clip(at / 'a.mov', 'mpeg4')),
  'mkv': ('see', lambda at: clip(at / 'a.mkv')),
  'webm': ('see', lambda at: clip(at / 'a.webm', 'libvpx', sound='libopus', sound_rate=48_000)),
  'avi': ('see', lambda at: clip(at / 'a.avi', 'mpeg4', sound='libmp3lame')),
  'mpg': ('see', lambda at: clip(at / 'a.mpg', 'mpeg2video', sound='mp2', sound_rate=48_000)),
  'ts': ('see', lambda at: clip(at / 'a.ts', container='mpegts')),
  'source': ('source', lambda at: clip(at / 'a.mp4', movflags='faststart')),
  'wav': ('hear', lambda at: write(at / 'a.wav', wav(_tone()))),
  'float wav': ('hear', lambda at: write(at / 'a.wav', wav(_tone().astype(np.float32) / 40_000, code=3))),
  'mp3': ('hear', lambda at: sound_file(at / 'a.mp3', 'libmp3lame')),
  'm4a': ('hear', lambda at: sound_file(at / 'a.m4a', 'aac', movflags='faststart')),
  'flac': ('hear', lambda at: sound_file(at / 'a.flac', 'flac')),
  'ogg': ('hear', lambda at: sound_file(at / 'a.ogg', 'libopus', rate=48_000)),
  'png': ('picture', lambda at: write(at / 'a.png', png(48, 48))),
  'npz': ('tracks', lambda at: _tracks(at)),
  'npy': ('features', lambda at: _features(at)),
  'weights': ('weights', lambda at: _weights(at)),
  'srt': ('text', lambda at: write(at / 'a.srt', SUBTITLES)),
}


def _tone():
  return np.random.default_rng(0).integers(-9000, 9000, (2, 16_000)).astype(np.int16)


def _tracks(at):
  clip(at / run.VIDEO_OF_TRACKS)
  np.savez_compressed(at / 'a.npz', landmarks=np.round(faces(PICTURES)))
  return str(at / 'a.npz')


def _features(at):
  np.save(at / 'a.npy', np.ones((25, 8), np.float32))
  return str(at / 'a.npy')


def _weights(at):
  np.savez(at / 'a.npz', **{'a/kernel': np.ones((3, 4), np.float32), 'a/bias': np.ones(4, np.float32)})
  return str(at / 'a.npz')


def flipped(content: bytes, rng: np.random.Generator, is_text: bool) -> bytes:
  """A file with 1 … 32 bytes changed, a part cut out, doubled or zeroed, or its end gone; headers are hit most."""
  changed = bytearray(content)
  reach = len(changed) if rng.random() < 0.5 else min(len(changed), 400)
  for _ in range(2 ** rng.integers(0, 6)):
    place = rng.integers(reach)
    changed[place] = rng.choice([rng.integers(256), 0, 255, changed[place] ^ 1 << rng.integers(8)])
  kind, begin = rng.integers(12), rng.integers(len(changed))
  end = begin + rng.integers(1, 200)
  if kind == 0:
    del changed[begin:end]
  elif kind == 1:
    changed[begin:begin] = changed[begin:end]
  elif kind == 2:
    changed[begin:end] = bytes(len(changed[begin:end]))
  elif kind == 3:
    del changed[begin:]
  return bytes(byte & 127 for byte in changed) if is_text else bytes(changed)


def main(names: list[str]) -> None:
  resource.setrlimit(resource.RLIMIT_AS, (run.MAX_BYTES, run.MAX_BYTES))
  logging.getLogger('absl').handlers, logging.getLogger('absl').propagate = [run.Kept()], False
  for kind, jobs in itertools.groupby(names, lambda name: name.rsplit(' ', 1)[0]):
    act, make = SEEDS[kind]
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(make(pathlib.Path(folder)))
      content = path.read_bytes()
      for name in jobs:
        seed = int(name.rsplit(' ', 1)[1])
        print(json.dumps({'begun': name}), flush=True)
        write(path, flipped(content, np.random.default_rng([seed, *kind.encode()]), kind == 'srt'))
        media.warn_once.cache_clear()
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        started = time.monotonic()
        what, told = 'right', ''
        try:
          run.ACTS[act](str(path))
        except InputError as error:
          what, told = 'line' if '\n' not in str(error) else 'traceback', str(error)
        except BaseException as error:
          what, told = 'traceback', ''.join(traceback.format_exception(error)[-3:])
        faulthandler.cancel_dump_traceback_later()
        seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({'name': name, 'outcome': what, 'told': told, 'seconds': seconds, 'peak': peak}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
