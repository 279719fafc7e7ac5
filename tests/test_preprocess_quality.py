"""Trust in single frames, the warnings, and poses refined by the pictures, on a rendered head."""
from concurrent import futures

import numpy as np
import pytest

from speech2lip_jax.preprocess import photometric, quality, rigid, tracking
from speech2lip_jax.synthetic.subject import SyntheticSubject

SIZE, NUM_FRAMES, REPEATS = 144, 40, 15


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
  subject = SyntheticSubject(size=SIZE, num_frames=NUM_FRAMES, seed=1, motion='nodding')
  path = tmp_path_factory.mktemp('scene') / 'frames.npy'
  np.save(path, np.stack([subject.render(n).rgb for n in range(NUM_FRAMES)]))
  truth = np.stack([subject.landmarks(n) for n in range(NUM_FRAMES)]).astype(np.float64)
  return subject, path, truth


def good_video(truth, subject):
  """Arguments of `quality.assess` for a video without a fault."""
  measured = np.tile([100.0, 120.0], (NUM_FRAMES, 1))
  return {'measured': np.tile(measured, (REPEATS, 1)), 'weight': np.ones(REPEATS * NUM_FRAMES),
          'poses': np.tile(subject.observed_from_head, (REPEATS, 1, 1)), 'landmarks': np.tile(truth, (REPEATS, 1, 1)),
          'source_scale': np.full(REPEATS * NUM_FRAMES, 2.0), 'is_interpolated': np.zeros(REPEATS * NUM_FRAMES, bool),
          'clip_lengths': [NUM_FRAMES] * REPEATS, 'num_source': REPEATS * NUM_FRAMES, 'num_cuts': 0, 'reprojection_px': 0.2}


def turned(degrees):
  pose = np.eye(4)
  pose[:3, :3] = rigid.rotation_from_vector(np.radians([0, degrees, 0]))
  pose[2, 3] = 5
  return pose


def shaken(landmarks):
  return landmarks + np.random.default_rng(0).normal(0, 3, (len(landmarks), 1, 3))


@pytest.mark.parametrize('change, reason', [
    ({}, None),
    ({'source_scale': lambda old: old / 4}, 'px wide'),
    ({'num_source': lambda old: 2 * old}, '50 % of the video shows no usable face'),
    ({'poses': lambda old: np.tile(turned(50), (len(old), 1, 1))}, 'turns 50 degrees'),
    ({'landmarks': shaken}, 'shakes'),
    ({'num_cuts': lambda old: 9}, 'cuts a minute'),
    ({'measured': lambda old: old * (1, 0.2)}, 'dark'),
    ({'measured': lambda old: old * (1, 2)}, 'overexposed'),
    ({'measured': lambda old: old * np.linspace(0.6, 1.4, len(old))[:, None]}, 'light on the face changes'),
    ({'weight': lambda old: old / 2}, 'blurred or in profile'),
    ({'landmarks': lambda old: np.tile(old[:1], (len(old), 1, 1))}, 'mouth does not move'),
    ({'reprojection_px': lambda old: 3.0}, 'one rigid head'),
])
def test_each_fault_and_no_other_is_told_with_its_reason(scene, change, reason):
  subject, _, truth = scene
  arguments = good_video(truth, subject)
  for name, function in change.items():
    arguments[name] = function(arguments[name])
  _, warnings = quality.assess(**arguments)
  assert len(warnings) == (reason is not None) and all(reason in line and '\n' not in line for line in warnings)


def test_a_short_video_is_told():
  from speech2lip_jax.data import schema
  points = np.random.default_rng(0).uniform(0, 100, (schema.FPS, 478, 3))
  one = np.ones(schema.FPS)
  _, warnings = quality.assess(np.tile([100.0, 120.0], (25, 1)), one, np.tile(turned(0), (25, 1, 1)), points, 2 * one, one == 0,
                               [25], 25, 0, 0.2)
  assert any('only 1.0 s' in line for line in warnings)


def test_blurred_frames_profiles_and_gaps_count_less(scene):
  _, _, truth = scene
  points, sharpness, lost = truth.copy(), np.full(NUM_FRAMES, 80.0), np.zeros(NUM_FRAMES, bool)
  sharpness[10], lost[20] = 10.0, True
  points[30, quality.RIGHT_SIDE], points[30, quality.LEFT_SIDE] = (0, 0, 0), (20, 0, 60)
  weight = quality.frame_weights(points, lost, sharpness, [NUM_FRAMES])
  assert weight[10] == pytest.approx(0.25) and weight[20] == 0 and weight[30] == quality.MIN_TRUST
  assert (np.delete(weight, [10, 20, 30]) == 1).all()


def test_pictures_bring_the_poses_nearer_to_the_truth_and_leave_exact_ones(scene):
  subject, path, truth = scene
  weight = np.ones(NUM_FRAMES)
  noise = np.random.default_rng(0).normal(0, 1.0, (NUM_FRAMES, 1, 2))  # a detector's faults are common to all points
  noise = noise + np.random.default_rng(1).normal(0, 0.4, (NUM_FRAMES, 478, 2))
  tips = truth[:, tracking.NOSE_TIP, :2]

  def error(track):  # of the nose's tip, which no fit has seen, but for its mean
    seen = tracking.project(track.points[[tracking.NOSE_TIP]], track.observed_from_head.astype(float), track.focal_px, SIZE)
    away = seen[:, 0] - tips
    return float(np.linalg.norm(away - away.mean(0), axis=-1).mean())

  with futures.ThreadPoolExecutor(2) as pool:
    for landmarks, factor in ((truth + np.pad(noise, ((0, 0), (0, 0), (0, 1))), 0.7), (truth, None)):
      track = tracking.fit(landmarks.astype(np.float32), weight == 0, [NUM_FRAMES], SIZE)
      refined = photometric.refine(track, landmarks, tracking.landmark_anchors(track, landmarks, weight), weight, [NUM_FRAMES],
                                   path, SIZE, pool)
      before, after = error(track), error(refined)
      assert after < factor * before if factor else after < 0.15
