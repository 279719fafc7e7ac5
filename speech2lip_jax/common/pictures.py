"""Pictures to files."""
import os
import pathlib
from collections.abc import Callable

import cv2
import numpy as np

from speech2lip_jax.common.files import open_atomic


def write_png(path: os.PathLike | str, rgb: np.ndarray, sign: Callable[[pathlib.Path], None] | None = None) -> None:
  """Writes a picture [H, W, 3] uint8 RGB, or [H, W, 4] with straight alpha, as PNG.

  It appears under its name only when complete, and signed by `sign`, if given.
  """
  code = cv2.COLOR_RGBA2BGRA if rgb.shape[2] == 4 else cv2.COLOR_RGB2BGR
  with open_atomic(path) as file:
    file.write(cv2.imencode('.png', cv2.cvtColor(rgb, code))[1].tobytes())
    if sign:
      file.flush()
      sign(pathlib.Path(file.name))
