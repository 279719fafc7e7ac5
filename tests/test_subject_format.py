"""The subject folder's format: where frames come from, what size they choose, lips read from the video, folders of format 1."""
import concurrent.futures
import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

from speech2lip_jax.common import files
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.gamem.subject import subject_geometry
from speech2lip_jax.ops import sampling
from speech2lip_jax.preprocess import clips, contact, crop, follow, parallel, photometric, pipeline, projection, video
from tests.test_preprocess_tracks import head_track, save
from tests.test_preprocess_video import silence, write_video
from tests.toy_subject import write_toy_subject

SIZE, NUM_PICTURES, RATE = 192, 40, 30
EDGE = 48, 16  # pixels of the picture right of and below the square head


@pytest.fixture(scope='module')
def preprocess(tmp_path_factory):
  """preprocess of a head inside a wider picture at 30 a second, by its tracks, without the parts that only take time."""
  folder = tmp_path_factory.mktemp('source')
  points, images = head_track(NUM_PICTURES, SIZE)
  images = [np.pad(image, ((0, EDGE[1]), (0, EDGE[0]), (0, 0)), 'edge') for image in images]
  path = write_video(folder / 'a.mp4', np.arange(NUM_PICTURES) / RATE, images=images, sound=silence(NUM_PICTURES / RATE) + 0.01)
  tracks = save(folder / 'a.npz', points)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(parallel, 'make_pool', lambda: concurrent.futures.ThreadPoolExecutor(1))
    patch.setattr(follow, 'refit', lambda *arguments: None)
    patch.setattr(photometric, 'refine', lambda track, *arguments: track)
    patch.setattr(contact, 'write', lambda out, meta: files.write_text(out / 'contact_sheet.png', ''))
    yield lambda out, size=None, scale=1.0: pipeline.preprocess([path], out, size, tracks=[tracks], canonical_scale=scale)


@pytest.fixture(scope='module')
def chosen(preprocess, tmp_path_factory):
  """The subject of a run that chooses size and scale."""
  out = tmp_path_factory.mktemp('chosen') / 'o'
  preprocess(out, None, 0)
  return load_subject(out)


@pytest.fixture(scope='module')
def half(preprocess, tmp_path_factory):
  """The subject at half the square's size, its lips as fine as the video's."""
  out = tmp_path_factory.mktemp('half') / 'o'
  preprocess(out, 96, 2.0)
  return load_subject(out)


def test_frames_are_their_squares_of_their_source_pictures(half):
  origin = half.origin()
  source, = origin.sources
  assert (source.width, source.height, source.rotation, source.pixel_aspect) == (SIZE + EDGE[0], SIZE + EDGE[1], 0, 1.0)
  assert source.fps == pytest.approx(RATE, abs=0.2)  # a mean, as the file tells
  assert source.pix_fmt == 'yuv420p' and half.meta.clips[0].source_index == 0 and half.meta.clips[0].source == source.path
  times = np.arange(NUM_PICTURES) / RATE
  nearest = [int(np.abs(times - n / 25).round(7).argmin()) for n in range(half.meta.num_frames)]
  assert origin.source_picture.tolist() == nearest
  np.testing.assert_allclose(origin.source_time, times[nearest], atol=1e-4)
  pictures = list(video.read_pictures(video.probe(source.path)))
  for n in (0, 7, half.meta.num_frames - 1):
    left, top, side = origin.crop[n].astype(int)
    square = pictures[origin.source_picture[n]][top:top + side, left:left + side]
    np.testing.assert_array_equal(cv2.resize(square, (96, 96), interpolation=cv2.INTER_AREA), half.frames[n])
  pose = half.observed_from_head[5].astype(np.float64)
  seen = origin.points_head @ pose[:3, :3].T + pose[:3, 3]
  pixels = seen[:, :2] / seen[:, 2:] * half.meta.focal_px + (96 - 1) / 2
  assert np.median(np.linalg.norm(pixels - half.landmarks[5, :468], axis=1)) < 1.0


