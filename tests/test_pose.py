"""Moving the head: forward mapping by closed forms, visibility, holes, wanted poses, and rendering with --pose."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.ops import camera, fill, splat
from speech2lip_jax.rendering import head_motion, pose
from speech2lip_jax.rendering import predictor as predictor_module
from speech2lip_jax.workdir import state as workdir_state
from tests.toy_subject import write_toy_subject

_SIZE, _FOCAL = (48, 56), 90.0


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  return dataset.load_subject(write_toy_subject(tmp_path_factory.mktemp('pose') / 'toy', clip_frames=(24, 12)))


@pytest.fixture(scope='module')
def stage(subject):
  return head_motion.prepare(subject, jnp.asarray(subject.depth_canonical), np.arange(24))


@pytest.fixture(scope='module')
def move(subject, stage):
  """move(frame_id, target [4, 4]) → Moved, arrays as NumPy."""
  @jax.jit
  def one(rgb, observed, motion):
    return head_motion.move_head(rgb, observed, motion, stage.plate / 255.0, stage.points, stage.layer, subject.meta.focal_px)

  def call(frame_id, target):
    observed = subject.observed_from_canonical[frame_id]
    motion = jax.tree.map(lambda x: x[0], head_motion.motions(observed[None], target[None], stage.layer.centre))
    return jax.tree.map(np.asarray, one(subject.frames[frame_id] / np.float32(255), observed, motion))
  return call


def _pixels():
  return np.stack(np.meshgrid(np.arange(_SIZE[1]), np.arange(_SIZE[0])), -1).astype(np.float32)


@jax.jit
def _coords(points):
  """Surface coordinates seen at each pixel of the points' picture."""
  pixels, z = camera.project(points, _FOCAL, *_SIZE)
  valid = splat.is_facing(pixels)
  return splat.surface_coords(pixels, z, valid, *splat.nearest_surface(pixels, z, valid, _SIZE))


def test_a_turned_plane_is_seen_where_the_closed_form_says():
  """A plane z = 4 turned about (0, 0, 4): the ray of each pixel meets it in one point."""
  plane = camera.unproject(_pixels(), jnp.full(_SIZE, 4.0), _FOCAL, *_SIZE)
  turn, middle = Rotation.from_euler('yx', [14, -9], degrees=True).as_matrix(), np.array([0, 0, 4.0])
  coords, is_met = _coords(((np.asarray(plane) - middle) @ turn.T + middle).astype(np.float32))
  rays = np.asarray(camera.unproject(_pixels(), jnp.ones(_SIZE), _FOCAL, *_SIZE), np.float64)
  distance = (turn[:, 2] @ middle) / (rays @ turn[:, 2])
  on_plane = (rays * distance[..., None] - middle) @ turn + middle
  expected, _ = camera.project(jnp.asarray(on_plane, jnp.float32), _FOCAL, *_SIZE)
  inside = ((expected >= 1) & (expected <= np.array(_SIZE)[::-1] - 2)).all(-1)
  assert np.asarray(is_met)[inside].all() and inside.sum() > 2000
  np.testing.assert_allclose(np.asarray(coords)[inside], np.asarray(expected)[inside], atol=2e-3)


def test_what_did_not_move_is_its_own_sample_exactly():
  points = camera.unproject(_pixels(), jnp.asarray(4 + 0.3 * np.sin(_pixels()[..., 0] / 6)), _FOCAL, *_SIZE)
  coords, is_met = _coords(points)
  assert is_met.all()
  np.testing.assert_allclose(coords, _pixels(), atol=1e-4)


