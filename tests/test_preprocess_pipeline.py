"""The whole way from files to a subject folder, its errors, and what an interruption or a repetition does."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from tests import shared

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments, cwd=None, **environment):
  """The command line in a process of its own; (exit status, stdout, stderr)."""
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax.preprocess', *map(str, arguments)], cwd=cwd, text=True,
                        capture_output=True, env=os.environ | {'PYTHONPATH': str(ROOT)} | environment)
  return done.returncode, done.stdout, done.stderr


def one_line(stderr):
  """The message of a user's mistake: one line, no traceback."""
  lines = [line for line in stderr.splitlines() if line.strip()]
  assert len(lines) == 1, stderr
  return lines[0]


@pytest.fixture
def landmark_model():
  return shared.landmark_model()


def plain_video(path, num_frames=30):
  """Grey pictures without a face, with sound."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=25)
    stream.width, stream.height, stream.pix_fmt = 128, 96, 'yuv420p'
    track = container.add_stream('aac', rate=16_000, layout='mono')
    for number in range(num_frames):
      container.mux(
          stream.encode(av.VideoFrame.from_ndarray(np.full((96, 128, 3), 90 + number, np.uint8), format='rgb24')))
    container.mux(stream.encode(None))
    sound = av.AudioFrame.from_ndarray(np.zeros((1, num_frames * 640), np.float32), format='fltp', layout='mono')
    sound.sample_rate = 16_000
    container.mux(track.encode(sound))
    container.mux(track.encode(None))
  return path


@pytest.mark.parametrize('arguments, message', [
    (['--out', 'o'], '--video is missing'),
    (['--video', 'none.mp4', '--out', 'o'], 'none.mp4: no such file'),
    (['--video', 'a*.mov', '--out', 'o'], 'no file matches'),
    (['--video', 'plain.mp4', '--out', 'o', '--size', '30'], 'at least 64'),
    (['--video', 'plain.mp4', '--out', 'o', '--size', '130'], 'multiple of 4'),
    (['--video', 'plain.mp4', '--out', 'o', '--canonical_scale', '4'], '--canonical_scale 4.0: must be 0, or 1'),
    (['--video', 'plain.mp4', '--out', 'full'], 'holds other files'),
    (['--video', 'plain.mp4', '--out', 'o', '--landmarker', 'plain.mp4'], 'not a MediaPipe Face Landmarker'),
    (['--video', 'plain.mp4', '--out', 'o', '--landmarker', 'gone.task'], 'gone.task: no such file'),
    (['--video', 'plain.mp4', 'b.mp4', '--out', 'o'], "unexpected argument 'b.mp4'"),
])
def test_mistakes_are_answered_at_once_in_one_line(tmp_path, arguments, message):
  plain_video(tmp_path / 'plain.mp4')
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'letter.txt').write_text('mine')
  started = time.monotonic()
  status, _, stderr = run(*arguments, cwd=tmp_path)
  assert status == 2 and message in one_line(stderr)
  assert time.monotonic() - started < 5
  assert not (tmp_path / 'o').exists()


def test_without_a_network_the_missing_model_is_explained(tmp_path):
  video = plain_video(tmp_path / 'plain.mp4')
  status, _, stderr = run('--video',
                          video,
                          '--out',
                          tmp_path / 'o',
                          XDG_CACHE_HOME=str(tmp_path),
                          SPEECH2LIP_LANDMARKER='',
                          https_proxy='http://127.0.0.1:9',
                          HTTPS_PROXY='http://127.0.0.1:9',
                          no_proxy='',
                          NO_PROXY='')
  line = one_line(stderr)
  assert status == 2
  assert all(part in line for part in ('storage.googleapis.com', str(tmp_path / 'speech2lip'), '--landmarker'))


def test_a_video_without_a_face_is_named(tmp_path, landmark_model):
  video = plain_video(tmp_path / 'plain.mp4')
  status, _, stderr = run('--video', video, '--out', tmp_path / 'o', '--landmarker', landmark_model)
  assert status == 2 and 'plain.mp4: no face' in one_line(stderr)


def test_two_clips_become_a_subject_and_a_repetition_does_nothing(tmp_path, landmark_model):
  from speech2lip_jax.data import schema
  from speech2lip_jax.preprocess import projection
  recordings = sorted(shared.path('clips/grid_s1').glob('*.mpg'))[:2]
  videos = [shutil.copy(path, tmp_path) for path in recordings]
  arguments = ['--video', ','.join(videos), '--out', tmp_path / 'o', '--size', '128', '--landmarker', landmark_model]
  status, stdout, stderr = run(*arguments)
  assert status == 0, stderr
  meta = schema.validate(tmp_path / 'o')
  arrays = {name: schema.load_array(tmp_path / 'o', name, meta) for name in schema.ARRAYS}
  assert [clip.num_frames for clip in meta.clips] == [75, 75] and [clip.name for clip in meta.clips
                                                                  ] == [path.stem for path in recordings]
  assert [clip.num_mel for clip in meta.clips] == [75 * 640 // 200 + 1] * 2
  assert meta.report['tracking']['reprojection_median_px'] < 0.3
  assert str(
      tmp_path / 'o' / 'contact_sheet.png') in stdout and (tmp_path / 'o' / 'contact_sheet.png').stat().st_size > 50_000
  face, head = arrays['mask_face_canonical'], arrays['mask_head_canonical']
  assert 0.1 < face.mean() < head.mean() < 0.6 and arrays['depth_canonical'].min() > 0
  # The canonical frame's own lips are its own pixels; every frame's lips are where its landmarks say.
  box, chosen = meta.lip_box, meta.canonical_frame
  own = arrays['frames'][chosen][box.top:box.top + box.height, box.left:box.left + box.width].astype(int)
  assert np.abs(own - arrays['rgb_lip_canonical'][chosen]).max() <= 1
  poses = arrays['observed_from_head'].astype(np.float64)
  seen = arrays['landmarks'][:, [61, 291, 0, 17]]
  back = projection.canonical_coords(seen, arrays['depth_canonical'], poses @ np.linalg.inv(poses[chosen]), meta.focal_px)
  assert (back >= (box.left, box.top)).all() and (back <= (box.left + box.width, box.top + box.height)).all()
  assert back[:, :2].std(axis=0).max() < 1.5  # corners of the mouth stay in place

  written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'o').iterdir() if path.is_file()}
  status, stdout, _ = run(*arguments)
  assert status == 0 and 'nothing to do' in stdout
  assert written == {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'o').iterdir() if path.is_file()}

  # Another size: the landmarks are kept, the rest is made again, here with a finer canonical image.
  status, stdout, stderr = run(*[argument if argument != '128' else '96' for argument in arguments], '--canonical_scale', '1.5')
  assert status == 0 and 'landmarks:' not in stderr
  finer = schema.validate(tmp_path / 'o')
  assert finer.width == 96 and finer.canonical_size == (144, 144)
  assert abs(finer.lip_box.width / meta.lip_box.width - 144 / 128) < 0.08
