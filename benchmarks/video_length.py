"""How long does `speech2lip preprocess` take, and how does that grow with the length of the video?

    python benchmarks/video_length.py --video talk.mp4 --size 512                      # the video as it is
    python benchmarks/video_length.py --video talk.mp4 --size 256 --minutes 1 5 20     # and repeated to these lengths

All stages, compilation and start included; peak memory is that of the largest process. `--landmarker` as for `preprocess`.
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

import av
import numpy as np


def repeat_video(video, out, seconds):
  """Writes the video again and again until `seconds` are full; packets are copied."""
  with av.open(str(out), 'w') as target:
    streams, offset = {}, 0.0
    while offset < seconds:
      with av.open(str(video)) as source:
        wanted = [source.streams.video[0], source.streams.audio[0]]
        for stream in wanted:
          if stream.type not in streams:
            streams[stream.type] = target.add_stream_from_template(stream)
        for packet in source.demux(wanted):
          if packet.dts is not None:
            shift = round(offset / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, streams[packet.stream.type]
            target.mux(packet)
        offset += source.duration / av.time_base


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--video', required=True, type=pathlib.Path)
  parser.add_argument('--size', type=int, default=512)
  parser.add_argument('--minutes', type=float, nargs='*', default=[])
  parser.add_argument('--landmarker')
  arguments = parser.parse_args()
  print(f'{platform.machine()}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}; {arguments.size}×{arguments.size}\n')
  print('| video, its length | frames | s | s a frame | GiB, largest process | GiB, subject |\n|---|---|---|---|---|---|')
  for minutes in (None, *arguments.minutes):
    with tempfile.TemporaryDirectory() as folder:
      folder, source = pathlib.Path(folder), arguments.video
      if minutes:
        source = folder / f'{minutes:g}.mp4'
        repeat_video(arguments.video, source, 60 * minutes)
      command = [sys.executable, '-m', 'speech2lip_jax', 'preprocess', f'--video={source}', f'--out={folder / "subject"}',
                 f'--size={arguments.size}', *([f'--landmarker={arguments.landmarker}'] if arguments.landmarker else [])]
      start = time.perf_counter()
      subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
      seconds = time.perf_counter() - start
      count = len(np.load(folder / 'subject' / 'frames.npy', mmap_mode='r'))
      peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
      disk = sum(path.stat().st_size for path in (folder / 'subject').rglob('*') if path.is_file()) / 2**30
      name = f'{arguments.video.name}, {count / 1500:.1f} min'
      print(f'| {name} | {count} | {seconds:.0f} | {seconds / count:.4f} | {peak:.1f} | {disk:.2f} |', flush=True)


if __name__ == '__main__':
  main()
