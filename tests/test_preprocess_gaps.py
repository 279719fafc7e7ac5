"""Clips: what is kept of a video whose face is lost or whose shot changes, and the sound that goes with it."""
import numpy as np
import pytest
import scipy.io.wavfile

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import crop, gaps, stages, video

NO_CUT = np.zeros(0, int)


def spans(runs):
  return [(run.start, run.stop) for run in runs]


def test_a_short_loss_is_filled_and_flagged_and_a_longer_one_splits_the_clip():
  has_face = np.ones(100, bool)
  has_face[20:25] = False  # 0.2 s
  has_face[50:56] = False  # 0.24 s
  runs, events = gaps.find_runs(has_face, NO_CUT)
  assert spans(runs) == [(0, 50), (56, 100)]
  assert np.flatnonzero(runs[0].is_interpolated).tolist() == [20, 21, 22, 23, 24]
  assert not runs[1].is_interpolated.any()
  assert [(event['event'], event['start'], event['stop']) for event in events] == [('filled', 20, 25),
                                                                                   ('no face', 50, 56)]


def test_frames_before_the_first_and_after_the_last_face_go():
  has_face = np.zeros(60, bool)
  has_face[3:50] = True
  runs, events = gaps.find_runs(has_face, NO_CUT)
  assert spans(runs) == [(3, 50)]
  assert [(event['start'], event['stop']) for event in events] == [(0, 3), (50, 60)]


def test_remainders_below_half_a_second_are_left_out_and_reported():
  has_face = np.ones(60, bool)
  has_face[12:30] = False
  runs, events = gaps.find_runs(has_face, NO_CUT)
  assert spans(runs) == [(30, 60)]
  assert [event['event'] for event in events] == ['too short', 'no face']
  assert all('talk' in line for line in gaps.describe(events, 'talk'))


def test_a_loss_at_a_cut_is_not_interpolated_across_it():
  has_face = np.ones(80, bool)
  has_face[38:42] = False
  runs, _ = gaps.find_runs(has_face, np.array([40]))
  assert spans(runs) == [(0, 38), (42, 80)]


def test_filling_is_linear_between_the_neighbours():
  landmarks = np.arange(10.0)[:, None, None] * np.ones((1, 478, 3))
  flags = np.zeros(10, bool)
  flags[4:7] = True
  spoilt = landmarks.copy()
  spoilt[flags] = np.nan
  np.testing.assert_allclose(gaps.fill(spoilt, flags), landmarks)


def test_cuts_are_found_and_motion_and_a_slow_rate_are_none():
  rng = np.random.default_rng(0)
  time = np.arange(200)
  # Motion that starts and stops, shown at 12.5 pictures a second: every other step is zero.
  path = 30 * np.tanh((time // 2 * 2 - 60) / 6.0)
  thumbnails = np.clip(100 + 0.5 * path[:, None, None] + rng.normal(0, 1, (200, 32, 32)).repeat(1, 0), 0,
                       255).astype(np.uint8)
  landmarks = np.zeros((200, 478, 3), np.float32)
  landmarks[:, :, 1] = np.linspace(0, 100, 478)
  landmarks[..., 0] = path[:, None]
  assert not len(gaps.find_cuts(landmarks, thumbnails))
  thumbnails[150:] = np.minimum(thumbnails[150:].astype(int) + 12, 255)
  landmarks[170:, :, 0] += 15  # the face jumps while the picture hardly changes
  assert gaps.find_cuts(landmarks, thumbnails).tolist() == [150, 170]


def test_crop_maps_pixel_centres_and_keeps_one_ratio():
  window = crop.Crop(np.array([[20, 10], [20.5, 10]], np.float32), side=200, size=100)
  corner = window.landmarks(np.tile(np.array([[19.5, 9.5, 4.0], [219.5, 209.5, 4.0]], np.float32), (2, 1, 1)))
  np.testing.assert_allclose(corner[0], [[-0.5, -0.5, 2.0], [99.5, 99.5, 2.0]])
  np.testing.assert_allclose(corner[1] - corner[0], [[-0.25, 0, 0]] * 2)


class Info:
  def __init__(self, name, width, height):
    self.name, self.width, self.height = name, width, height


def way(x, y, height, frames=30):
  """Of a face there; x, y: numbers or [frames]."""
  points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2))
  points[:4] = [[-0.3, -0.5], [0.3, -0.5], [-0.3, 0.5], [0.3, 0.5]]
  places = np.stack(np.broadcast_arrays(np.zeros(frames), x, y)[1:], -1)
  return crop.Way(0, (points * (0.7 * height, height) + places[:, None]).astype(np.float32))


