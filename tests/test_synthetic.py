"""The rendered subject keeps what it promises: pose, depth, landmarks, mouth and sound agree with one another and the picture."""
import cv2
import numpy as np
import pytest

from speech2lip_jax.common import npz
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import landmarks, rigid, tracking, video
from speech2lip_jax.synthetic import portrait, speech
from speech2lip_jax.synthetic.expression import Expression
from speech2lip_jax.synthetic.subject import MOTIONS, SyntheticSubject, load_subject_of, make_clip
from tests import shared

SIZE = 128


@pytest.fixture(scope='module')
def subject():
  return SyntheticSubject(SIZE, 200, seed=3, motion='turning')


def sample(image, xy):
  """`image` read at pixels xy [P, 2]."""
  xy = np.asarray(xy, np.float32)
  return cv2.remap(image, xy[None, :, 0], xy[None, :, 1], cv2.INTER_LINEAR)[0].astype(np.float64)


def project(points, subject):
  return subject.focal_px * points[..., :2] / points[..., 2:] + (subject.size - 1) / 2


def at(phonemes, times, symbols):
  """[N] bool: the moment lies within 15 ms of the middle of one of `symbols`."""
  middles = np.array([(p.start + p.end) / 2 for p in phonemes if p.symbol in symbols])
  return (np.abs(times[:, None] - middles) < 0.015).any(1)


def test_in_the_photographs_pose_the_picture_is_the_photograph(subject):
  picture = subject.renderer.render(subject.rest_pose, Expression()).rgb
  x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
  scale, middle = np.float32(portrait.SPAN / SIZE), np.float32((SIZE - 1) / 2)
  photo = cv2.GaussianBlur(portrait.photograph(), (0, 0), 0.7)
  left, top = portrait.load().corner.tolist()
  photo = cv2.remap(photo, portrait.CENTER_U - left + (x - middle) * scale, portrait.CENTER_V - top + (y - middle) * scale,
                    cv2.INTER_LINEAR)
  upper = slice(round(0.12 * SIZE), round(0.52 * SIZE)), slice(round(0.3 * SIZE), round(0.7 * SIZE))
  assert np.abs(picture[upper] * 255 - photo[upper]).mean() < 5


def test_landmarks_are_the_head_points_seen_in_the_true_pose(subject):
  for frame in (0, 77, 150):
    pose = subject.observed_from_head[frame]
    seen = subject.head_points(frame) @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(subject.landmarks(frame)[:, :2], project(seen, subject), atol=1e-3)


def test_landmarks_lie_on_the_surface_that_the_picture_shows(subject):
  inner = np.setdiff1d(tracking.RIGID_POINTS, portrait.FACE_OVAL)  # the oval's points can hide behind the cheek
  for frame in np.abs(subject.observed_from_head[:, 0, 2]).argsort()[[0, 50, 100]]:
    pose = subject.observed_from_head[frame]
    depth = (subject.head_points(frame) @ pose[:3, :3].T + pose[:3, 3])[inner, 2]
    shown = sample(subject.render(frame).depth, subject.landmarks(frame)[inner, :2])
    assert np.median(np.abs(shown - depth)) < 0.01


