"""Places followed in the pictures undo what landmarks that slide do to the poses; exact landmarks are left alone."""
import concurrent.futures

import numpy as np
import pytest

from speech2lip_jax.preprocess import follow, rigid, tracking
from speech2lip_jax.synthetic.subject import SyntheticSubject

SIZE, NUM_FRAMES = 224, 75  # smaller faces have too few places below the forehead
EVERY = 3  # of the subject's frames: 9 s of turning


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
  """A turning head, the true landmarks, and ones of a detector that sees 80 % of each turn and trembles."""
  subject = SyntheticSubject(SIZE, NUM_FRAMES * EVERY, seed=3, motion='turning')
  chosen = range(0, NUM_FRAMES * EVERY, EVERY)
  path = tmp_path_factory.mktemp('follow') / 'frames.npy'
  np.save(path, np.stack([subject.render(frame).rgb for frame in chosen]))
  true = np.stack([subject.landmarks(frame) for frame in chosen])
  less = subject.observed_from_head.copy()
  less[:, :3, :3] = rigid.rotation_from_vector(0.8 * rigid.vector_from_rotation(less[:, :3, :3]))
  sliding = np.stack([subject.landmarks(frame, less[frame]) for frame in chosen])
  sliding[..., :2] += np.random.default_rng(0).normal(0, 0.5, sliding[..., :2].shape)
  return subject, path, true, sliding


def turn_error(track, subject):
  """Median degrees between fitted and true turns, after one constant turn."""
  fitted, true = track.observed_from_head[:, :3, :3].astype(np.float64), subject.observed_from_head[::EVERY, :3, :3]
  between = rigid.mean_rotation(np.swapaxes(true, -1, -2) @ fitted)
  return np.degrees(np.median(np.linalg.norm(rigid.vector_from_rotation(
      true @ between @ np.swapaxes(fitted, -1, -2)), axis=-1)))


def refit(landmarks, path):
  track = tracking.fit(landmarks, np.zeros(NUM_FRAMES, bool), [NUM_FRAMES], SIZE)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return track, follow.refit(track, landmarks, np.ones(NUM_FRAMES), [NUM_FRAMES], path, SIZE, pool)


def test_followed_places_bring_back_turns_that_landmarks_lose(scene):
  subject, path, _, sliding = scene
  track, refitted = refit(sliding, path)
  assert turn_error(track, subject) > 1
  assert turn_error(refitted, subject) < 0.5 * turn_error(track, subject)
  assert np.linalg.norm(refitted.points[tracking.LEFT_EYE] - refitted.points[tracking.RIGHT_EYE]) == pytest.approx(1, abs=0.1)


def test_exact_landmarks_stay(scene):
  subject, path, true, _ = scene
  track, refitted = refit(true, path)
  assert refitted is None and turn_error(track, subject) < 0.5


def test_a_face_without_texture_is_not_followed(scene, tmp_path):
  _, _, true, _ = scene
  np.save(tmp_path / 'frames.npy', np.full((NUM_FRAMES, SIZE, SIZE, 3), 128, np.uint8))
  assert refit(true, tmp_path / 'frames.npy')[1] is None