def test_the_nearer_surface_hides_the_farther_and_a_stretched_one_stays_closed():
  """A box in front of a wall slides over it; the sheet between them opens on one side and folds on the other."""
  near = (np.abs(_pixels()[..., 0] - 28) < 8) & (np.abs(_pixels()[..., 1] - 24) < 8)
  points = np.array(camera.unproject(_pixels(), jnp.where(near, 3.0, 4.0), _FOCAL, *_SIZE))
  points[near, 0] += 3.0 / _FOCAL * 5  # five pixels to the right
  coords, is_met = _coords(points)
  np.testing.assert_allclose(coords[24, 28:40, 0], np.arange(23, 35), atol=0.02)  # the box, in front of the wall
  np.testing.assert_allclose(coords[24, 42:50, 0], np.arange(42, 50), atol=0.02)
  assert is_met[10:38, 10:46].all()
  pixels, z = camera.project(jnp.asarray(points), _FOCAL, *_SIZE)
  _, z_nearest = splat.nearest_surface(pixels, z, splat.is_facing(pixels), _SIZE)
  visible = splat.is_visible(pixels, z, z_nearest, 0.1)
  assert visible[near].all() and not visible[20:28, 37:40].any()
  assert splat.stretch(jnp.asarray(_pixels()), pixels).max() > 3 > 1.01 > splat.stretch(jnp.asarray(_pixels()), pixels)[24, 28]


def test_a_smooth_fill_keeps_what_is_known_and_continues_a_ramp():
  ramp = (_pixels()[..., :1] / 60).astype(np.float32)
  known = np.ones(_SIZE, bool)
  known[15:30, 20:34] = False
  filled = np.asarray(fill.diffuse(jnp.asarray(np.where(known[..., None], ramp, 9)), jnp.asarray(known)))
  np.testing.assert_array_equal(filled[known], ramp[known])
  np.testing.assert_allclose(filled, ramp, atol=0.03)
  assert not np.asarray(fill.diffuse(jnp.ones((5, 7, 3)), jnp.zeros((5, 7), bool))).any()


def test_holes_are_filled_in_windows_and_nothing_else_is_touched():
  rgb = np.random.default_rng(0).uniform(size=(80, 90, 3)).astype(np.float32)
  hole = np.zeros((80, 90), bool)
  hole[0, 0] = hole[79, 89] = hole[40:44, 30:60] = True
  asked = []

  def refine(window, hole):
    asked.append(window.shape)
    return jnp.where(hole[..., None], 2.0, window - 1)

  filled = np.asarray(head_motion.fill_holes(refine, jnp.asarray(rgb), jnp.asarray(hole)))
  np.testing.assert_array_equal(filled[~hole], rgb[~hole])
  assert (filled[hole] == 2).all() and asked == [(1, 64, 64, 3)]


def test_random_holes_follow_their_key_and_take_a_small_share():
  holes = [np.asarray(fill.random_holes(jax.random.key(seed), 80, 96)) for seed in (0, 0, 1)]
  np.testing.assert_array_equal(holes[0], holes[1])
  assert (holes[0] != holes[2]).any() and 0.01 < np.mean(holes) < 0.2


def test_the_frames_own_pose_gives_the_frame_back(subject, move):
  for frame_id in (0, 7, 20):
    moved = move(frame_id, subject.observed_from_canonical[frame_id])
    np.testing.assert_allclose(moved.rgb_face, subject.frames[frame_id] / 255, atol=1e-4)
    assert not moved.hole.any()


def test_the_moved_face_is_the_face_seen_at_that_pose(subject, move):
  """The toy's frames are one texture at known poses: frame 0 moved to frame 10's pose looks like frame 10, mouth aside."""
  target = subject.observed_from_canonical[10]
  face = (np.asarray(subject.mask_face_canonical) > 0) & (np.arange(64)[:, None] < subject.meta.lip_box.top - 3)
  error = lambda rgb: np.sqrt(np.mean(np.square(rgb - subject.frames[10] / 255.0)[face]))
  assert error(move(0, target).rgb_face) < 0.002 < 0.4 * error(subject.frames[0] / 255.0), 'as well as 8 bits tell'


@pytest.mark.parametrize('text', ['offset:yaw=180', 'offset:yaw=89,pitch=-70,roll=120,x=3,y=-2', 'offset:z=-50', 'offset:z=1e6',
                                  'offset:x=1e9', 'sine:pitch=1e5,period=0.01'])
def test_absurd_poses_give_finite_pictures(subject, move, text):
  target = pose.target_poses(pose.parse(text), subject, np.array([3, 4]))[1]
  moved = move(4, target)
  assert np.isfinite(moved.rgb_face).all() and np.isfinite(moved.source).all()
  assert moved.rgb_face.min() > -1 and moved.rgb_face.max() < 2
  if 'sine' not in text:
    assert 'degrees' in pose.warning(subject, np.array([4]), target[None])


