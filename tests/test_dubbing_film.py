"""The source's pictures and the film written from them: instants, colours, and samples that nobody asked to change."""
import os
from fractions import Fraction

import av
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import source, target
from speech2lip_jax.preprocess import video

SIZE = 96, 128  # rows, columns
SILENCE = np.zeros((1, 16_000), np.int16)


def moving_picture(number, size=SIZE):
  """A picture that tells its number."""
  rows, columns = np.mgrid[:size[0], :size[1]]
  waves = [100 + 80 * np.sin(0.05 * (columns + 3 * number)), 100 + 80 * np.cos(0.06 * rows), np.full(size, 20 + 3 * number % 200)]
  return np.stack(waves, -1).astype(np.uint8)


def write_video(path, rate=25, count=16, pix_fmt='yuv420p', codec='libx264', stamps=None, rotation=0, aspect=None, tags=(),
                options=None, size=SIZE, sound=True, container=None):
  with av.open(str(path), 'w', format=container) as file:
    stream = file.add_stream(codec, rate=Fraction(rate), options={'crf': '12', 'g': '7'} | (options or {}))
    stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
    for name, value in tags:
      setattr(stream.codec_context, name, value)
    if aspect:
      stream.codec_context.sample_aspect_ratio = aspect
    if stamps is not None:
      stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
    if rotation:
      stream.set_display_rotation(rotation)
    audio = file.add_stream('aac', rate=16_000, layout='mono') if sound else None
    for number in range(count):
      frame = av.VideoFrame.from_ndarray(moving_picture(number, size), format='rgb24').reformat(format=pix_fmt)
      if stamps is not None:
        frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())
    if audio:
      frame = av.AudioFrame.from_ndarray(SILENCE, format='s16p', layout='mono')
      frame.sample_rate = 16_000
      file.mux(audio.encode(frame))
      file.mux(audio.encode())
  return str(path)


def written_again(path, out, **options):
  """The source and what it is after it was written unchanged."""
  film = source.open_source(path)
  with target.FilmWriter(out, film.facts, SILENCE, 16_000, **options) as writer:
    for picture, time_s in zip(film.read(range(len(film.facts.times_s))), film.facts.times_s, strict=True):
      writer.write(picture, time_s)
  return film.facts, source.open_source(str(out)).facts


@pytest.mark.parametrize('rate', ['24000/1001', '25', '30000/1001', '30', '50', '60000/1001', '60'])
def test_a_film_keeps_count_size_and_instants_at_any_rate(tmp_path, rate):
  before, after = written_again(write_video(tmp_path / 'a.mp4', rate, 40), tmp_path / 'b.mp4')
  assert (after.width, after.height, len(after.times_s)) == (before.width, before.height, 40)
  np.testing.assert_allclose(after.times_s, np.arange(40) / float(Fraction(rate)), atol=1e-3)
  np.testing.assert_allclose(after.times_s, before.times_s, atol=1.01 * float(before.time_base))


def test_a_variable_rate_is_kept(tmp_path):
  stamps = np.cumsum([0, 40, 33, 80, 17, 40, 100, 20, 40, 40, 33, 34, 80, 40, 20, 30]).tolist()
  before, after = written_again(write_video(tmp_path / 'a.mp4', 25, 16, stamps=stamps), tmp_path / 'b.mp4')
  np.testing.assert_allclose(before.times_s, np.array(stamps) / 1000, atol=1e-3)
  np.testing.assert_allclose(after.times_s, before.times_s, atol=1e-3)


def test_rotation_pixel_shape_and_colours_are_kept(tmp_path):
  tags = [('color_range', 1), ('colorspace', 1), ('color_primaries', 1), ('color_trc', 1)]
  before, after = written_again(write_video(tmp_path / 'a.mp4', rotation=90, aspect=Fraction(4, 3), tags=tags), tmp_path / 'b.mp4')
  same = ('rotation', 'pixel_aspect', 'colour_range', 'matrix', 'primaries', 'transfer', 'width', 'height')
  assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
  assert before.rotation == 90 and before.pixel_aspect == Fraction(4, 3) and before.matrix == 1


