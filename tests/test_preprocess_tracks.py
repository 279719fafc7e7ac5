"""Landmarks from a file in place of the detector: what is taken from it, and what is refused."""
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.preprocess import landmarks, pipeline, stages, tracks, video
from tests.test_preprocess_video import silence, write_video


def faces(num_pictures):
  """[num_pictures, 478, 3]: a row tells its number by the x of its first point."""
  points = np.random.default_rng(0).uniform(5, 45, (num_pictures, 478, 3)).astype(np.float32)
  points[:, 0, 0] = np.arange(num_pictures)
  return points


def save(path, points):
  np.savez(path, landmarks=points)
  return str(path)


def test_each_frame_takes_the_row_of_the_picture_it_shows(tmp_path):
  info = video.probe(write_video(tmp_path / 'a.mp4', np.arange(60) / 30, sound=silence(2.0)))
  points = faces(60)
  points[12, 5] = np.nan  # one spoilt point is a spoilt row
  path = save(tmp_path / 'a.npz', points)
  [rows] = tracks.grid_pictures([path], [info])
  segment = landmarks.Segment(info, 10, 40, tmp_path / 'part.npz', 'mark')
  assert tracks.copy_segment(segment, path, rows[10:40]) == 30
  stored = stages.load(segment.path)
  has_face = rows[10:40] != 12
  assert np.isfinite(stored['landmarks']).all(axis=(1, 2)).tolist() == has_face.tolist()
  np.testing.assert_array_equal(stored['landmarks'][has_face], points[rows[10:40][has_face]])
  assert stored['thumbnails'].shape == (30, 32, 32) and stored['thumbnails'].any()


@pytest.mark.parametrize('points, message', [
    (faces(19), '19 rows, but .*a.mp4 has 20 pictures'),
    (faces(20)[:, :468], r'\[20, 468, 3\]'),
    (faces(20).astype(int), 'int64'),
    (faces(20) * np.nan, 'none of its 20 rows'),
    (faces(20) / 500 + np.arange(20)[:, None, None], 'fractions'),
])
def test_tracks_that_do_not_fit_are_refused_in_one_line(tmp_path, points, message):
  path = write_video(tmp_path / 'a.mp4', np.arange(20) / 25, sound=silence(0.8))
  with pytest.raises(InputError, match=message) as caught:
    pipeline.preprocess([path], tmp_path / 'o', 64, tracks=[save(tmp_path / 'a.npz', points)])
  assert 'a.npz' in str(caught.value) and '\n' not in str(caught.value)
  assert not (tmp_path / 'o').exists()


def test_a_missing_a_foreign_and_a_surplus_tracks_file_are_named(tmp_path):
  path = write_video(tmp_path / 'a.mp4', np.arange(20) / 25, sound=silence(0.8))
  good = save(tmp_path / 'a.npz', faces(20))
  other = save(tmp_path / 'b.npz', faces(20))
  np.savez(tmp_path / 'c.npz', points=faces(20))
  for given, message in (([str(tmp_path / 'gone.npz')], 'gone.npz: no such file'), ([path], 'no .npz file'),
                         ([str(tmp_path / 'c.npz')], 'no .npz file'), ([good, other], '2 files for 1 videos')):
    with pytest.raises(InputError, match=message):
      pipeline.preprocess([path], tmp_path / 'o', 64, tracks=given)


def head_track(num_pictures, subject_size=96):
  """Landmarks [num_pictures, 478, 3] and pictures of a rendered head."""
  from speech2lip_jax.synthetic.subject import SyntheticSubject
  subject = SyntheticSubject(size=subject_size, num_frames=num_pictures, seed=2, motion='nodding')
  return (np.stack([subject.landmarks(n) for n in range(num_pictures)]).astype(np.float32),
          [subject.render(n).rgb for n in range(num_pictures)])


def test_one_second_black_stretches_and_a_lost_face_become_clips_without_a_model(tmp_path, capsys):
  from speech2lip_jax.data import schema
  points, images = head_track(75)
  black = np.r_[26:40]
  points[black], points[60:63] = np.nan, np.nan  # a black stretch, and a face lost for three frames
  images = [image * (number not in black) for number, image in enumerate(images)]
  path = write_video(tmp_path / 'a.mp4', np.arange(75) / 25, images=images, sound=silence(3.0) + 0.01)
  tracks_path = save(tmp_path / 'a.npz', points)
  meta = pipeline.preprocess([path], tmp_path / 'o', 96, tracks=[tracks_path])
  assert [(clip.num_frames, clip.start) for clip in meta.clips] == [(26, 0), (35, 26)]
  assert meta.report['num_interpolated'] == 3 and meta.report['quality']['lost_share'] == pytest.approx(1 - 58 / 75)
  assert any('no usable face' in line for line in meta.report['warnings'])
  shown = capsys.readouterr().out
  assert 'warning: only 2.4 s are usable' in shown and 'a: no face 1.04' in shown
  schema.validate(tmp_path / 'o')
  pipeline.preprocess([path], tmp_path / 'o', 96, tracks=[tracks_path])
  assert 'nothing to do' in capsys.readouterr().out
