"""What a file says of itself, read in its three places."""
import pathlib
from typing import NamedTuple

import av
import cv2
import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import video
from speech2lip_jax.provenance import manifest, reading

PICTURES = ('.png', '.jpg', '.jpeg', '.webp')
TAGS = ('comment', 'description', 'AIGC', 'aigc')


class Findings(NamedTuple):
  """told: what the manifest says, None without one. tags: those that may tell. mark: the best reading, None where no time is to
  read it over."""
  told: manifest.Told | None
  tags: dict[str, str]
  mark: reading.Reading | None


def inspect(path: str) -> Findings:
  """Reads manifest, tags and mark of a video or picture.

  Raises:
    InputError: no such file, or no video or picture.
  """
  if not pathlib.Path(path).is_file():
    raise InputError(f'{path}: no such file; give a video or picture')
  if pathlib.Path(path).suffix.lower() in PICTURES:
    tags = tags_of(path)
    return Findings(manifest.read(path), tags, None)
  info = video.probe(path, needs_sound=False)
  return Findings(manifest.read(path), tags_of(path), _read_mark(info))


def tags_of(path: str) -> dict[str, str]:
  """Those of the container's tags that may tell."""
  try:
    with av.open(path) as container:
      return {name: container.metadata[name] for name in TAGS if name in container.metadata}
  except (av.FFmpegError, OSError) as error:
    raise InputError(f'{path}: not a video or picture, or only the beginning of one ({error.strerror}); give the whole file'
                     ) from error


def _read_mark(info: video.VideoInfo) -> reading.Reading:
  """The first part that is marked, or the part that is nearest to it. All are looked at for the whole picture first."""
  num_parts = min(reading.MAX_PARTS, -(-info.num_frames // reading.NUM_PICTURES))
  starts = np.linspace(0, max(0, info.num_frames - reading.NUM_PICTURES), num_parts).round().astype(int)
  found = []
  for is_whole in (True, False):
    for start in starts.tolist():
      stop = min(start + reading.NUM_PICTURES, info.num_frames)
      grey = [cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
              for _, rgb in video.read_frames(info, start, stop, reading.MAX_SIDE)]
      times_s = (start + np.arange(len(grey))) / schema.FPS
      found.append(reading.search(reading.beat(grey, times_s), is_whole, num_parts))
      if found[-1].is_marked:
        return found[-1]
  return reading.best(found)