def test_crops_show_every_face_at_one_size_inside_the_frame():
  infos = [Info('wide', 640, 360), Info('tall', 720, 1280)]
  crops, report = crop.choose_crops(infos, [[way(100, 200, 150)], [way(360, 500, 400), way(370, 500, 400)]], 256)
  assert [len(clips) for clips in crops] == [1, 2]
  assert crops[0][0].side / 150 == pytest.approx(crops[1][0].side / 400, rel=0.01)
  assert not report['face_leaves_crop'] and not report['follows_face']
  np.testing.assert_array_equal(crops[1][0].corners, crops[1][1].corners)
  for info, window in zip(infos, (crops[0][0], crops[1][0])):
    left, top = window.corners[0]
    assert (window.corners == (left, top)).all() and not left % 1 and not top % 1
    assert 0 <= left <= info.width - window.side and 0 <= top <= info.height - window.side


def test_a_square_follows_a_face_that_wanders_smoothly_and_within_the_picture(monkeypatch):
  times_s = np.round(np.arange(250) / 25 * 30) / 30  # a picture of 30 a second is up to 1/60 s off the grid
  monkeypatch.setattr(video, 'shown_times', lambda info: times_s)
  trembling = 8 * np.sin(2 * np.pi * times_s * 5)
  path = 960 + 700 * np.sin(2 * np.pi * times_s / 10)
  infos = [Info('walk', 1920, 1080), Info('still', 640, 360)]
  crops, report = crop.choose_crops(infos, [[way(path + trembling, 500 + trembling, 200, 250)], [way(320, 180, 100)]], 256)
  assert report['follows_face'] == ['walk'] and not report['face_leaves_crop']
  assert report['side_per_face'] == pytest.approx(crop.SIDE_PER_FACE), 'who wanders makes no face small'
  window, = crops[0]
  off = window.corners[:, 0] + (window.side - 1) / 2 - path
  assert np.abs(off).max() < 8 and np.abs(off[25:-25]).max() < 3 and np.ptp(window.corners[25:-25, 1]) < 4
  assert np.abs(np.diff(off[25:-25])).max() < 1, 'it stands where the face is when its picture is shown'
  assert (window.corners % 1 != 0).any() and (window.corners >= 0).all()
  assert (window.corners + window.side <= (1920, 1080)).all() and (window.squares[:, 2] == window.side).all()


def test_a_square_between_pixels_shows_what_lies_there():
  rows, columns = np.mgrid[:60, :80]
  picture = np.stack([2 * columns, 3 * rows, columns + rows], -1).astype(np.uint8)
  whole = crop.cut_out(picture, np.array([10, 20, 30], np.float32), 30)
  np.testing.assert_array_equal(whole, picture[20:50, 10:40])
  between = crop.cut_out(picture, np.array([10.5, 20.25, 30], np.float32), 30).astype(float)
  np.testing.assert_allclose(between - whole, np.broadcast_to([1, 0.75, 0.75], whole.shape), atol=0.6)
  assert crop.cut_out(picture, np.array([10.5, 20.25, 30], np.float32), 15).shape == (15, 15, 3)


def test_sound_is_cut_with_its_frames(tmp_path, monkeypatch):
  from speech2lip_jax.preprocess import audio, clips
  ramp = np.arange(100 * 640, dtype=np.float32) / 100_000
  monkeypatch.setattr(audio, 'read_sound', lambda info: ramp)
  chosen = [clips.PlannedClip('a', 'info', None, 3, 40, 0), clips.PlannedClip('b', 'info', None, 60, 90, 37)]
  plan = clips.Plan(chosen, np.zeros((67, 478, 3), np.float32), np.zeros(67, bool), {}, {}, [])
  (tmp_path / 'stages').mkdir()
  num_mels = clips.write_sound(tmp_path, plan)
  rate, sound = scipy.io.wavfile.read(tmp_path / 'audio.wav')
  assert rate == 16_000 and sound.dtype == np.int16 and len(sound) == 67 * schema.SAMPLES_PER_FRAME
  expected = np.concatenate([ramp[3 * 640:40 * 640], ramp[60 * 640:90 * 640]])
  np.testing.assert_allclose(sound / 32767, expected, atol=2e-5)
  assert num_mels == [37 * 640 // 200 + 1, 30 * 640 // 200 + 1]
  assert np.load(tmp_path / 'mel.npy').shape == (sum(num_mels), 80)


def test_a_damaged_or_foreign_stage_result_counts_as_not_done(tmp_path):
  path = tmp_path / 'a.npz'
  assert not stages.is_done(path, 'x')
  stages.save(path, 'x', values=np.arange(3))
  assert stages.is_done(path, 'x') and not stages.is_done(path, 'y')
  assert stages.load(path)['values'].tolist() == [0, 1, 2]
  path.write_bytes(path.read_bytes()[:40])
  assert not stages.is_done(path, 'x')
