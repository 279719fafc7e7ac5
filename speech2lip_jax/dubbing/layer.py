"""The painted mouth as a layer for compositors: how much of each pixel is the layer's, and pictures as numbered files."""
import json
import os
import pathlib
import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.io import wavfile

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import errors_named, open_atomic, write_text
from speech2lip_jax.common.pictures import write_png
from speech2lip_jax.dubbing.source import SourceFacts
from speech2lip_jax.ops.boxes import smoothstep
from speech2lip_jax.preprocess.video import to_rgb

if TYPE_CHECKING:
  import av

  from speech2lip_jax.provenance.origin import Origin

RIM = 0.1  # width of the fall to nothing around the painted window, of its smaller side
RECORD = 'pictures.json'


def window_weight(box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
  """The layer's share of each pixel of a picture: [height, width] float32, 1 in the window, smoothly 0 around it.

  Around the window the layer shows the source's own pixels, so the fall changes nothing until the layer is graded.

  box: (top, left, height, width) of the painted window, pixels; it may reach beyond the picture.
  """
  rim = max(4.0, RIM * min(box[2:]))

  def along(first: int, length: int, size: int) -> np.ndarray:
    places = np.arange(size)
    return np.maximum(np.maximum(first - places, places - (first + length - 1)), 0) / rim
  down, across = along(box[0], box[2], height), along(box[1], box[3], width)
  return np.asarray(smoothstep(1 - np.hypot(down[:, None], across[None])), np.float32)


def stored(alpha: np.ndarray, facts: SourceFacts) -> np.ndarray:
  """An upright alpha [H, W] as the source's planes lie: turned, and with pixels of their shape."""
  turned = np.ascontiguousarray(np.rot90(alpha, -(facts.rotation // 90)))
  if turned.shape == (facts.stored_height, facts.stored_width):
    return turned
  return cv2.resize(turned, (facts.stored_width, facts.stored_height), interpolation=cv2.INTER_LINEAR)


class PictureFolder:
  """Writes a film as a folder: 000000.png, 000001.png, …, sound.wav, and `RECORD`. Use as a context manager.

  Pictures are upright, with square pixels; RGB, or RGB and straight alpha. The folder appears under its name when it is complete.
  Instead of tags and manifest it has the tags in `RECORD`.
  """

  def __init__(self, path: os.PathLike | str, facts: SourceFacts, sound: np.ndarray, rate: int, origin: 'Origin | None' = None):
    """sound: [channels, n] int16 at `rate`. origin: what the pictures say of themselves."""
    self._path, self._facts, self._sound, self._rate, self._origin = pathlib.Path(path), facts, sound, rate, origin
    self._work = self._path.with_name(f'.{self._path.name}.part')
    self._times_s: list[float] = []
    self._has_alpha = False

  def __enter__(self) -> 'PictureFolder':
    with errors_named(self._path):
      shutil.rmtree(self._work, ignore_errors=True)  # of one that was killed
      self._work.mkdir(parents=True)
    return self

  def write(self, picture: 'av.VideoFrame', time_s: float, alpha: np.ndarray | None = None) -> None:
    """Appends a picture of the source, shown from `time_s` on. alpha: [H, W] uint8, upright."""
    rgb = to_rgb(picture, self._facts)
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    write_png(self._work / f'{len(self._times_s):06d}.png', pixels)
    self._times_s.append(round(time_s, 6))
    self._has_alpha = alpha is not None

  def __exit__(self, kind, *_) -> None:
    try:
      if kind is None:
        with errors_named(self._path):
          with open_atomic(self._work / 'sound.wav') as file:
            wavfile.write(file, self._rate, self._sound.T)
          write_text(self._work / RECORD, json.dumps(self._record(), indent=1, ensure_ascii=False) + '\n')
          if self._path.is_dir():
            shutil.rmtree(self._path)
          os.replace(self._work, self._path)
    finally:
      shutil.rmtree(self._work, ignore_errors=True)

  def _record(self) -> dict:
    facts = self._facts
    return {'width': facts.width, 'height': facts.height, 'rate': str(facts.rate), 'alpha': 'straight' if self._has_alpha else None,
            'times_s': self._times_s, 'source': os.path.abspath(facts.path),
            'provenance': self._origin.tags() if self._origin else None}


def check_folder(path: pathlib.Path, flag: str = '--out') -> None:
  """Raises InputError where a folder of pictures would replace something else."""
  if path.is_dir() and any(path.iterdir()) and not (path / RECORD).is_file():
    raise InputError(f'{flag}={path}: holds other files; give a new folder for the pictures')
  if path.is_file():
    raise InputError(f'{flag}={path}: is a file; give a new folder for the pictures')
