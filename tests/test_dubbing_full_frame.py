"""A synthetic head in larger pictures of 30 a second, dubbed: what is painted, where, when, and what is left alone."""
import dataclasses
import json
import types

import cv2
import jax
import numpy as np
import pytest

from speech2lip_jax.common import film_file
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, features
from speech2lip_jax.data.dataset import View
from speech2lip_jax.dubbing import another_video, close_up, film, timeline
from speech2lip_jax.dubbing.source import open_source, planes_of
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.preprocess import mouth_region, pipeline, projection, tracking
from speech2lip_jax.preprocess.video import to_rgb
from speech2lip_jax.provenance.origin import Disclosure
from speech2lip_jax.rendering import export, predictor
from speech2lip_jax.rendering import trained as trained_run
from speech2lip_jax.rendering.person import Person
from speech2lip_jax.synthetic.subject import SyntheticSubject
from speech2lip_jax.workdir import config_file
from speech2lip_jax.workdir import state as workdir_state

HEAD, HEIGHT, WIDTH, TOP, LEFT, RATE = 192, 240, 320, 30, 80, 30
SECONDS = 4


def make_video(folder, name, seed, change=lambda number, picture: picture, zoom=1.0, width=WIDTH, left_of=lambda number: LEFT):
  """A video of a head and the file of its landmarks; returns the head. left_of: where it is in each picture, whole pixels."""
  head = SyntheticSubject(HEAD, SECONDS * RATE, seed, 'nodding', RATE)
  size, points = round(zoom * HEAD), []
  with film_file.Mp4Writer(folder / f'{name}.mp4', HEIGHT, width, RATE, head.speech.sound[None], 16_000, 10) as writer:
    for number in range(head.num_frames):
      picture, left = np.full((HEIGHT, width, 3), 90, np.uint8), left_of(number)
      picture[TOP:TOP + size, left:left + size] = cv2.resize(head.render(number).rgb, (size, size), interpolation=cv2.INTER_AREA)
      writer.write(change(number, picture))
      landmarks = head.landmarks(number) * zoom
      landmarks[:, :2] += (zoom - 1) / 2 + np.array([left, TOP])
      points.append(landmarks)
  np.savez(folder / f'{name}.npz', landmarks=np.stack(points))
  return head


def preprocessed(folder, name, size=96):
  pipeline.preprocess([str(folder / f'{name}.mp4')], folder / f'subject_{name}', size, tracks=[str(folder / f'{name}.npz')])
  return dataset.load_subject(folder / f'subject_{name}')


def make_trained(subject):
  """Of random weights."""
  config = smoke.get_config().unlock()
  config.data.path, config.audio.features, config.linear.share = str(subject.folder), 'mel', 0.0
  split = dataset.split_frames(subject, config.data)
  constants, model = subject_constants(subject, split.train), build_model(subject, config)
  variables = jax.jit(lambda constants: workdir_state.create_variables(model, constants, config))(constants)
  return trained_run.Trained(config, subject, split, features.open_features(subject, config.audio, split.train),
                             predictor.Predictor(model, variables, constants, subject, batch_size=4), 0, digest='5e' * 32)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('dubbing')


@pytest.fixture(scope='module')
def scene(folder):
  head = make_video(folder, 'take', seed=0)
  subject = preprocessed(folder, 'take')
  trained, source = make_trained(subject), open_source(str(folder / 'take.mp4'))
  return types.SimpleNamespace(head=head, subject=subject, trained=trained, source=source,
                               footage=film.open_footage(trained, source, subject, 0))


class Kept(list):
  """Takes the place of a writer."""

  def write(self, picture, time_s, alpha=None):
    """Keeps the picture, with its alpha where it has one."""
    self.append(picture if alpha is None else (picture, alpha))


def dubbed(scene, share, origin=None, as_layer=False):
  rows = np.arange(len(share))
  plan = timeline.Timeline(rows, rows / RATE, rows / RATE, np.asarray(share, np.float32), len(share) / RATE)
  kept = Kept()
  painted = film.write_dub(scene.trained, scene.footage, plan, np.zeros(16_000, np.int16), kept, origin=origin, as_layer=as_layer)
  return kept, painted


def test_heads_between_the_tracked_frames_are_where_they_are(scene):
  tracked = close_up.follow_head(scene.subject, 0, scene.source.facts.times_s)
  assert tracked.is_tracked.all()
  assert tracked.focal == pytest.approx(scene.subject.meta.focal_px * tracked.side / scene.subject.meta.width)
  points = np.asarray(scene.subject.origin().points_head, np.float64)[tracking.RIGID_POINTS]
  seen = tracking.project(points, tracked.observed_from_head, tracked.focal, tracked.side)
  seen += tracked.middle[:, None] - (tracked.side - 1) / 2
  true = np.stack([scene.head.landmarks(number)[tracking.RIGID_POINTS, :2] for number in range(len(seen))]) + (LEFT, TOP)
  off = np.linalg.norm(seen - true, axis=-1).mean(1)
  is_shown = np.isin(np.arange(len(seen)), scene.subject.origin().source_picture)
  assert off[is_shown].mean() < 0.5 and off[~is_shown].mean() < off[is_shown].mean() + 0.15