def test_a_pixel_moved_by_depth_and_pose_lands_on_its_colour(subject):
  first, second = np.argmin(np.abs(subject.observed_from_head[:, 0, 2])), np.argmax(np.abs(subject.observed_from_head[:, 0, 2]))
  source = subject.render(first, noise=False)
  target = subject.render(first, pose=subject.observed_from_head[second], noise=False)
  inside = cv2.erode((source.depth > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
  ys, xs = np.nonzero(inside)
  ray = np.stack([xs - (SIZE - 1) / 2, ys - (SIZE - 1) / 2, np.full(len(xs), subject.focal_px)], -1) / subject.focal_px
  points = ray * source.depth[ys, xs, None]
  turn = subject.observed_from_head[second] @ np.linalg.inv(subject.observed_from_head[first])
  moved = points @ turn[:3, :3].T + turn[:3, 3]
  there = project(moved, subject)
  visible = np.abs(sample(target.depth, there) - moved[:, 2]) < 0.05
  assert visible.mean() > 0.7
  colour = np.abs(sample(target.rgb, there[visible]) - source.rgb[ys, xs][visible])
  assert np.degrees(np.linalg.norm(rigid.vector_from_rotation(turn[:3, :3]))) > 10
  assert np.median(colour) < 4 and colour.mean() < 7


def test_speech_moves_nothing_above_the_cheeks(subject):
  renderer = subject.renderer
  points = [renderer.landmarks(subject.rest_pose, Expression(opening, width))[0] for opening, width in ((0, 0), (1, 0), (0.3, -1))]
  np.testing.assert_array_equal(points[0][tracking.RIGID_POINTS], points[1][tracking.RIGID_POINTS])
  np.testing.assert_array_equal(points[0][tracking.RIGID_POINTS], points[2][tracking.RIGID_POINTS])
  pictures = [renderer.render(subject.rest_pose, Expression(opening)).rgb for opening in (0, 1)]
  np.testing.assert_array_equal(pictures[0][:SIZE // 2], pictures[1][:SIZE // 2])


def test_raised_brows_take_forehead_and_lids_along_and_nothing_below(subject):
  points = [subject.renderer.landmarks(subject.rest_pose, Expression(blink=0.5, brows=brows))[0] for brows in (0, 1)]
  rise = points[0][:, 1] - points[1][:, 1]
  assert (rise[[105, 334]] > 0.06).all() and (rise[[9, 108, 337]] > 0.02).all()
  assert np.abs(rise[tracking.RIGID_POINTS]).max() < 1e-9, 'the temples rest, as on real faces'
  assert np.abs(rise[[168, 6, 4, 2, 98, 327, 33, 133, 362, 263, 13, 14, 152, 50, 280]]).max() < 1e-9
  pictures = [subject.renderer.render(subject.rest_pose, Expression(brows=brows)).rgb for brows in (0, 1)]
  eyes = round(SIZE / 2 + (106 - portrait.CENTER_V) * SIZE / portrait.SPAN)
  np.testing.assert_allclose(pictures[0][eyes:], pictures[1][eyes:], atol=1e-6)
  assert np.abs(pictures[0][:eyes] - pictures[1][:eyes]).max() > 0.1


def test_an_opening_jaw_pulls_the_cheeks_down(subject):
  points = [subject.renderer.landmarks(subject.rest_pose, Expression(opening))[0] for opening in (0, 1)]
  fall = points[1][:, 1] - points[0][:, 1]
  assert (fall[[207, 427]] > 0.02).all() and np.abs(fall[[4, 2, 98, 327, 117, 346]]).max() < 1e-9


def test_brows_move_by_themselves():
  moving = SyntheticSubject(64, 1500, seed=0)
  assert moving.brows.min() == 0 and moving.brows.max() > 0.8 and 0.15 < moving.brows.std() < 0.45
  assert abs(np.corrcoef(moving.brows, moving.shapes.opening)[0, 1]) < 0.15 and np.abs(np.diff(moving.brows)).max() < 0.4


def test_shut_lips_meet_and_open_ones_part(subject):
  gap = lambda expression: np.subtract(*subject.renderer.landmarks(subject.rest_pose, expression)[0][[14, 13], 1:])
  assert np.abs(gap(Expression())).max() < 0.01
  assert np.abs(gap(Expression(width=-1))).max() < 0.01
  assert gap(Expression(opening=1))[0] > 0.2
  shut, opened = (subject.renderer.render(subject.rest_pose, Expression(opening)).rgb for opening in (0, 0.8))
  mouth = slice(round(0.61 * SIZE), round(0.7 * SIZE)), slice(SIZE // 2 - 6, SIZE // 2 + 6)
  assert opened[mouth].min() < shut[mouth].min() - 0.1


def test_the_mouth_is_shut_in_silence_and_at_m_b_p_and_open_at_vowels():
  said = speech.make_speech(1500, seed=0)
  times = speech.frame_times(1500)
  opening = speech.mouth_shapes(said.phonemes, times).opening
  pauses = np.zeros(len(times), bool)
  for phoneme in said.phonemes:
    pauses |= (phoneme.symbol == '_') & (times > phoneme.start + 0.12) & (times < phoneme.end - 0.12)
  assert pauses.sum() > 50 and opening[pauses].max() == 0
  assert opening[at(said.phonemes, times, 'mbp')].max() < 0.03
  assert np.median(opening[at(said.phonemes, times, {'A:', 'A@', 'a', 'aI', 'aU'})]) > 0.5
  assert np.ptp(speech.mouth_shapes(said.phonemes, times).width) > 1.2


def test_sound_and_mouth_go_together():
  said = speech.make_speech(1000, seed=1)
  opening = speech.mouth_shapes(said.phonemes, speech.frame_times(1000)).opening
  loudness = np.log(said.sound.reshape(1000, -1).astype(float).std(1) + 30)
  scores = [np.corrcoef(np.roll(opening, lag), loudness)[0, 1] for lag in range(-6, 7)]
  assert abs(int(np.argmax(scores)) - 6) <= 1 and max(scores) > 0.5
  np.testing.assert_allclose([p.start for p in said.phonemes[1:]], [p.end for p in said.phonemes[:-1]], atol=2e-3)


def test_a_subject_is_a_function_of_its_seed():
  one, same, other = (SyntheticSubject(64, 50, seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one.render(30).rgb, same.render(30).rgb)
  np.testing.assert_array_equal(one.speech.sound, same.speech.sound)
  assert (one.render(30).rgb != other.render(30).rgb).any() and (one.speech.sound != other.speech.sound).any()


@pytest.mark.parametrize('motion', list(MOTIONS))
def test_the_head_turns_as_far_as_its_motion_says(motion):
  poses = SyntheticSubject(64, 1500, seed=2, motion=motion).observed_from_head
  turn = np.degrees(np.abs(rigid.vector_from_rotation(poses[:, :3, :3]))).max(0)
  limits = np.array(MOTIONS[motion][0])
  assert (turn < 1.01 * limits).all() and (turn > 0.6 * limits).all()
  assert np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).max() < 0.1, 'a head does not jump'


def test_noise_is_the_only_difference_that_noise_makes(subject):
  difference = subject.render(5).rgb.astype(float) - subject.render(5, noise=False).rgb
  assert 0.8 < difference.std() < 1.6 and abs(difference.mean()) < 0.1


def test_a_clip_is_a_video_with_sound_whose_truth_serves_as_tracks(tmp_path):
  made = make_clip(tmp_path / 'talk.mp4', size=64, seconds=1.2, seed=4)
  info = video.probe(str(tmp_path / 'talk.mp4'))
  assert (info.num_frames, info.width, info.height) == (30, 64, 64)
  frames = [frame.copy() for _, frame in video.read_frames(info, 0, 30)]
  assert np.abs(frames[20].astype(float) - made.render(20).rgb).mean() < 6
  np.testing.assert_array_equal(npz.load(tmp_path / 'talk.npz')['landmarks'][7], made.landmarks(7))
  again = load_subject_of(tmp_path / 'talk.npz')
  np.testing.assert_array_equal(again.render(20).rgb, made.render(20).rgb)


def test_the_foreign_sound_is_another_voice_and_all_assets_are_small():
  assert len(speech.foreign_sound()) > 8 * schema.SAMPLE_RATE
  sizes = {path.name: path.stat().st_size for path in speech.ASSETS.iterdir()}
  assert sizes.pop('whisper_tiny_2_layers.npz') < 4_500_000 and sizes.pop('st_lpips_alex.npz') < 2_500_000
  assert sum(sizes.values()) < 1_000_000


@pytest.mark.parametrize('values, words', [
    ({'size': 50}, 'size 50'), ({'size': 65}, 'give 64'), ({'motion': 'dancing'}, 'still, nodding, turning'),
    ({'num_frames': 0}, 'more seconds')])
def test_bad_values_are_named(values, words):
  with pytest.raises(InputError, match=words):
    SyntheticSubject(**{'size': 64, 'num_frames': 10} | values)
  with pytest.raises(InputError, match='must end in .mp4'):
    make_clip('talk.avi')


def test_the_landmark_model_finds_the_landmarks_where_they_are():
  shown = SyntheticSubject(256, 100, seed=0, motion='nodding')
  errors = []
  with landmarks.Detector(shared.landmark_model()) as detector:
    for frame in range(0, 100, 12):
      found = landmarks.to_pixels(detector.faces(shown.render(frame).rgb)[0], 256, 256)
      errors.append(np.linalg.norm(found[:, :2] - shown.landmarks(frame)[:, :2], axis=-1))
  assert np.median(errors) < 1.2 and np.percentile(errors, 95) < 3.5
