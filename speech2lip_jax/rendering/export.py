"""What other programs take: where a subject's head is in the video, as JSON, and the painted lips by themselves."""
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.common.pictures import write_png
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.compose import lip_mask
from speech2lip_jax.rendering.film import Film

VERSION = 2  # of the track's fields


def write_track(subject: Subject, path: pathlib.Path) -> None:
  """Writes a subject's poses and landmarks as JSON, a line a frame (docs/dubbing.md has the fields).

  They are told in the pixels of the upright source pictures; of a subject that does not know its sources, in those of its frames.
  """
  head = {'version': VERSION, 'fps': schema.FPS, 'canonical': _canonical(subject), 'clips': [_clip(subject, clip) for clip in
                                                                                             subject.meta.clips]}
  with open_atomic(path, 'w') as file:
    file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"frames": [\n')
    for frame in Bar(range(subject.meta.num_frames), total=subject.meta.num_frames, title='track'):
      comma = ',' if frame + 1 < subject.meta.num_frames else ''
      file.write(json.dumps(_frame(subject, frame)) + comma + '\n')
    file.write(']}\n')


def _square(subject: Subject, frame: int) -> tuple[float, float, float]:
  """(left, top, side) of a frame in the pictures that the track is told in, pixels."""
  left, top, side = (0, 0, subject.meta.width) if subject.crop is None else subject.crop[frame].tolist()
  return left, top, side


def _canonical(subject: Subject) -> dict[str, Any]:
  meta, (height, width) = subject.meta, subject.meta.canonical_size
  return {'frame': meta.canonical_frame, 'height': height, 'width': width, 'focal_px': meta.focal_px * meta.canonical_scale,
          'lip_box': meta.lip_box._asdict(), 'view_from_head': subject.observed_from_head[meta.canonical_frame].tolist()}


def _clip(subject: Subject, clip: schema.Clip) -> dict[str, Any]:
  meta, (_, _, side) = subject.meta, _square(subject, clip.start)
  source = meta.sources[clip.source_index] if meta.sources and clip.source_index is not None else None
  height, width = (source.height, source.width) if source else (meta.height, meta.width)
  return {'name': clip.name, 'source': source.path if source else None, 'height': height, 'width': width, 'first_frame': clip.start,
          'num_frames': clip.num_frames, 'focal_px': meta.focal_px * side / meta.width}


def _frame(subject: Subject, frame: int) -> dict[str, Any]:
  left, top, side = _square(subject, frame)
  places = (subject.landmarks[frame] + 0.5) * (side / subject.meta.width) - 0.5 + (left, top)
  picture, time_s = subject.source_picture, subject.source_time
  return {'frame': frame,
          'source_picture': None if picture is None else int(picture[frame]),
          'time_s': None if time_s is None else round(float(time_s[frame]), 6),
          'is_interpolated': bool(subject.is_interpolated[frame]), 'is_covered': bool(subject.is_covered[frame]),
          'principal_point': [left + (side - 1) / 2, top + (side - 1) / 2],
          'view_from_head': np.round(subject.observed_from_head[frame].astype(float), 7).tolist(),
          'landmarks': np.round(places.astype(float), 2).tolist()}


def write_lips(film: Film, folder: pathlib.Path) -> int:
  """Writes the painted lips of a film in canonical space, FOLDER/000000.png … with alpha, and returns their number.

  Alpha is how much of each pixel of the lip box goes into a frame.
  """
  trained, box = film.trained, film.trained.subject.meta.lip_box
  places = jnp.stack(jnp.meshgrid(jnp.arange(box.width), jnp.arange(box.height)), -1).astype(jnp.float32)
  weight = lip_mask(places, (box.height, box.width), (0, 0), trained.config.compose.feather * box.width)
  alpha = np.rint(255 * np.asarray(weight)).astype(np.uint8)
  mark = film.origin.mark() if film.origin else None
  folder.mkdir(parents=True, exist_ok=True)
  for number, lips in enumerate(Bar(trained.predictor.painted_lips(film.frame_ids, film.mouths), total=len(film), title='lips')):
    if mark:
      lips = mark.add(lips, (0, 0, box.height, box.width), number / schema.FPS)
    write_png(folder / f'{number:06d}.png', np.dstack([lips, alpha]))
  for stale in folder.glob('[0-9]' * 6 + '.png'):  # of a longer sound before
    if int(stale.stem) >= len(film):
      stale.unlink()
  return len(film)