def test_a_walking_head_is_followed_and_painted_where_it_is(folder):
  left_of = lambda number: round(220 + 200 * np.sin(2 * np.pi * number / RATE / 4))
  head = make_video(folder, 'walk', 0, width=640, left_of=left_of)
  subject, source = preprocessed(folder, 'walk'), open_source(str(folder / 'walk.mp4'))
  assert subject.meta.report['crop']['follows_face'] == ['walk'] and np.ptp(subject.origin().crop[:, 0]) > 250
  tracked = close_up.follow_head(subject, 0, source.facts.times_s)
  squares, view = close_up.close_up(tracked, subject)
  points = np.asarray(subject.origin().points_head, np.float64)[tracking.RIGID_POINTS]
  home = subject.observed_from_head[subject.meta.canonical_frame].astype(np.float64)
  corners = np.array([(square.left, square.top) for square in squares])
  for poses, focal, side, shift in (
      (tracked.observed_from_head, tracked.focal, tracked.side, tracked.middle - (tracked.side - 1) / 2),
      (view.observed_from_canonical @ home, view.focal, view.width, corners)):
    seen = tracking.project(points, poses, focal, side) + shift[:, None]
    true = np.stack([head.landmarks(number)[tracking.RIGID_POINTS, :2] + (left_of(number), TOP) for number in range(len(seen))])
    off = np.linalg.norm(seen - true, axis=-1).mean(1)
    assert off.mean() < 1.0 and np.percentile(off, 95) < 1.5
  pictures, meta = source.read(range(head.num_frames)), subject.meta
  shown = dict(zip(subject.origin().source_picture.tolist(), range(meta.num_frames)))
  differences = []
  for number, picture in enumerate(pictures):
    if number in shown:
      square = film.read_square(picture, source.facts, squares[number])
      lips = projection.read_lips(square, meta.lip_box, subject.depth_canonical, view.observed_from_canonical[number], view.focal,
                                  view.canonical_scale)
      own = subject.rgb_lip_canonical[shown[number]].astype(float)
      differences.append([np.abs(np.roll(own, shift, (0, 1)) - lips)[2:-2, 2:-2].mean() for shift in ((0, 0), (0, 1), (1, 0))])
  exact, *moved = np.mean(differences, 0)
  assert 2.5 * exact < min(moved), 'the same lips in the same place'


def test_a_turned_camera_sees_the_head_a_part_of_a_pixel_further():
  points, poses = np.random.default_rng(0).uniform(-1, 1, (20, 3)), np.tile(np.eye(4), (3, 1, 1))
  poses[:, :3, 3] = [0.3, -0.2, 8]
  shift = np.array([[0.5, 0.0], [-0.2, 0.4], [0, 0]])
  before, after = (tracking.project(points, moved, 900.0, 500) for moved in (poses, close_up.turned(poses, shift, 900.0)))
  np.testing.assert_allclose(after - before, np.broadcast_to(shift[:, None], before.shape), atol=0.03)
  np.testing.assert_array_equal(after[2], before[2])


def test_pictures_without_a_face_stay_near_those_with_one(scene):
  part = dataclasses.replace(scene.subject.meta.clips[0], num_frames=40)
  subject = dataclasses.replace(scene.subject, meta=dataclasses.replace(scene.subject.meta, clips=(part,)))
  tracked = close_up.follow_head(subject, 0, scene.source.facts.times_s)
  assert not tracked.is_tracked.all()
  last = np.flatnonzero(tracked.is_tracked)[-1]
  np.testing.assert_array_equal(tracked.observed_from_head[last + 1:], np.repeat(
      tracked.observed_from_head[last:last + 1], len(tracked.is_tracked) - last - 1, axis=0))


def test_the_nearest_instant_is_found_among_one_and_many():
  np.testing.assert_array_equal(close_up.nearest(np.array([-1.0, 0.4, 0.6, 9.0]), np.array([0.0, 1.0, 2.0])), [0, 0, 1, 2])
  np.testing.assert_array_equal(close_up.nearest(np.array([-1.0, 5.0]), np.array([2.0])), [0, 0])


