"""How much memory does it take, and how does that grow with the length of the sound and of the video?

    python benchmarks/memory.py sound --workdir RUN --minutes 10 30 120    # all that `render` does before the first frame
    python benchmarks/memory.py dub --workdir RUN --video talk.mp4 --seconds 10 60 150
    python benchmarks/memory.py preprocess --minutes 5 20 60               # a small synthetic head, its landmarks as --tracks

Each point is a process of its own: the largest resident size of it and of its children, as the system counts it. The sound is noise
that swells, 48 kHz stereo, so that there is something to hear; what the model makes of it does not matter.
"""
import argparse
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import av
import numpy as np

SIZE, FPS = 96, 25


def write_sound(path, seconds, rate=48_000):
  """A stereo m4a, a second at a time."""
  rng = np.random.default_rng(0)
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('aac', rate=rate, layout='stereo')
    for second in range(round(seconds)):
      swell = 3000 * (1.1 + np.sin(np.arange(rate) / rate * 2 * np.pi * 3))
      samples = (rng.standard_normal((2, rate)) * swell / 32768).astype(np.float32)
      frame = av.AudioFrame.from_ndarray(samples, format='fltp', layout='stereo')
      frame.sample_rate, frame.pts, frame.time_base = rate, second * rate, Fraction(1, rate)
      file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def write_video(path, tracks, seconds):
  """A synthetic head of 10 s again and again, forwards and backwards, and its landmarks."""
  from speech2lip_jax.synthetic.subject import SyntheticSubject
  subject = SyntheticSubject(size=SIZE, num_frames=250, seed=2, motion='nodding')
  images = [subject.render(n).rgb for n in range(250)]
  points = np.stack([subject.landmarks(n) for n in range(250)]).astype(np.float32)
  order = np.tile(np.r_[0:250, 249:-1:-1], round(seconds * FPS) // 500 + 1)[:round(seconds * FPS)]
  rng = np.random.default_rng(0)
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('libx264', rate=FPS, options={'preset': 'ultrafast'})
    stream.height = stream.width = SIZE
    heard = file.add_stream('aac', rate=16_000, layout='mono')
    for number, row in enumerate(order):
      file.mux(stream.encode(av.VideoFrame.from_ndarray(images[row], format='rgb24')))
      sound = (rng.standard_normal((1, 640)) * 0.05 * (1 + np.sin(number / 3))).astype(np.float32)
      frame = av.AudioFrame.from_ndarray(sound, format='fltp', layout='mono')
      frame.sample_rate, frame.pts, frame.time_base = 16_000, number * 640, Fraction(1, 16_000)
      file.mux(heard.encode(frame))
    file.mux(stream.encode(None))
    file.mux(heard.encode(None))
  np.savez(tracks, landmarks=points[order])


def peak_gib(command):
  """GiB of the largest process among a command and its children, and its seconds."""
  watch = ('import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); '
           'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)')
  started = time.perf_counter()
  done = subprocess.run([sys.executable, '-c', watch, *command], check=True, stdout=subprocess.PIPE, text=True)
  return int(done.stdout) / 2**20, time.perf_counter() - started


def hear(workdir, path):
  """What `render` does with a sound before its first frame."""
  from speech2lip_jax.data.utterance import read_utterance
  from speech2lip_jax.rendering.trained import load_trained
  speech = read_utterance(path)
  trained = load_trained(workdir, 8)
  for what, act in (('read', lambda: None), ('mouths', lambda: trained.sound_mouths(speech.mono, round(speech.seconds * FPS)))):
    act()
    print(f'{what}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB', file=sys.stderr)


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('what', choices=['sound', 'dub', 'preprocess', 'hear'])
  parser.add_argument('--workdir')
  parser.add_argument('--video')
  parser.add_argument('--audio')
  parser.add_argument('--minutes', type=float, nargs='*', default=[10, 30, 120])
  parser.add_argument('--seconds', type=float, nargs='*', default=[10, 60, 150])
  arguments = parser.parse_args()
  if arguments.what == 'hear':
    hear(arguments.workdir, arguments.audio)
    return
  print(f'{platform.machine()}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}\n')
  print('| length | GiB, largest process | s |\n|---|---|---|')
  lengths = arguments.seconds if arguments.what == 'dub' else [60 * minutes for minutes in arguments.minutes]
  for seconds in lengths:
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      if arguments.what == 'preprocess':
        write_video(folder / 'talk.mp4', folder / 'talk.npz', seconds)
        command = ['-m', 'speech2lip_jax', 'preprocess', f'--video={folder / "talk.mp4"}', f'--tracks={folder / "talk.npz"}',
                   f'--out={folder / "subject"}', f'--size={SIZE}']
      else:
        write_sound(folder / 'a.m4a', seconds)
        files = [f'--workdir={arguments.workdir}', f'--audio={folder / "a.m4a"}']
        command = [__file__, 'hear', *files] if arguments.what == 'sound' else [
            '-m', 'speech2lip_jax', 'dub', f'--video={arguments.video}', *files, f'--out={folder / "dub.mp4"}']
      gib, took_s = peak_gib([sys.executable, *command])
      print(f'| {f"{seconds:g} s" if seconds < 180 else f"{seconds / 60:g} min"} | {gib:.2f} | {took_s:.0f} |', flush=True)


if __name__ == '__main__':
  main()
