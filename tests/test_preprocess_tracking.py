"""The joint fit and the canonical space, on a synthetic head whose poses, shape and focal length are known."""
import numpy as np
import pytest
import scipy.ndimage

from speech2lip_jax.preprocess import canonical, projection, rigid, tracking

SIZE = 256
FOCAL = 1.5 * SIZE


def head_points(rng):
  """[478, 3] head units: points on half an ellipsoid, eye corners, forehead, chin and lips where they belong."""
  angles = rng.uniform(-1, 1, (478, 2)) * (1.2, 1.25)
  points = np.stack([0.8 * np.sin(angles[:, 0]) * np.cos(angles[:, 1]), 0.35 + 1.05 * np.sin(angles[:, 1]),
                     -0.8 * np.cos(angles[:, 0]) * np.cos(angles[:, 1]) + 0.6], -1)
  rim = np.linspace(0, 2 * np.pi, len(canonical.FACE_OVAL), endpoint=False)
  points[canonical.FACE_OVAL] = np.stack([0.78 * np.sin(rim), 0.35 - np.cos(rim), 0.45 + 0 * rim], -1)
  for lips, height in ((canonical.OUTER_LIPS, 0.14), (canonical.INNER_LIPS, 0.05)):
    turn = np.pi + np.linspace(0, 2 * np.pi, len(lips), endpoint=False)
    points[lips] = np.stack([0.28 * np.cos(turn), 0.75 + height * np.sin(turn), -0.1 + 0 * turn], -1)
  points[[tracking.RIGHT_EYE, tracking.LEFT_EYE]] = [[-0.5, 0, 0], [0.5, 0, 0]]
  return points


def head_poses(num_frames, phase=0.0):
  """[N, 4, 4]: a head that nods and shakes by some degrees."""
  time = np.arange(num_frames) / 25 + phase
  turns = np.radians(np.stack([6 * np.sin(1.3 * time), 10 * np.sin(0.9 * time + 1), 5 * np.sin(0.7 * time)], -1))
  poses = np.tile(np.eye(4), (num_frames, 1, 1))
  poses[:, :3, :3] = rigid.rotation_from_vector(turns)
  poses[:, :3, 3] = np.stack([0.2 * np.sin(time), -0.3 + 0.1 * np.cos(time), 5 + 0.2 * np.sin(0.5 * time)], -1)
  return poses


@pytest.fixture(scope='module')
def scene():
  rng = np.random.default_rng(0)
  points = head_points(rng)
  lengths = [120, 90, 150]
  poses = np.concatenate([head_poses(length, phase=7.0 * index) for index, length in enumerate(lengths)])
  seen = tracking.project(points, poses, FOCAL, SIZE)
  depth = (points @ np.swapaxes(poses[:, :3, :3], -1, -2))[..., 2] * FOCAL / poses[:, None, 2, 3]
  landmarks = np.concatenate([seen + rng.normal(0, 0.3, seen.shape), 0.85 * depth[..., None]], axis=-1)
  is_interpolated = np.zeros(len(poses), bool)
  is_interpolated[[40, 41, 42, 200]] = True
  landmarks[is_interpolated] += 30.0  # must not matter
  outliers = rng.random(landmarks.shape[:2]) < 0.02
  landmarks[outliers, :2] += rng.normal(0, 15, (outliers.sum(), 2))
  return points, poses, lengths, landmarks.astype(np.float32), is_interpolated


def test_the_fit_recovers_known_poses_and_shape_under_noise_and_outliers(scene):
  points, poses, lengths, landmarks, is_interpolated = scene
  track = tracking.fit(landmarks, is_interpolated, lengths, SIZE)
  assert track.focal_px == pytest.approx(FOCAL, rel=0.1)
  turn = track.observed_from_head[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], -1, -2)
  relative = turn @ turn[0].T  # how the head's axes sit in the head is a convention
  degrees = np.degrees(np.linalg.norm(rigid.vector_from_rotation(relative.astype(np.float64)), axis=-1))
  assert np.median(degrees) < 0.5 and degrees.max() < 1.5
  clean = tracking.project(points[tracking.RIGID_POINTS], poses, FOCAL, SIZE)
  fitted = tracking.project(track.points[tracking.RIGID_POINTS], track.observed_from_head.astype(np.float64),
                            track.focal_px, SIZE)
  error = np.linalg.norm(fitted - clean, axis=-1)
  assert np.median(error) < 0.12  # below the noise of 0.3 px: frames and points share it
  assert np.linalg.norm(track.points[tracking.LEFT_EYE] - track.points[tracking.RIGHT_EYE]) == pytest.approx(1.0,
                                                                                                             abs=1e-6)
  _, scale, _ = rigid.align(points[:468], track.points)
  assert scale == pytest.approx(1.0, abs=0.05)
  assert track.report['reprojection_median_px'] == pytest.approx(0.35, abs=0.1)