def test_still_holds_the_head_and_offset_turns_it_by_what_was_asked(subject):
  ids = np.arange(24)
  still = pose.target_poses(pose.parse('still'), subject, ids)
  assert np.ptp(still, axis=0).max() < 1e-6
  offset = pose.target_poses(pose.parse('offset:yaw=10,x=0.05'), subject, ids)
  own, centre = subject.observed_from_canonical[ids].astype(np.float64), head_motion.head_centre(subject)
  turn = own[:, :3, :3].transpose(0, 2, 1) @ offset[:, :3, :3]
  np.testing.assert_allclose(np.degrees(Rotation.from_matrix(turn).magnitude()), 10, atol=1e-3)
  assert (turn[:, 0, 2] < -0.17).all(), 'positive yaw turns the face, at −z, to +x'
  at = lambda poses: jnp.asarray(poses[:, :3, :3] @ centre + poses[:, :3, 3], jnp.float32)
  seen = lambda poses: camera.project(at(poses), subject.meta.focal_px, 64, 64)[0]
  np.testing.assert_allclose(seen(offset) - seen(own), np.broadcast_to([0.05 * 64, 0], (24, 2)), atol=1e-3)
  assert pose.warning(subject, ids, offset) is None


def test_a_track_replays_another_clips_motion_about_this_ones_mean(subject):
  ids = np.arange(24)
  targets = pose.target_poses(pose.parse(f'track:{subject.folder}/clip1'), subject, ids)
  recorded = subject.observed_from_canonical[24:36]
  steps = lambda poses: poses[:-1, :3, :3].transpose(0, 2, 1) @ poses[1:, :3, :3]
  np.testing.assert_allclose(steps(targets)[:11], steps(recorded), atol=1e-5)
  np.testing.assert_allclose(targets[12], targets[10], atol=1e-6, err_msg='back and forth')


@pytest.mark.parametrize('text, message', [
    ('', 'must be'), ('turn', "--pose=turn: must be 'still'"), ('still:yaw=3', 'must be'), ('offset:', 'is not one of yaw'),
    ('offset:yaw=ten', "'yaw=ten' is not one of"), ('offset:yaw=nan', 'with a number'), ('offset:period=3', 'is not one of'),
    ('sine:yaw=3,period=0', 'period=0 must be more'), ('track:', 'no subject folder'),
    ('track:nowhere/x', 'nowhere/x is no subject'),
])
def test_a_bad_pose_is_told_in_one_line(text, message):
  with pytest.raises(InputError, match='--pose') as error:
    pose.parse(text)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_a_track_of_an_unknown_clip_names_the_clips(subject):
  with pytest.raises(InputError, match="no clip 'clip7'; one of: clip0, clip1"):
    pose.parse(f'track:{subject.folder}/clip7')


@pytest.mark.slow
def test_speech_at_poses_moves_the_composed_frame(subject):
  config = smoke.get_config()
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config)
  variables = jax.jit(lambda constants: workdir_state.create_variables(model, constants, config))(constants)
  predictor = predictor_module.Predictor(model, variables, constants, subject, batch_size=1)
  ids = np.arange(3, 11)
  windows = dataset.subject_mel_windows(subject, ids, config.audio.window_steps)
  mouths = predictor.mouths_of(predictor.audio_embeddings(windows))
  plain = [x.rgb_face for x in predictor.from_mouths(ids, mouths)]
  same = list(predictor.from_mouths_at_poses(ids, mouths, subject.observed_from_canonical[ids], ids))
  for a, b in zip(plain, same, strict=True):
    assert np.abs(a.astype(int) - b.rgb_face).max() <= 1
  moved = list(predictor.from_mouths_at_poses(ids, mouths, pose.target_poses(pose.parse('offset:x=0.08'), subject, ids),
                                                   ids))
  columns = lambda prediction: np.nonzero(prediction.mask_mouth)[1].mean()
  shift = np.mean([columns(b) - columns(a) for a, b in zip(same, moved, strict=True)])
  assert abs(shift - 0.08 * 64) < 1.0, 'the lips move with the head'
