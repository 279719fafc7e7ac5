"""The nose's base tells a track that follows the brows or the mouth from one that follows the head."""
from concurrent import futures

import cv2
import numpy as np
import pytest

from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.preprocess import canonical, nose_base, photometric, tracking
from speech2lip_jax.synthetic.expression import Expression
from speech2lip_jax.synthetic.subject import SyntheticSubject

SIZE, LENGTHS = 128, [70, 80]


@pytest.fixture(scope='module')
def scene():
  subject = SyntheticSubject(SIZE, sum(LENGTHS), seed=1, motion='nodding')
  return subject, np.stack([subject.landmarks(frame) for frame in range(sum(LENGTHS))]).astype(np.float64)


def measure(landmarks, poses, points, focal_px, lengths):
  depth = canonical.depth_map(points, poses[0], focal_px, SIZE)
  return nose_base.measure(landmarks, relative_pose(poses, poses[0]), depth, focal_px, lengths, np.zeros(len(poses), bool))


def judged(subject, landmarks, lift):
  """The numbers of the true poses, lifted by `lift` [N] head units."""
  poses = subject.observed_from_head.copy()
  poses[:, 1, 3] -= lift
  return measure(landmarks, poses, subject.head_points(0)[:468], subject.focal_px, LENGTHS)


def test_true_poses_hold_the_nose_still(scene):
  numbers = judged(*scene, 0)
  assert numbers['nose_base_share'] < 0.002 and nose_base.warnings(numbers) == []


@pytest.mark.parametrize('name', ['brows', 'mouth'])
def test_poses_that_follow_brows_or_mouth_are_told_apart(scene, name):
  subject, _ = scene
  cause = subject.brows if name == 'brows' else subject.shapes.opening
  numbers = judged(*scene, 0.03 * cause)
  other = 'mouth' if name == 'brows' else 'brows'
  assert numbers[f'nose_base_with_{name}'] < -0.9 and abs(numbers[f'nose_base_with_{other}']) < 0.5
  told = nose_base.warnings(numbers)
  assert len(told) == (name == 'brows') and all('moves with the brows' in line and '\n' not in line for line in told)


def test_poses_that_tremble_are_told(scene):
  told = nose_base.warnings(judged(*scene, np.random.default_rng(0).normal(0, 0.04, sum(LENGTHS))))
  assert len(told) == 1 and 'unsteady' in told[0]


def test_a_clip_is_compared_with_itself_alone(scene):
  step = np.repeat([0.0, 0.2], LENGTHS)
  assert judged(*scene, step)['nose_base_px'] < 0.6


def test_too_few_frames_tell_nothing(scene):
  subject, landmarks = scene
  few = slice(0, nose_base.MIN_FRAMES - 1)
  numbers = measure(landmarks[few], subject.observed_from_head[few], subject.head_points(0)[:468], subject.focal_px,
                    [nose_base.MIN_FRAMES - 1])
  assert set(numbers.values()) == {0.0} and nose_base.warnings(numbers) == []


def whole_forehead(landmarks, size):
  """`photometric.upper_face` as it was when it read the forehead."""
  points = landmarks[:tracking.NUM_FACE_POINTS, :2].round().astype(np.int32)
  width = int(np.ptp(points[:, 0]))
  mask = cv2.fillConvexPoly(np.zeros((size, size), np.uint8), cv2.convexHull(points), 1)
  mask = cv2.erode(mask, np.ones((width // 15 + 1,) * 2))
  for eye in photometric.EYES:
    cv2.fillConvexPoly(mask, cv2.convexHull(points[eye]), 0)
    cv2.polylines(mask, [cv2.convexHull(points[eye])], True, 0, max(1, width // 20))
  mask[max(points[tracking.NOSE_TIP, 1], 0):] = 0
  return mask


def test_raised_brows_change_nothing_where_the_pictures_are_read(scene):
  subject, landmarks = scene
  rest, raised = (subject.renderer.render(subject.rest_pose, Expression(brows=brows)).rgb for brows in (0, 1))
  changed = np.abs(raised - rest).max(-1)
  seen = subject.renderer.landmarks(subject.rest_pose, Expression())[1]
  share = [changed[mask(seen, SIZE) > 0].mean() for mask in (photometric.upper_face, whole_forehead)]
  assert share[0] < 0.1 * share[1]


@pytest.mark.slow
def test_pictures_of_the_forehead_would_drag_the_nose_along(tmp_path, monkeypatch):
  size, num_frames = 192, 200
  subject = SyntheticSubject(size, num_frames, seed=0, motion='nodding')
  np.save(tmp_path / 'frames.npy', np.stack([subject.render(frame).rgb for frame in range(num_frames)]))
  true, weight = np.stack([subject.landmarks(frame) for frame in range(num_frames)]), np.ones(num_frames)
  rng = np.random.default_rng(0)  # a detector's faults are common to all points
  noise = rng.normal(0, 1.0, (num_frames, 1, 2)) + rng.normal(0, 0.4, (num_frames, 478, 2))
  found = true + np.pad(noise, ((0, 0), (0, 0), (0, 1))).astype(np.float32)
  track = tracking.fit(found, weight == 0, [num_frames], size)
  numbers = []
  for mask in (photometric.upper_face, whole_forehead):
    monkeypatch.setattr(photometric, 'upper_face', mask)
    with futures.ThreadPoolExecutor(2) as pool:
      refined = photometric.refine(track, found, tracking.landmark_anchors(track, found, weight), weight, [num_frames],
                                   tmp_path / 'frames.npy', size, pool)
    poses = refined.observed_from_head.astype(np.float64)
    depth = canonical.depth_map(refined.points, poses[0], refined.focal_px, size)
    numbers.append(nose_base.measure(true, relative_pose(poses, poses[0]), depth, refined.focal_px, [num_frames], weight == 0))
  assert abs(numbers[0]['nose_base_with_brows']) < 0.35 and numbers[1]['nose_base_with_brows'] < -0.8
  assert numbers[0]['nose_base_px'] < 0.5 * numbers[1]['nose_base_px']
