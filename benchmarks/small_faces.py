"""Faces that are small in a picture of 1920 × 1080: how often and how exactly they are found, at once and by a closer look.

    python benchmarks/small_faces.py [--frames 100] [--landmarker FILE]

A synthetic head whose landmarks are known walks through the picture. found: share of pictures. jitter: std of the change of the
mean offset of the rigid landmarks from one picture to the next, px. error: their median distance from the truth less its mean, px.
"""
import argparse
import pathlib
import sys

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.preprocess import face_search, landmarks, tracking
from speech2lip_jax.synthetic.subject import SyntheticSubject

HEIGHT, WIDTH = 1080, 1920
SIZES = (150, 200, 300, 400, 500, 650)


def measured(found, true):
  """Share found, jitter, error of landmarks [n, P, 2], NaN where none are."""
  off = found - true
  is_found = np.isfinite(off[:, 0, 0])
  if is_found.sum() < 2:
    return f'{is_found.mean():.2f} | – | –'
  jitter = np.nanstd(np.diff(off.mean(1), axis=0), axis=0).mean()
  error = np.median(np.linalg.norm(off[is_found] - off[is_found].mean((0, 1)), axis=-1))
  return f'{is_found.mean():.2f} | {jitter:.2f} | {error:.2f}'


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--frames', type=int, default=100)
  parser.add_argument('--landmarker')
  arguments = parser.parse_args()
  print('| face over lines | found at once | jitter | error | by a closer look | jitter | error |\n' + 7 * '|---' + '|')
  head = SyntheticSubject(SIZES[-1], arguments.frames, seed=0)
  points = tracking.RIGID_POINTS
  nothing = np.full((len(points), 2), np.nan)
  with landmarks.Detector(landmarks.find_model(arguments.landmarker)) as detector:
    for size in SIZES:
      search, true, at_once, closer, share = face_search.FaceSearch(detector), [], [], [], 0.0
      for frame in range(arguments.frames):
        picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        left, top = 150 + 8 * frame, 200
        picture[top:top + size, left:left + size] = cv2.resize(head.render(frame).rgb, (size, size), interpolation=cv2.INTER_AREA)
        known = (head.landmarks(frame)[:, :2] + 0.5) * (size / head.size) - 0.5 + (left, top)
        share = np.ptp(known[:, 1]) / HEIGHT
        true.append(known[points])
        shown = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_AREA)  # as `preprocess` does
        for places, faces in ((at_once, detector.faces(shown)), (closer, search.faces(shown))):
          places.append(landmarks.to_pixels(faces[0], WIDTH, HEIGHT)[points, :2] if len(faces) else nothing)
      print(f'| {share:.2f} | {measured(np.array(at_once), true)} | {measured(np.array(closer), true)} |', flush=True)


if __name__ == '__main__':
  main()
