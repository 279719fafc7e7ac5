"""Faces that are small in their pictures are found, at their places, and ghosts are not."""
import numpy as np
import pytest

from speech2lip_jax.preprocess import face_search, landmarks, tracking
from speech2lip_jax.synthetic.subject import SyntheticSubject
from tests import shared

SEEN = 0.2  # a face of a smaller share of its picture is missed
ROUGH = 0.35  # and one of less than this is found roughly


class Detector:
  """Sees the square blots of a picture as faces, if they are large enough there; a ghost on the left of all smaller ones."""

  def __init__(self, has_ghost=False):
    self.looks, self.has_ghost = 0, has_ghost

  def faces(self, picture):
    self.looks += 1
    height, width = picture.shape[:2]
    corners = np.tile([0.5, 0.5, 0.05], (478, 1))
    corners[[0, -1]] = [0, 0, 0], [1, 1, 0.1]
    found = []
    for value in np.unique(picture)[1:]:
      rows, columns = np.nonzero(picture[..., 0] == value)
      size = np.ptp(columns) + 1
      if size >= SEEN * max(height, width):
        off = 3.0 if size < ROUGH * max(height, width) else 0.0
        found.append((corners * size + (columns.min() + off, rows.min() + off, 0)) / (width, height, width))
    if not found and self.has_ghost and height < 360:
      found.append((corners * (0.3 * height) + (0.2 * height, 0.3 * height, 0)) / (width, height, width))
    return np.array(found, float).reshape(-1, 478, 3)


def picture_with(*blots, height=360, width=640):
  """blots: (top, left, side) of faces."""
  picture = np.zeros((height, width, 3), np.uint8)
  for number, (top, left, side) in enumerate(blots):
    picture[top:top + side, left:left + side] = 10 + number
  return picture


def pixels(found, height=360, width=640):
  return found * (width, height, width)


def first_corner(found):
  return pixels(found)[0, 0]


@pytest.mark.parametrize('blot', [(100, 200, 80), (0, 0, 60), (300, 570, 50), (170, 590, 45)])
def test_a_small_face_is_found_where_it_is(blot):
  search = face_search.FaceSearch(Detector())
  found = search.faces(picture_with(blot))
  np.testing.assert_allclose(first_corner(found), (blot[1], blot[0], 0), atol=1e-9)
  np.testing.assert_allclose(pixels(found)[0, -1] - first_corner(found), np.array([1, 1, 0.1]) * blot[2], atol=1e-9)


def test_a_face_that_is_seen_at_once_but_small_is_looked_at_closer_and_a_large_one_is_not():
  detector = Detector()
  search = face_search.FaceSearch(detector)
  assert len(detector.faces(picture_with((100, 200, 140)))) == 1
  np.testing.assert_allclose(first_corner(search.faces(picture_with((100, 200, 140)))), (200, 100, 0), atol=1e-9)
  assert detector.looks == 3
  search.faces(picture_with((50, 100, 250)))
  assert detector.looks == 4


def test_it_is_looked_for_where_it_was_and_all_over_only_now_and_then():
  detector = Detector()
  search = face_search.FaceSearch(detector)
  search.faces(picture_with((100, 200, 60)))
  detector.looks = 0
  np.testing.assert_allclose(first_corner(search.faces(picture_with((105, 215, 60)))), (215, 105, 0), atol=1e-9)
  assert detector.looks == 3, 'at once, there, and its mirror image'
  looks = []
  for _ in range(2 * face_search.SEARCH_EVERY):
    detector.looks = 0
    assert not len(search.faces(picture_with()))
    looks.append(detector.looks)
  assert looks.count(2) == 2 * (face_search.SEARCH_EVERY - 1) and looks[0] == looks[face_search.SEARCH_EVERY] > 10
  assert len(search.faces(picture_with((20, 500, 60))))


def test_what_a_mirror_shows_elsewhere_is_no_face():
  search = face_search.FaceSearch(Detector(has_ghost=True))
  assert not len(search.faces(picture_with()))
  assert len(search.faces(picture_with((100, 200, 160)))) and not len(search.faces(picture_with()))


def test_the_largest_face_comes_first_and_the_others_after_it():
  found = face_search.FaceSearch(Detector()).faces(picture_with((20, 20, 130), (150, 300, 170)))
  assert len(found) == 2
  np.testing.assert_allclose(first_corner(found), (300, 150, 0), atol=1e-9)
  assert pixels(found)[1, 0, 0] < 30


def test_the_model_finds_a_head_that_is_small_in_1080_lines():
  head = SyntheticSubject(400, 3, seed=0)
  with landmarks.Detector(shared.landmark_model()) as detector:
    search = face_search.FaceSearch(detector)
    for frame, (top, left) in enumerate([(300, 1200), (310, 1215), (560, 40)]):
      picture = np.full((1080, 1920, 3), 120, np.uint8)
      picture[top:top + 400, left:left + 400] = head.render(frame).rgb
      found = landmarks.to_pixels(search.faces(picture), 1920, 1080)
      true = head.landmarks(frame)[:, :2] + (left, top)
      assert np.linalg.norm(found[0, :, :2] - true, axis=1)[tracking.RIGID_POINTS].mean() < 4.5
