"""Finds what some tests need and no repository holds: recordings, and MediaPipe's landmark model.

SPEECH2LIP_SHARED names a folder with clips/, audio/ and models/. Where it is not set, those tests are skipped; where it is
set and lacks the file, they fail.
"""
import os
import pathlib

import pytest

from speech2lip_jax.preprocess import landmarks

VARIABLE = 'SPEECH2LIP_SHARED'


def path(relative: str) -> pathlib.Path:
  """That file or folder under the shared one; skips the calling test where no folder is named."""
  if not os.environ.get(VARIABLE):
    pytest.skip(f'needs {relative}: {VARIABLE} names a folder that holds it')
  found = pathlib.Path(os.environ[VARIABLE]).expanduser().absolute() / relative
  assert found.exists(), f'{VARIABLE} names a folder without {relative}: {found}'
  return found


def landmark_model() -> str:
  """The landmark model's file; skips the calling test without mediapipe, or where none is at hand."""
  pytest.importorskip('mediapipe', reason='mediapipe finds the faces: pip install .[preprocess]')
  return os.environ.get(landmarks.MODEL_VARIABLE) or str(path('models/face_landmarker.task'))
