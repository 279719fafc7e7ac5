"""The jaw follows the painted lips: against a rendered head whose open and shut face are known, and where nothing may move."""
import dataclasses

import cv2
import jax
import numpy as np
import pytest

from speech2lip_jax.configs import smoke
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.preprocess import canonical, projection
from speech2lip_jax.rendering import jaw as jaw_module
from speech2lip_jax.rendering.predictor import Predictor
from speech2lip_jax.synthetic.subject import SyntheticSubject
from speech2lip_jax.workdir import state as workdir_state

SIZE, EVERY, NUM_FRAMES = 192, 4, 120
CHIN = 152


class Scene:
  """A rendered head as a subject; `with_opening` tells frames whose mouth alone is another."""

  def __init__(self, folder):
    self.truth = truth = SyntheticSubject(SIZE, EVERY * NUM_FRAMES, seed=1, motion='nodding')
    self.times = np.arange(NUM_FRAMES) * EVERY
    frames = np.stack([truth.render(time).rgb for time in self.times])
    landmarks = np.stack([truth.landmarks(time)[:, :2] for time in self.times])
    poses = truth.observed_from_head[self.times].astype(np.float32)
    chosen = int(np.argmin(truth.shapes.opening[self.times]))
    depth = canonical.depth_map(truth.head_points(self.times[chosen])[:468], poses[chosen].astype(np.float64), truth.focal_px, SIZE)
    self.subject = Subject(
        folder=folder, meta=None, frames=frames, rgb_lip_canonical=None, observed_from_head=poses, landmarks=landmarks,
        is_interpolated=np.zeros(NUM_FRAMES, bool), is_covered=np.zeros(NUM_FRAMES, bool), depth_canonical=depth,
        mask_head_canonical=canonical.head_mask(frames[chosen], landmarks[chosen]),
        mask_face_canonical=canonical.face_mask(landmarks[chosen], depth.shape), mel=np.zeros((400, 80), np.float32))
    meta = schema.SubjectMeta(
        format_version=schema.SOURCELESS_VERSION, height=SIZE, width=SIZE, num_frames=NUM_FRAMES, num_mel=400,
        focal_px=truth.focal_px, canonical_frame=chosen, lip_box=None,
        clips=(schema.Clip('talk', 'talk.mp4', 0, NUM_FRAMES, 0, 400),), report={})
    self.subject = dataclasses.replace(self.subject, meta=meta)
    moves = self.subject.observed_from_canonical
    mouths = projection.canonical_coords(landmarks[:, canonical.LIPS], depth, moves, truth.focal_px)
    self.subject = dataclasses.replace(self.subject, meta=dataclasses.replace(meta, lip_box=canonical.lip_box(mouths, SIZE)))
    lips = np.stack([self.lips(frame, row) for row, frame in enumerate(frames)])
    self.subject = dataclasses.replace(self.subject, rgb_lip_canonical=lips)

  def lips(self, frame, row):
    """The canonical lips of a picture in the pose of frame `row`."""
    subject = self.subject
    return projection.read_lips(frame, subject.meta.lip_box, subject.depth_canonical, subject.observed_from_canonical[row],
                                subject.meta.focal_px)

  def with_opening(self, row, opening):
    """Frame `row` with another mouth: the picture and its landmarks."""
    time, expression = self.times[row], dataclasses.replace(self.truth.expression(self.times[row]), opening=opening, width=0.0)
    landmarks = self.truth.renderer.landmarks(self.truth.observed_from_head[time], expression)[1]
    return self.truth.render(time, expression=expression).rgb, landmarks[:, :2]


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
  return Scene(tmp_path_factory.mktemp('jaw'))


@pytest.fixture(scope='module')
def jaw(scene):
  return jaw_module.open_jaw(scene.subject, np.arange(NUM_FRAMES))


def with_dot(picture, at):
  """The picture with a soft green dot at `at` (x, y), two pixels wide."""
  xs, ys = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
  share = np.exp(-((xs - at[0])**2 + (ys - at[1])**2) / 4)[..., None]
  return np.round(picture * (1 - share) + np.array([0, 255, 0]) * share).astype(np.uint8)


def find_dot(picture):
  excess = np.clip(picture[..., 1] - picture[..., [0, 2]].max(-1).astype(float) - 60, 0, None)
  return np.array([(excess.sum(0) * np.arange(SIZE)).sum(), (excess.sum(1) * np.arange(SIZE)).sum()]) / excess.sum()


@pytest.mark.parametrize('point', [CHIN, 199, 428])
@pytest.mark.parametrize('openings', [(0.0, 0.8), (0.8, 0.0)])
def test_the_chin_goes_where_it_is_with_the_other_mouth(scene, jaw, openings, point):
  true, found = [], []
  for row in (20, 50, 90):
    (picture, points), (other, points_other) = (scene.with_opening(row, opening) for opening in openings)
    frames, lips = scene.subject.frames.copy(), scene.subject.rgb_lip_canonical.copy()
    frames[row], lips[row] = picture, scene.lips(picture, row)
    shown = jaw_module.Jaw.of_subject(dataclasses.replace(scene.subject, frames=frames, rgb_lip_canonical=lips), jaw.motion)
    dotted = with_dot(picture, points[point])
    moved = shown.move(dotted[None], np.array([row]), shown.motion.shapes(scene.lips(other, row)[None]))[0]
    true.append(points_other[point] - points[point])
    found.append(find_dot(moved) - find_dot(dotted))
  assert np.abs(np.array(true)[:, 1]).min() > 5, 'it has far to go'
  assert np.linalg.norm(np.subtract(found, true), axis=1).max() < 1