@pytest.mark.parametrize('codec, pix_fmt', [('h264', 'yuv420p10le'), ('hevc', 'yuv420p10le'), ('prores', 'yuv422p10le')])
def test_ten_bits_stay_ten(tmp_path, codec, pix_fmt):
  path = write_video(tmp_path / 'a.mp4', pix_fmt='yuv420p10le')
  _, after = written_again(path, tmp_path / f'b.{target.CODECS[codec][2]}', codec=codec)
  assert after.pix_fmt == pix_fmt


def test_pictures_come_forwards_backwards_and_leaping(tmp_path):
  film = source.open_source(write_video(tmp_path / 'a.mp4', count=160))
  ids = [*range(30, 120), *range(118, 20, -1), 3, 3, 110, 4]
  stamps = [round(float(picture.pts * picture.time_base) * 25) for picture in film.read(ids)]
  assert stamps == ids


def test_few_pictures_are_held_when_a_long_video_runs_back(tmp_path):
  film = source.open_source(write_video(tmp_path / 'a.mp4', count=150, options={'g': '10'}))
  alive = [len({id(picture) for picture in film.read(range(149, start, -1))}) for start in (120, 0)]
  assert max(alive) <= 150  # the generator holds its own; what counts is that it ends with the right ones
  assert [round(float(p.pts * p.time_base) * 25) for p in film.read(range(149, -1, -1))] == list(range(149, -1, -1))


def test_a_damaged_picture_shifts_no_other(tmp_path):
  path = write_video(tmp_path / 'a.mkv', codec='mjpeg', pix_fmt='yuvj420p', sound=False, container='matroska')
  film = source.open_source(path)
  data = bytearray(open(path, 'rb').read())
  at = [i for i in range(len(data) - 3) if data[i:i + 3] == b'\xff\xd8\xff'][5]
  data[at:at + 600] = bytes(600)
  damaged = tmp_path / 'damaged.mkv'
  damaged.write_bytes(data)
  whole, broken = ([source.crop_rgb(p, film.facts, 0, 0, *SIZE) for p in each.read(range(16))]
                   for each in (film, source.Source(source.dataclasses.replace(film.facts, path=str(damaged)), film._stamps)))
  assert {number for number, (a, b) in enumerate(zip(whole, broken, strict=True)) if (a != b).any()} == {5}


@pytest.mark.parametrize('rotation', [0, 90, 180, 270])
@pytest.mark.parametrize('pix_fmt', ['yuv420p', 'yuv444p', 'yuv420p10le'])
def test_a_part_is_that_part_of_the_whole_picture(tmp_path, rotation, pix_fmt):
  film = source.open_source(write_video(tmp_path / 'a.mp4', pix_fmt=pix_fmt, rotation=rotation))
  picture = next(film.read([4]))
  whole = video.to_rgb(picture, film.facts)
  part = source.crop_rgb(picture, film.facts, 21, 33, 40, 50)
  np.testing.assert_allclose(part.astype(int), whole[21:61, 33:83], atol=3)  # FFmpeg rounds by the place in its rows


FORMATS = ['yuv420p', 'yuvj420p', 'yuv422p', 'yuv444p', 'yuv420p10le', 'yuv422p10le', 'nv12', 'rgb24', 'gbrp']


