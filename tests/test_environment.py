"""What an installation must get right by itself."""
from importlib import metadata

import cv2
import pytest


def test_both_opencv_wheels_are_of_one_version():
  """mediapipe brings opencv-contrib-python, whose files overwrite opencv-python's: they must be the same."""
  versions = {}
  for name in ('opencv-python', 'opencv-contrib-python', 'opencv-python-headless'):
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  if len(versions) < 2:
    pytest.skip(f'only one OpenCV here: {versions}')
  assert len(set(versions.values())) == 1
  assert next(iter(versions.values())).startswith(cv2.__version__)
