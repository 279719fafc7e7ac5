"""Pictures to files."""
import os

import cv2
import numpy as np

from speech2lip_jax.common.files import open_atomic


def write_png(path: os.PathLike | str, rgb: np.ndarray) -> None:
  """Writes a picture [H, W, 3] uint8 RGB as PNG; the file appears under its name only when complete."""
  with open_atomic(path) as file:
    file.write(cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