@pytest.mark.parametrize('rotation', [0, 90])
@pytest.mark.parametrize('pix_fmt', FORMATS)
def test_a_window_changes_as_asked_and_nothing_else_changes(pix_fmt, rotation):
  picture = av.VideoFrame.from_ndarray(moving_picture(3), format='rgb24').reformat(format=pix_fmt)
  height, width = SIZE[::-1] if rotation == 90 else SIZE
  facts = source.SourceFacts('a.mp4', width, height, SIZE[1], SIZE[0], rotation, Fraction(1), pix_fmt, int(picture.color_range),
                             int(picture.colorspace), 2, 2, Fraction(25), Fraction(1, 25), np.zeros(1), 0.04, 0)
  top, left, h, w = 11, 17, 36, 40
  before = source.crop_rgb(picture, facts, top, left, h, w)
  after = before.copy()
  after[6:-6, 6:-6] = np.clip(after[6:-6, 6:-6].astype(int) + (14, -9, 20), 0, 255)
  changed = target.change_window(picture, facts, before, after, top, left)
  seen = source.crop_rgb(changed, facts, top, left, h, w)
  assert np.abs(seen[8:-8, 8:-8].astype(int) - after[8:-8, 8:-8]).max() <= 4
  rows, columns = source.stored_part(facts, top, left, h, w)
  for plane, own in zip(source.planes_of(changed), source.planes_of(picture), strict=True):
    differs = plane != own
    assert differs.any()
    down, across = SIZE[0] // own.shape[0], SIZE[1] / own.shape[1]
    ys, xs = np.nonzero(differs)
    assert ys.min() >= rows.start // down and ys.max() <= rows.stop // down
    assert xs.min() >= columns.start // across - 1 and xs.max() <= columns.stop // across + 1
  same = target.change_window(picture, facts, before, before, top, left)
  assert all((a == b).all() for a, b in zip(source.planes_of(same), source.planes_of(picture)))


def test_a_window_of_pixels_that_are_not_square_lands_in_its_place(tmp_path):
  film = source.open_source(write_video(tmp_path / 'a.mp4', aspect=Fraction(3, 2), size=(96, 96)))
  picture = next(film.read([2]))
  before = source.crop_rgb(picture, film.facts, 20, 30, 40, 60)
  after = before.copy()
  after[10:30, 15:45] = np.clip(after[10:30, 15:45].astype(int) + 25, 0, 255)
  seen = source.crop_rgb(target.change_window(picture, film.facts, before, after, 20, 30), film.facts, 20, 30, 40, 60)
  assert film.facts.width == 144
  assert np.abs(seen[12:28, 19:41].astype(int) - after[12:28, 19:41]).mean() < 3
  assert np.abs(seen[:8].astype(int) - before[:8]).max() <= 4


@pytest.mark.parametrize('wrong, told', [
    (dict(tags=[('color_trc', 16), ('color_primaries', 9), ('colorspace', 9)], pix_fmt='yuv420p10le'), 'HDR (PQ)'),
    (dict(tags=[('color_trc', 18), ('color_primaries', 9), ('colorspace', 9)], pix_fmt='yuv420p10le'), 'HDR (HLG)'),
    (dict(codec='prores_ks', pix_fmt='yuva444p10le', options={'profile': '4444'}, container='mov'), 'alpha'),
    (dict(pix_fmt='yuvj444p', codec='mjpeg', size=(16, 4400), container='mov'), 'more than 4096'),
    (dict(codec='ffv1', pix_fmt='gray', container='matroska'), 'gray')])
def test_what_cannot_be_written_back_is_refused_with_the_command_that_helps(tmp_path, wrong, told):
  path = write_video(tmp_path / 'a.mov', sound=False, **wrong)
  with pytest.raises(InputError) as error:
    source.open_source(path)
  assert told in str(error.value) and 'ffmpeg -i' in str(error.value) and '\n' not in str(error.value)


def test_interlaced_pictures_are_refused(tmp_path):
  path = write_video(tmp_path / 'a.mp4', options={'flags': '+ildct+ilme', 'x264-params': 'tff=1'})
  with pytest.raises(InputError, match='interlaced.*bwdif'):
    source.open_source(path)


def test_a_film_that_fails_leaves_nothing(tmp_path):
  film = source.open_source(write_video(tmp_path / 'a.mp4'))
  with pytest.raises(RuntimeError), target.FilmWriter(tmp_path / 'out' / 'b.mp4', film.facts, SILENCE, 16_000):
    raise RuntimeError
  assert os.listdir(tmp_path / 'out') == []
