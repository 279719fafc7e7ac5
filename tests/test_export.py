"""What other programs take: the mouth as a layer, pictures as files, lips, and the track."""
import json

import av
import cv2
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.dubbing import job, layer, target
from speech2lip_jax.dubbing.source import open_source
from speech2lip_jax.preprocess.video import to_rgb
from tests.test_dubbing_film import SILENCE, write_video
from tests.toy_run import write_toy_run

BOX = 30, 40, 20, 36  # top, left, height, width


def read_png(path):
  return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def test_a_layer_weighs_all_of_its_window_and_falls_to_nothing_around_it():
  weight = layer.window_weight(BOX, 96, 128)
  assert (weight[30:50, 40:76] == 1).all() and weight.max() == 1
  assert weight[30, 39] > 0.8 and weight[30, 35] == 0 and weight[25, 50] == 0 and 0 < weight[29, 60] < 1
  outside = layer.window_weight((-10, -10, 30, 30), 96, 128)
  assert outside[0, 0] == 1 and outside[60, 60] == 0


def written(path, film, codec):
  """The film with its window lighter, half of it in the layer; the alpha."""
  alpha = np.rint(127 * layer.window_weight(BOX, film.facts.height, film.facts.width)).astype(np.uint8)
  changed = []
  with target.open_writer(path, film.facts, SILENCE, 16_000, 17, codec, None, True) as writer:
    for picture, time_s in zip(film.read(range(4)), film.facts.times_s):
      top, left, height, width = BOX
      before = to_rgb(picture, film.facts)[top:top + height, left:left + width]
      after = target.change_window(picture, film.facts, before, (before // 2 + 60).astype(np.uint8), top, left)
      writer.write(after, time_s, alpha)
      changed.append(after)
  return changed, alpha


@pytest.mark.parametrize('rotation', [0, 90])
def test_prores_holds_the_alpha_that_it_was_given(tmp_path, rotation):
  film = open_source(write_video(tmp_path / 'a.mp4', rotation=rotation, size=(96, 128)))
  changed, alpha = written(tmp_path / 'layer.mov', film, 'prores')
  with av.open(str(tmp_path / 'layer.mov')) as container:
    stream = container.streams.video[0]
    frames = list(container.decode(stream))
  assert len(frames) == 4 and {frame.format.name for frame in frames} <= {'yuva444p10le', 'yuva444p12le'}
  upright = np.rot90(alpha, -(rotation // 90))
  for frame, picture in zip(frames, changed):
    frame = frame.reformat(format='yuva444p10le')
    plane = frame.planes[3]
    samples = np.frombuffer(memoryview(plane), '<u2').reshape(-1, plane.line_size // 2)[:, :plane.width]
    np.testing.assert_array_equal(samples >> 2, upright)
    off = np.abs(frame.to_ndarray(format='rgb24').astype(int) - picture.to_ndarray(format='rgb24'))
    assert off.mean() < 2.5


def test_a_folder_of_pictures_holds_them_with_their_alpha_and_sound(tmp_path):
  film = open_source(write_video(tmp_path / 'a.mp4'))
  changed, alpha = written(tmp_path / 'layer', film, 'png')
  record = json.loads((tmp_path / 'layer' / layer.RECORD).read_text())
  assert record['alpha'] == 'straight' and record['rate'] == '25' and record['times_s'] == pytest.approx([0, 0.04, 0.08, 0.12])
  assert wavfile.read(tmp_path / 'layer' / 'sound.wav')[1].shape[0] == SILENCE.shape[1]
  files = sorted((tmp_path / 'layer').glob('*.png'))
  assert [file.name for file in files] == [f'{number:06d}.png' for number in range(4)]
  for file, picture in zip(files, changed):
    pixels = read_png(file)
    np.testing.assert_array_equal(pixels[..., 3], alpha)
    np.testing.assert_array_equal(pixels[..., :3], to_rgb(picture, film.facts))


def test_pictures_that_could_not_all_be_written_leave_what_was_there(tmp_path):
  film = open_source(write_video(tmp_path / 'a.mp4'))
  written(tmp_path / 'layer', film, 'png')
  with pytest.raises(KeyboardInterrupt):
    with layer.PictureFolder(tmp_path / 'layer', film.facts, SILENCE, 16_000) as writer:
      writer.write(next(film.read([0])), 0.0)
      raise KeyboardInterrupt
  assert len(list((tmp_path / 'layer').glob('*.png'))) == 4
  assert sorted(path.name for path in tmp_path.iterdir()) == ['a.mp4', 'layer']


def test_what_a_layer_cannot_be_is_told_before_any_work(tmp_path):
  video = write_video(tmp_path / 'a.mp4')
  wavfile.write(tmp_path / 'a.wav', 16_000, SILENCE[0])
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'mine.txt').write_text('x')
  label = job.DISCLOSED._replace(label='eu')
  for out, options, told in (('b.mp4', job.Options(alpha=True), '--alpha: h264 has none'),
                             ('b.mp4', job.Options(codec='png'), 'writes a folder of pictures'),
                             ('full', job.Options(codec='png'), 'holds other files'),
                             ('layer', job.Options(codec='png', alpha=True, disclosure=label), 'words belong into')):
    with pytest.raises(InputError, match=told):
      list(job.dub(video, job.listen([str(tmp_path / 'a.wav')], str(tmp_path / out), options.codec), None, options))


# ---- the verb

@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return write_toy_run(tmp_path_factory.mktemp('export'))


def run_export(*flags):
  with pytest.raises(SystemExit) as ended:
    cli.run_verb('export', cli.load_verb('export'), ['speech2lip export', *map(str, flags)])
  return ended.value.code


def test_the_track_and_the_lips_are_those_of_the_person(workdir, tmp_path):
  sound = workdir.parent / 'speech.wav'
  wavfile.write(sound, 16_000, np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16))
  (tmp_path / 'lips').mkdir()
  (tmp_path / 'lips' / '000099.png').write_bytes(b'')
  assert not run_export(f'--workdir={workdir}', f'--audio={sound}', f'--out={tmp_path}')
  subject = load_subject(workdir.parent / 'toy')
  track = json.loads((tmp_path / 'track.json').read_text())
  assert track['fps'] == schema.FPS and len(track['frames']) == subject.meta.num_frames
  assert [clip['first_frame'] for clip in track['clips']] == [0, 40]
  np.testing.assert_allclose(track['frames'][7]['view_from_head'], subject.observed_from_head[7], atol=1e-6)
  np.testing.assert_allclose(track['frames'][7]['landmarks'], subject.landmarks[7], atol=0.01)
  files, box = sorted((tmp_path / 'lips').iterdir()), subject.meta.lip_box
  assert len(files) == 12
  pixels = read_png(files[3])
  assert pixels.shape == (box.height, box.width, 4)
  assert pixels[box.height // 2, box.width // 2, 3] == 255 and pixels[0, 0, 3] < 60