def test_size_and_scale_are_chosen_from_the_face_and_found_again(preprocess, chosen, capsys):
  side = int(chosen.crop[0, 2])
  assert chosen.meta.width == side // 4 * 4 and 96 < side <= SIZE
  assert chosen.meta.canonical_size[0] == side // 2 * 2
  for asked in ((None, 0), (chosen.meta.width, chosen.meta.canonical_scale), (chosen.meta.width, 0)):
    preprocess(chosen.folder, *asked)
    assert 'nothing to do' in capsys.readouterr().out


def test_a_folder_of_a_given_size_is_made_anew_when_the_size_is_left_to_the_face(preprocess, chosen, tmp_path, capsys):
  side = int(chosen.crop[0, 2])
  preprocess(tmp_path / 'o', 64)
  assert 'face square' not in capsys.readouterr().out
  assert preprocess(tmp_path / 'o').width == side // 4 * 4
  assert f'face square is {side} px of the source: --size {side // 4 * 4}\n' in capsys.readouterr().out


@pytest.mark.parametrize('side, size, scale', [(290, 288, 290 / 288), (1080, 500, 2.16), (70, 96, 1.0), (2001, 500, 3.0)])
def test_the_chosen_size_and_scale_stay_within_their_limits(side, size, scale):
  assert crop.choose_size(side) == size and crop.choose_scale(side, size) == pytest.approx(scale)
  assert crop.choose_scale(side, size) * size % 2 == pytest.approx(0)


def test_lips_larger_than_frames_show_what_the_video_shows(half):
  from_frames, from_video = [], []
  box, meta = half.meta.lip_box, half.meta
  for n in range(0, meta.num_frames, 6):
    from_frames.append(projection.read_lips(half.frames[n], box, half.depth_canonical, half.observed_from_canonical[n],
                                            meta.focal_px, meta.canonical_scale))
    from_video.append(half.rgb_lip_canonical[n])
  from_frames, from_video = np.array(from_frames, float), np.array(from_video, float)
  roughness = lambda images: np.abs(np.diff(images, 2, axis=1)).mean()
  assert roughness(from_video) > 1.2 * roughness(from_frames)
  off = {(y, x): np.abs(np.roll(from_video, (y, x), (1, 2)) - from_frames)[:, 2:-2, 2:-2].mean()
         for y in (-1, 0, 1) for x in (-1, 0, 1)}
  assert 1.5 * off.pop((0, 0)) < min(off.values())  # the same lips in the same place
  assert off[0, -1] == pytest.approx(off[0, 1], rel=0.1) and off[-1, 0] == pytest.approx(off[1, 0], rel=0.1)


def test_lips_finer_than_a_frame_are_coarsened_where_it_reads_them(half, model_config):
  side = float(half.crop[0, 2])
  fine = subject_geometry(half, model_config)
  assert fine.lip_pixel == pytest.approx(max(1.0, 192 / side)) and fine.lip_blur == pytest.approx((4 - fine.lip_pixel**2) / 24)
  assert fine._replace(canonical_scale=192 / side).lip_blur == 0  # in the source's own picture
  assert subject_geometry(dataclasses.replace(half, crop=None), model_config).lip_blur == 0  # read from the frames, as format 1 did
  stripes = np.tile(np.arange(8) % 2, (1, 8, 1)).astype(np.float32)[..., None]
  np.testing.assert_allclose(np.ptp(sampling.blur(stripes, 0.25)[:, :, 1:-1]), 0, atol=1e-6)


@pytest.fixture
def model_config():
  from configs import default
  return default.get_config()