def test_what_speech_does_not_move_stays_to_the_bit(scene, jaw):
  rows = np.array([10, 60])
  moved = jaw.move(scene.subject.frames[rows], rows, jaw.motion.shapes(scene.subject.rgb_lip_canonical[[70, 30]]))
  changed = (moved != scene.subject.frames[rows]).any(-1)
  assert changed.any((1, 2)).all()
  for row, where in zip(rows, changed, strict=True):
    points = scene.subject.landmarks[row]
    face, height = canonical.face_mask(points, (SIZE, SIZE)), np.ptp(points[:468, 1])
    ys, xs = np.nonzero(where)
    assert ys.min() >= points[jaw_module.NOSE_BASE, 1] - SIZE * jaw_module.CELL
    assert ys.max() <= points[:468, 1].max() + 1.25 * jaw_module.BELOW_CHIN * height
    above_the_chin = where & (np.arange(SIZE)[:, None] < points[CHIN, 1])
    away = cv2.distanceTransform(1 - face, cv2.DIST_L2, 5)
    assert away[above_the_chin].max() <= 1.25 * jaw_module.BELOW_CHIN * height


def test_own_lips_move_nothing(scene, jaw):
  rows = np.arange(NUM_FRAMES)[::10]
  shapes = jaw.motion.shapes(scene.subject.rgb_lip_canonical[rows])
  np.testing.assert_array_equal(jaw.move(scene.subject.frames[rows], rows, shapes), scene.subject.frames[rows])


def test_a_window_that_hangs_over_the_picture_s_edge_is_read_at_the_edge(scene, jaw):
  row, cut = 20, 150  # the picture ends below the lip box
  meta = scene.subject.meta
  shapes = jaw.motion.shapes(scene.subject.rgb_lip_canonical[[70]])
  whole = jaw.move(scene.subject.frames[[row]], np.array([row]), shapes)[0]
  part = jaw.move(scene.subject.frames[[row], :cut], np.array([row]), shapes)[0]
  assert part.shape == (cut, SIZE, 3) and cut > meta.lip_box.top + meta.lip_box.height
  np.testing.assert_array_equal(part[:cut - 12], whole[:cut - 12])


def test_a_subject_without_landmarks_has_no_jaw(scene):
  for landmarks in (np.zeros_like(scene.subject.landmarks), np.full_like(scene.subject.landmarks, np.nan)):
    assert jaw_module.open_jaw(dataclasses.replace(scene.subject, landmarks=landmarks), np.arange(NUM_FRAMES)) is None


def test_frames_are_rendered_with_the_jaw_of_their_lips(scene, jaw):
  subject, config = scene.subject, smoke.get_config()
  model, constants = build_model(subject, config), subject_constants(subject, np.arange(NUM_FRAMES))
  variables = jax.jit(lambda constants: workdir_state.create_variables(model, constants, config))(constants)
  plain, with_jaw = (Predictor(model, variables, constants, subject, 1, jaw=each) for each in (None, jaw))
  ids = np.array([5, 40, 80, 110])
  for other in (ids, ids[::-1]):
    lips = lambda rows: subject.rgb_lip_canonical[other[rows]] / np.float32(255)  # noqa: B023
    still, moved = ([each.rgb_face for each in predictor.from_lips(ids, lips)] for predictor in (plain, with_jaw))
    assert np.array_equal(still, moved) == (other is ids)
  windows = np.random.default_rng(0).normal(size=(4, config.audio.window_steps, schema.NUM_MEL_BANDS)).astype(np.float32)
  mouths = plain.mouths_of(plain.audio_embeddings(windows))
  still = [each.rgb_face for each in plain.from_mouths(ids, mouths)]
  np.testing.assert_array_equal(still, [each.rgb_face for each in with_jaw.from_mouths(ids, mouths, with_jaw=False)])
  frames = jaw.move(subject.frames[ids], ids, jaw.motion.shapes(plain.painted_lips(ids, mouths)))
  for frame, one, prediction in zip(frames, still, with_jaw.from_mouths(ids, mouths), strict=True):
    outside = np.ones((2, SIZE, SIZE), bool)
    for part, (top, left, height, width) in zip(outside, (prediction.window, prediction.jaw), strict=True):
      part[top:top + height, left:left + width] = False
    np.testing.assert_array_equal(prediction.rgb_face[outside[0]], frame[outside[0]])
    np.testing.assert_array_equal(prediction.rgb_face[outside.all(0)], one[outside.all(0)])
    assert (prediction.rgb_face != one).any()
