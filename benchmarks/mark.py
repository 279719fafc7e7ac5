"""What the invisible mark survives, what it costs, and how often it is seen where there is none.

    python benchmarks/mark.py --clips CLIPS [--videos 6] [--windows 200]

CLIPS: folder of videos of speaking faces. A window around the mouth (`--window`, shares of the picture; a face in its middle) is
marked as `render` marks it, the film written at crf 17, and then changed; nothing is told to the reader but the changed film.
bits: share of the 32 that are right, each read by itself, at the best place; found: films in which the mark is found, and its
model number is right. psnr: of marked pictures against unmarked ones, in the window, dB. Unmarked windows: stretches of 25
pictures cut out around mouths, each searched whole and with all places of its edges.
"""
import argparse
import io
import pathlib
import time

import av
import cv2
import numpy as np

from speech2lip_jax.preprocess import video
from speech2lip_jax.provenance import code, mark, reading

NUMBER = 1234
COUNTS = 25, 100


def films(folder, count, num_pictures):
  """The first videos of the folder: name and their first pictures [n, H, W, 3], at 25 a second."""
  for path in sorted(path for path in folder.rglob('*') if path.suffix in ('.mp4', '.mpg', '.mov'))[:count]:
    info = video.probe(str(path), needs_sound=False)
    yield path.name, np.stack([image for _, image in video.read_frames(info, 0, min(num_pictures, info.num_frames), 1280)])


def encoded(pictures, crf):
  """Pictures as they come back from H.264."""
  height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
  buffer = io.BytesIO()
  with av.open(buffer, 'w', format='mp4') as file:
    stream = file.add_stream('libx264', rate=25, options={'crf': str(crf), 'preset': 'veryfast'})
    stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
    for picture in pictures:
      file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format='rgb24')))
    file.mux(stream.encode())
  buffer.seek(0)
  with av.open(buffer) as file:
    return [frame.to_ndarray(format='rgb24') for frame in file.decode(video=0)]


def resized(pictures, height):
  """Pictures of that height and the same shape."""
  size = round(pictures[0].shape[1] * height / pictures[0].shape[0] / 2) * 2, round(height / 2) * 2
  how = cv2.INTER_AREA if height < pictures[0].shape[0] else cv2.INTER_CUBIC
  return [cv2.resize(picture, size, interpolation=how) for picture in pictures]


def cut(pictures, share):
  """Without a share of the height and width, more of it at the left than at the right."""
  height, width = pictures[0].shape[:2]
  top, left = round(0.5 * share * height), round(0.7 * share * width)
  return [picture[top:top + round((1 - share) * height), left:left + round((1 - share) * width)] for picture in pictures]


CHANGES = {
    'as written, crf 17': lambda pictures: pictures,
    'crf 18': lambda pictures: encoded(pictures, 18),
    'crf 23': lambda pictures: encoded(pictures, 23),
    'crf 28': lambda pictures: encoded(pictures, 28),
    'half the size, crf 23': lambda pictures: encoded(resized(pictures, pictures[0].shape[0] / 2), 23),
    '1.5 times the size, crf 23': lambda pictures: encoded(resized(pictures, pictures[0].shape[0] * 1.5), 23),
    '720 lines, crf 23': lambda pictures: encoded(resized(pictures, 720), 23),
    '5 % cut off, crf 23': lambda pictures: encoded(cut(pictures, 0.05), 23),
    '5 % cut off, back to size, crf 23': lambda pictures: encoded(resized(cut(pictures, 0.05), pictures[0].shape[0]), 23)}


def read(pictures):
  """What is found in pictures [n], of which nothing is known."""
  grey = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in pictures]
  return reading.read(grey, np.arange(len(grey)) / 25)


def survival(arguments):
  """Prints the table of changes."""
  marker, rows, psnr, cost_s = mark.Mark(NUMBER), {}, [], []
  for name, pictures in films(arguments.clips, arguments.videos, max(COUNTS)):
    shares = np.array(arguments.window) * np.tile(pictures[0].shape[:2], 2)
    window = tuple(int(side) for side in shares)
    started = time.process_time()
    marked = np.stack([marker.add(picture, window, number / 25) for number, picture in enumerate(pictures)])
    cost_s.append((time.process_time() - started) / len(pictures))
    part = (slice(None), slice(window[0], window[0] + window[2]), slice(window[1], window[1] + window[3]))
    psnr.append(10 * np.log10(255**2 / np.mean((marked[part].astype(np.float32) - pictures[part])**2)))
    print(f'{name}: {len(pictures)} pictures of {pictures.shape[2]}×{pictures.shape[1]}, window {window[3]}×{window[2]}, '
          f'psnr {psnr[-1]:.1f} dB', flush=True)
    written = encoded(marked, 17)
    for change, apply in CHANGES.items():
      changed = apply(written)
      for count in COUNTS:
        found = read(changed[:count])
        right = float((found.bits == code.bits_of(NUMBER)).mean())
        rows.setdefault(change, {}).setdefault(count, []).append((right, found.is_marked and found.number == NUMBER))
        print(f'  {change}, {min(count, len(changed))}: bits {right:.2f}, score {found.score:.1f}, {found.is_marked}', flush=True)
  print(f'\npsnr {np.mean(psnr):.1f} dB ({min(psnr):.1f} … {max(psnr):.1f}), {1e3 * np.median(cost_s):.2f} ms a picture\n')
  print('| | ' + ' | '.join(f'bits, {count} pictures | found' for count in COUNTS) + ' |\n|' + '---|' * (1 + 2 * len(COUNTS)))
  for change, of_counts in rows.items():
    cells = [f'{np.mean([bits for bits, _ in of_counts[count]]):.2f} | {sum(is_found for _, is_found in of_counts[count])} of '
             f'{len(of_counts[count])}' for count in COUNTS]
    print(f'| {change} | ' + ' | '.join(cells) + ' |')


def false_alarms(arguments):
  """Prints in how many unmarked windows a mark is found, and how near the likeliest came to it."""
  highest, tried, alarms = 0.0, 0, 0
  for _, pictures in films(arguments.clips, 10**6, 75):
    top, left, height, width = (int(side) for side in np.array(arguments.window) * np.tile(pictures[0].shape[:2], 2))
    for start in range(0, len(pictures) - 24, 25):
      if tried == arguments.windows:
        break
      found = read(pictures[start:start + 25, top:top + height, left:left + width])
      tried, alarms, highest = tried + 1, alarms + found.is_marked, max(highest, found.score)
  print(f'{alarms} of {tried} unmarked windows; highest score {highest:.1f}; bound a window {reading.ACCEPTED_CHANCE:g}',
        flush=True)


def main():
  """Reads the flags and runs both."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--clips', type=pathlib.Path, required=True)
  parser.add_argument('--videos', type=int, default=6)
  parser.add_argument('--windows', type=int, default=200)
  parser.add_argument('--window', type=float, nargs=4, default=(0.5, 0.3, 0.34, 0.4), help='top, left, height, width')
  arguments = parser.parse_args()
  if arguments.windows:
    false_alarms(arguments)
  if arguments.videos:
    survival(arguments)


if __name__ == '__main__':
  main()