def test_poses_are_not_smoothed_across_clips(scene):
  _, poses, lengths, landmarks, is_interpolated = scene
  track = tracking.fit(landmarks, is_interpolated, lengths, SIZE, smoothness=1e3)
  jump = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1)[lengths[0] - 1]
  fitted = np.linalg.norm(np.diff(track.observed_from_head[:, :3, 3], axis=0), axis=-1)[lengths[0] - 1]
  assert fitted == pytest.approx(jump, rel=0.15)


def test_rotation_vectors_and_their_jacobian_agree():
  rng = np.random.default_rng(1)
  for size in (0.0, 1e-8, 1e-3, 1.0, 2.5):
    axis = rng.normal(size=3)
    vector, change = size * axis / np.linalg.norm(axis), 1e-6 * rng.normal(size=3)
    moved = rigid.rotation_from_vector(vector + change)
    linear = rigid.rotation_from_vector(rigid.left_jacobian(vector) @ change) @ rigid.rotation_from_vector(vector)
    np.testing.assert_allclose(moved, linear, atol=1e-11)
    np.testing.assert_allclose(rigid.vector_from_rotation(rigid.rotation_from_vector(vector)), vector, atol=1e-9)


def test_depth_is_the_face_inside_and_goes_on_smoothly_outside(scene):
  points, poses, *_ = scene
  depth = canonical.depth_map(points[:468], poses[10], FOCAL, SIZE)
  assert depth.shape == (SIZE, SIZE) and depth.dtype == np.float32 and depth.min() > 0
  nearest, rim = depth.min(), np.median((points[canonical.FACE_OVAL] @ poses[10, :3, :3].T)[:, 2] + poses[10, 2, 3])
  assert depth.max() < rim + canonical.HEAD_DEPTH + 0.3
  assert nearest == pytest.approx((points @ poses[10, :3, :3].T + poses[10, :3, 3])[:468, 2].min(), abs=0.1)
  assert max(np.abs(np.diff(depth, axis=0)).max(), np.abs(np.diff(depth, axis=1)).max()) < 0.12  # no step


def test_landmarks_come_back_to_canonical_space_exactly(scene):
  points, poses, *_ = scene
  depth = canonical.depth_map(points[:468], poses[10], FOCAL, SIZE).astype(np.float64)
  moves = poses[:60] @ np.linalg.inv(poses[10])
  rng = np.random.default_rng(2)
  there = np.tile(rng.uniform(80, 170, (40, 2)), (60, 1, 1))
  level = scipy.ndimage.map_coordinates(depth, np.moveaxis(there[..., ::-1], -1, 0), order=1)
  seen = projection.observed_coords(there, level, moves[:, None], FOCAL, SIZE)
  np.testing.assert_allclose(projection.canonical_coords(seen, depth, moves, FOCAL), there,
                             atol=0.03)  # px; the slope near the rim sets the rate
  lips = tracking.project(points[canonical.LIPS], poses[:60], FOCAL, SIZE)
  back = projection.canonical_coords(lips, depth, moves, FOCAL)
  expected = tracking.project(points[canonical.LIPS], poses[10:11], FOCAL, SIZE)
  assert np.abs(back - expected).mean() < 0.3  # the map smooths the face a little


def test_the_same_pose_reads_the_lips_unchanged():
  rng = np.random.default_rng(3)
  frame = rng.integers(0, 256, (64, 64, 3), np.uint8)
  box = canonical.lip_box(np.tile([[20.0, 30.0], [40.0, 44.0]], (5, 1, 1)), 64)
  lips = projection.read_lips(frame, box, np.full((64, 64), 5.0), np.eye(4), 96.0)
  np.testing.assert_array_equal(lips, frame[box.top:box.top + box.height, box.left:box.left + box.width])


@pytest.mark.parametrize('corner', [(20.3, 31.2), (0.0, 0.0), (51.0, 55.0)])
def test_the_lip_box_is_even_inside_the_image_and_holds_the_lips(corner):
  mouths = np.array([[0, 0], [12.2, 3.1], [6, 8.4]]) + np.array(corner) + np.zeros((10, 1, 1))
  box = canonical.lip_box(mouths, 64)
  assert box.height % 2 == box.width % 2 == 0 and min(box.top, box.left) >= 0
  assert box.top + box.height <= 64 and box.left + box.width <= 64
  inside = np.clip(mouths, 0, 63)
  assert (inside[..., 0] >= box.left).all() and (inside[..., 0] < box.left + box.width).all()
  assert (inside[..., 1] >= box.top).all() and (inside[..., 1] < box.top + box.height).all()


def test_the_canonical_frame_is_frontal_shut_sharp_and_seen(scene):
  _, poses, _, landmarks, is_interpolated = scene
  rng = np.random.default_rng(4)
  frames = rng.integers(0, 256, (len(poses), SIZE, SIZE, 3), np.uint8)
  chosen = canonical.choose_frame(frames, landmarks[..., :2], poses, is_interpolated)
  turn = poses[chosen, :3, :3] @ rigid.mean_rotation(poses[:, :3, :3]).T
  assert not is_interpolated[chosen] and np.degrees(np.linalg.norm(rigid.vector_from_rotation(turn))) < 6