def test_poses_at_tracked_instants_are_those_tracked():
  rng = np.random.default_rng(0)
  poses = np.tile(np.eye(4), (9, 1, 1))
  poses[:, :3, 3] = rng.normal(size=(9, 3))
  np.testing.assert_allclose(close_up.poses_between(np.arange(9) / 25, poses, np.arange(9) / 25), poses, atol=1e-9)


def test_only_the_mouths_surroundings_change_and_only_where_it_is_ours(scene):
  share = np.ones(24)
  share[:5], share[10:14] = 0, 0
  kept, painted = dubbed(scene, share)
  assert painted == 15 and len(kept) == 24
  mouths = np.stack([scene.head.landmarks(number)[[61, 291, 0, 17], :2].mean(0) for number in range(24)]) + (LEFT, TOP)
  for number, (picture, own) in enumerate(zip(kept, scene.source.read(range(24)), strict=True)):
    changed = planes_of(picture)[0] != planes_of(own)[0]
    assert changed.any() == bool(share[number])
    if changed.any():
      ys, xs = np.nonzero(changed)
      assert np.abs([xs.mean(), ys.mean()] - mouths[number]).max() < 12
      assert np.ptp(xs) < 90 and np.ptp(ys) < 80


def test_mark_and_words_change_what_they_lie_in_alone(scene, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
  origin = Disclosure(label='eu').origin('anna', '9a3f' * 16, 'take.mp4')
  share = np.append(np.ones(12), np.zeros(4))
  plain, _ = dubbed(scene, share)
  told, _ = dubbed(scene, share, origin)
  top, left, height, width = origin.words().box(HEIGHT, WIDTH)
  for row, (before, after) in enumerate(zip(plain, told)):
    luma, others = (planes_of(after)[index].astype(int) - planes_of(before)[index] for index in (0, 1))
    assert luma[top:top + height, left:left + width].any()
    luma[top:top + height, left:left + width] = 0
    assert np.abs(luma).max() <= 2 and luma.any() == bool(share[row])
    others[:(top + height) // 2 + 1, :(left + width) // 2 + 1] = 0
    assert np.abs(others).max() <= 1  # a grey step has no colour
    if share[row]:
      rows, columns = np.nonzero(luma)
      assert rows.min() > TOP and rows.max() < TOP + HEAD and columns.min() > LEFT and columns.max() < LEFT + HEAD
      assert (luma[rows.min():rows.max() + 1, columns.min():columns.max() + 1] != 0).mean() > 0.9


def test_a_share_between_mixes_the_mouths(scene):
  whole, half = (dubbed(scene, np.full(4, share))[0] for share in (1.0, 0.5))
  own = planes_of(next(scene.source.read([2])))[0].astype(int)
  full, mixed = (planes_of(each[2])[0].astype(int) - own for each in (whole, half))
  assert np.abs(full).max() > 10 and np.abs(mixed - full / 2).max() <= 2


def test_a_program_dubs_with_the_person_that_it_opened(scene, folder, tmp_path):
  config = scene.trained.config
  config_file.claim_workdir(tmp_path, config)
  (tmp_path / 'checkpoints' / str(config.train.num_steps)).mkdir(parents=True)
  person = Person(scene.trained, tmp_path)
  line, = person.dub(folder / 'take.mp4', (np.zeros(8000), 16_000), tmp_path / 'out.mp4', crf=30)
  assert '15 pictures of 320×240' in line
  assert len(open_source(str(tmp_path / 'out.mp4')).facts.times_s) == 15


def test_a_layer_over_the_source_is_the_dub(scene):
  share = np.r_[np.zeros(2), 0.3, 0.7, np.ones(4)]
  plain, _ = dubbed(scene, share)
  layers, _ = dubbed(scene, share, as_layer=True)
  facts = scene.source.facts
  for wanted, (picture, alpha), own, ours in zip(plain, layers, scene.source.read(range(len(share))), share, strict=True):
    below, above, wanted = (to_rgb(each, facts).astype(float) for each in (own, picture, wanted))
    weight = alpha[..., None] / 255
    off = np.abs(weight * above + (1 - weight) * below - wanted)
    assert alpha.max() == np.rint(255 * ours) and off.max() <= 3 and off.mean() < 0.02
    assert (alpha == 0).mean() > 0.7


def test_a_track_is_told_in_the_pixels_of_the_source(scene, folder, tmp_path):
  export.write_track(scene.subject, tmp_path / 'track.json')
  track = json.loads((tmp_path / 'track.json').read_text())
  true = np.load(folder / 'take.npz')['landmarks']
  clip, frame = track['clips'][0], track['frames'][10]
  assert (clip['height'], clip['width']) == (HEIGHT, WIDTH) and clip['source'].endswith('take.mp4')
  off = np.linalg.norm(np.array(frame['landmarks']) - true[frame['source_picture'], :, :2], axis=-1)
  assert off.mean() < 1.0
  pose, points = np.array(frame['view_from_head']), np.asarray(scene.subject.origin().points_head, float)
  seen = points @ pose[:3, :3].T + pose[:3, 3]
  seen = seen[:, :2] / seen[:, 2:] * clip['focal_px'] + frame['principal_point']
  rigid = tracking.RIGID_POINTS
  assert np.linalg.norm(seen[rigid] - true[frame['source_picture'], rigid, :2], axis=-1).mean() < 1.0


def hand(number, picture):
  """A hand that comes before the mouth in the third second."""
  if 60 <= number < 90:
    cv2.ellipse(picture, (LEFT + 96, TOP + 120), (34, 20), 15, 0, 360, (196, 150, 128), -1)
    for finger in range(4):
      cv2.ellipse(picture, (LEFT + 78, TOP + 106 + 9 * finger), (30, 4), 5, 0, 360, (176 - 9 * finger, 132, 112), -1)
  return picture


def test_a_covered_mouth_is_never_painted_over(folder):
  make_video(folder, 'hand', 0, hand)
  subject = preprocessed(folder, 'hand')
  footage = film.open_footage(make_trained(subject), open_source(str(folder / 'hand.mp4')), subject, 0)
  assert (footage.may_paint[60:90] == 0).all()
  train = dataset.split_frames(subject, smoke.get_config().data).train
  assert not np.isin(train, np.arange(50, 75)).any() and np.isin(train, np.arange(50)).any()
  assert any('covered' in line for line in subject.meta.report['warnings'])
  away = np.r_[0:60 - 8, 90 + 8:len(footage.may_paint)]
  assert (footage.may_paint[away] == 1).mean() > 0.95
  assert any('covered' in note and '1.' in note for note in footage.notes)


def test_the_mouth_fades_where_a_face_is_lost():
  times_s, ids = np.arange(60) / 30, np.arange(50)
  tracked = close_up.Tracked(np.zeros((60, 4, 4)), times_s < 1.0, np.minimum(times_s * 25, 49), 1.0, np.zeros((60, 2)), 1)
  share = film.uncovered_share(tracked, times_s, ids, np.zeros(50, bool))
  assert (share[30:] == 0).all() and (share[:24] == 1).all() and (np.diff(share[20:31]) <= 0).all() and 0 < share[27] < 1


def darker(number, picture):
  return (picture * np.array([0.8, 0.7, 0.6])).astype(np.uint8)


@pytest.fixture(scope='module')
def other(folder):
  make_video(folder, 'other', 7, darker, zoom=0.85)
  return preprocessed(folder, 'other', 80)


def test_another_video_of_the_person_is_laid_over_the_trained_one(scene, other, folder):
  source = open_source(str(folder / 'other.mp4'))
  tracked, overlay = another_video.in_trained_axes(scene.subject, other, close_up.follow_head(other, 0, source.facts.times_s))
  assert overlay.rms < 0.06
  footage = film.open_footage(scene.trained, source, other, 0)
  np.testing.assert_allclose(footage.tone.mean((0, 1)), (0.8, 0.7, 0.6), atol=0.05)
  view = another_video.frames_view(scene.subject, other, overlay)
  ids = np.arange(0, other.meta.num_frames, 5)
  lips = another_video.lips(scene.subject, other, view, ids).mean(0) / footage.tone
  own = scene.subject.rgb_lip_canonical.mean(0)
  best = min((np.abs(np.roll(lips, shift, (0, 1)) - own)[4:-4, 4:-4].mean(), shift)
             for shift in [(y, x) for y in (-2, -1, 0, 1, 2) for x in (-2, -1, 0, 1, 2)])
  assert best[1] in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def test_another_person_is_refused(scene, other):
  regions = mouth_region.Regions.of_subject(scene.subject)
  own = regions.read(scene.subject.frames, View.of_subject(scene.subject), np.arange(20))
  overlay = another_video.lay_over(scene.subject, other)
  assert another_video.check_person(own, own, overlay, scene.subject, 'b.mp4') == []
  with pytest.raises(InputError, match='b.mp4: .*another person'):
    another_video.check_person(own, own[:, ::-1], overlay, scene.subject, 'b.mp4')


def test_a_subject_of_format_1_says_what_to_do(scene):
  old = dataclasses.replace(scene.subject, crop=None)
  with pytest.raises(InputError, match='run speech2lip preprocess again'):
    close_up.find_source(old, scene.source.facts)


def test_a_video_is_known_by_its_place_and_size(scene):
  assert close_up.find_source(scene.subject, scene.source.facts) == 0
  assert close_up.find_source(scene.subject, dataclasses.replace(scene.source.facts, file_size=1)) is None
