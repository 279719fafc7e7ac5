"""Makes the moving picture at the top of the README from a finished demo.

    speech2lip demo --workdir demo
    python docs/pictures/make.py demo docs/pictures/demo.webp

Three columns play at once: true held-out frames, ours from their sound, and the same head saying another voice. Below each head is
its mouth, enlarged. The head of the demo is a NASA portrait (public domain).
"""
import pathlib
import sys
from collections.abc import Iterator

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from speech2lip_jax.configs import demo as demo_recipe
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import load_subject, split_frames
from speech2lip_jax.preprocess import video
from speech2lip_jax.rendering.film import background_frames

LABELS = ('true, never seen in training', 'ours, from its sound', 'ours, another voice')
START_S, FOREIGN_START_S, SECONDS = 3.0, 0.0, 4.0  # of the held-out frames, of the foreign sound; how long it plays
EVERY = 2  # frames: 12.5 pictures a second
COLUMN, MOUTH_HEIGHT, LABEL_HEIGHT, GAP = 232, 112, 24, 6  # pixels of the picture
HEAD = 0.86  # of the frame's side: what is shown of it
MOUTH = 0.30  # of the frame's side: width of the enlarged mouth
LIPS = [61, 291, 0, 17]  # landmarks: the corners, the middle of the upper and of the lower lip
QUALITY = 60


def read(path: pathlib.Path, rows: np.ndarray) -> list[np.ndarray]:
  """The frames `rows` of a video, [H, W, 3] uint8 each."""
  wanted, found = set(rows.tolist()), {}
  info = video.probe(str(path))
  for index, (_, frame) in enumerate(video.read_frames(info, 0, info.num_frames)):
    if index in wanted:
      found[index] = np.array(frame)
  return [found[row] for row in rows.tolist()]


def column(frame: np.ndarray, mouth: np.ndarray) -> Image.Image:
  """A head over its mouth. mouth: [2] (x, y) pixels of the middle of the lips."""
  side = frame.shape[0]
  picture, margin = Image.fromarray(frame), side * (1 - HEAD) / 2
  head = picture.resize((COLUMN, COLUMN), Image.Resampling.LANCZOS, (margin, margin, side - margin, side - margin))
  half = np.array([MOUTH / 2, MOUTH / 2 * MOUTH_HEIGHT / COLUMN]) * side
  lips = picture.resize((COLUMN, MOUTH_HEIGHT), Image.Resampling.BICUBIC, (*(mouth - half), *(mouth + half)))
  result = Image.new('RGB', (COLUMN, COLUMN + GAP + MOUTH_HEIGHT), 'white')
  result.paste(head, (0, 0))
  result.paste(lips, (0, COLUMN + GAP))
  return result


def pictures(demo: pathlib.Path) -> Iterator[Image.Image]:
  """The pictures of the film, one after another."""
  subject = load_subject(demo / 'subject')
  test = split_frames(subject, demo_recipe.get_config().data).test
  count = round(SECONDS * schema.FPS / EVERY)
  rows = round(START_S * schema.FPS) + EVERY * np.arange(count)
  foreign_rows = round(FOREIGN_START_S * schema.FPS) + EVERY * np.arange(count)
  foreign_ids = background_frames(subject, int(foreign_rows[-1]) + 1, None)[foreign_rows]
  mouths = np.asarray(subject.landmarks)[:, LIPS].mean(1)
  columns = [
      zip([np.asarray(subject.frames[i]) for i in test[rows]], mouths[test[rows]]),
      zip(read(demo / 'held_out.mp4', rows), mouths[test[rows]]),
      zip(read(demo / 'foreign.mp4', foreign_rows), mouths[foreign_ids])]
  font = ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')), 14)
  for moment in zip(*columns):
    parts = [column(frame, mouth) for frame, mouth in moment]
    width = len(parts) * (COLUMN + GAP) - GAP
    picture = Image.new('RGB', (width, LABEL_HEIGHT + parts[0].height), 'white')
    for i, (part, label) in enumerate(zip(parts, LABELS)):
      left = i * (COLUMN + GAP)
      picture.paste(part, (left, LABEL_HEIGHT))
      ImageDraw.Draw(picture).text((left + COLUMN // 2, LABEL_HEIGHT // 2), label, 'black', font, anchor='mm')
    yield picture


def main(argv: list[str]) -> None:
  """Reads a demo's folder, writes the moving picture."""
  if len(argv) != 3:
    sys.exit(f'usage: python {argv[0]} DEMO_FOLDER OUT.webp')
  first, *others = pictures(pathlib.Path(argv[1]))
  first.save(argv[2], save_all=True, append_images=others, duration=round(1000 * EVERY / schema.FPS), loop=0, quality=QUALITY,
             method=6)
  print(f'{argv[2]}: {1 + len(others)} pictures of {first.size}, {pathlib.Path(argv[2]).stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
  main(sys.argv)