def test_pictures_are_numbered_without_decoding_and_by_decoding_where_packets_mislead(tmp_path, monkeypatch):
  info = video.probe(write_video(tmp_path / 'a.mkv', np.arange(90) / 30, sound=silence(3.0)))
  reading = [list(video.read_shown(info, start, stop)) for start, stop in ((0, 10), (40, 60))]
  parts = [(np.array([shown.time_s for shown in part]), np.array([shown.order for shown in part])) for part in reading]
  true = video.source_pictures(info)[0]
  expected = [true[0:10].tolist(), true[40:60].tolist()]
  packets = video._packet_times
  with monkeypatch.context() as patch:
    patch.setattr(video, '_picture_times', lambda info: pytest.fail('decoded'))
    assert [numbers.tolist() for numbers in video.picture_numbers(info, parts)] == expected
  monkeypatch.setattr(video, '_packet_times', lambda info: np.sort(np.append(packets(info), [0.05, 1.75])))
  assert [numbers.tolist() for numbers in video.picture_numbers(info, parts)] == expected


def test_lips_of_a_stopped_run_are_gone_on_with(preprocess, half, tmp_path, monkeypatch):
  monkeypatch.setattr(clips, 'PART_FRAMES', 10)
  write, done = clips.write_lips, []

  def stop(part, *arguments):
    if len(done) == 2:
      raise KeyboardInterrupt
    done.append(part.first_frame)
    return write(part, *arguments)

  monkeypatch.setattr(clips, 'write_lips', stop)
  with pytest.raises(KeyboardInterrupt):
    preprocess(tmp_path / 'o', 96, 2.0)
  assert done == [0, 10]
  monkeypatch.setattr(clips, 'write_lips', lambda part, *arguments: done.append(part.first_frame) or write(part, *arguments))
  preprocess(tmp_path / 'o', 96, 2.0)
  assert sorted(done) == list(range(0, half.meta.num_frames, 10))
  np.testing.assert_array_equal(load_subject(tmp_path / 'o').rgb_lip_canonical, half.rgb_lip_canonical)


def test_a_folder_of_format_1_opens_and_says_what_it_lacks(tmp_path):
  subject = load_subject(write_toy_subject(tmp_path / 's', size=32, clip_frames=(6,)))
  assert subject.meta.format_version == 1 and subject.meta.sources is None and subject.meta.clips[0].source_index is None
  assert [subject.crop, subject.source_picture, subject.source_time, subject.points_head] == [None] * 4
  with pytest.raises(InputError, match='run speech2lip preprocess again') as caught:
    subject.origin()
  assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)
  path = tmp_path / 's' / 'meta.json'
  record = json.loads(path.read_text())
  for name in ('sources', 'canonical_scale', 'files', 'checksum'):  # as folders of before have it
    del record[name]
  for clip in record['clips']:
    del clip['source_index']
  path.write_text(json.dumps(record))
  assert load_subject(tmp_path / 's').meta == dataclasses.replace(subject.meta, files=None)
  path.write_text(json.dumps(record | {'format_version': 3}))
  with pytest.raises(InputError, match='format version 3, this program reads 1 and 2'):
    schema.read_meta(tmp_path / 's')


def test_a_folder_of_format_2_without_one_of_its_arrays_is_refused(preprocess, tmp_path):
  preprocess(tmp_path / 'o', 64)
  (tmp_path / 'o' / 'source_time.npy').unlink()
  with pytest.raises(InputError, match=r'source_time\.npy: missing'):
    schema.validate(tmp_path / 'o')


@pytest.mark.parametrize('name', ['meta.json', 'mel.npy', 'frames.npy', 'audio.wav'])
@pytest.mark.parametrize('kind', ['flipped', 'missing', 'a folder'])
def test_a_damaged_subject_is_whole_again_after_the_same_command_as_its_message_says(preprocess, half, tmp_path, name, kind):
  if (name, kind) == ('meta.json', 'a folder'):
    return  # then it is no subject folder
  out = shutil.copytree(half.folder, tmp_path / 'o')
  raw = bytearray((out / name).read_bytes())
  (out / name).unlink()
  if kind == 'flipped':
    raw[len(raw) // 2] ^= 1
    (out / name).write_bytes(raw)
  elif kind == 'a folder':
    (out / name).mkdir()
  with pytest.raises(InputError, match='again|not a finished subject'):
    schema.validate(out)
  preprocess(out, 96, 2.0)
  assert schema.identity(schema.validate(out)) == schema.identity(half.meta)
