"""What an installation must get right by itself."""
from importlib import metadata

import cv2


def test_there_is_one_opencv():
  """Wheels of OpenCV overwrite one another's cv2; the metadata asks for the one that mediapipe brings."""
  wheels = {}
  for name in ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless'):
    try:
      wheels[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  assert list(wheels) == ['opencv-contrib-python'], f'uninstall all of {wheels}, then install this project again'
  assert wheels['opencv-contrib-python'].startswith(cv2.__version__)
