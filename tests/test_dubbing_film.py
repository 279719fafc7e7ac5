"""The source's pictures and the film written from them: instants, colours, and samples that nobody asked to change."""
import gc
import os
import shlex
from fractions import Fraction

import av
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import source, target
from speech2lip_jax.preprocess import video

SIZE = 96, 128  # rows, columns
SILENCE = np.zeros((1, 16_000), np.int16)
OPEN = {'x264-params': 'open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0', 'g': '12'}


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
  """The source and what it is after it was written unchanged, or with a window that was changed by nothing."""
  film = source.open_source(path)
  with target.FilmWriter(out, film.facts, SILENCE, 16_000, **options) as writer:
    for picture, time_s in zip(film.read(range(len(film.facts.times_s))), film.facts.times_s, strict=True):
      window = source.crop_rgb(picture, film.facts, 8, 10, 20, 20)
      writer.write(picture if time_s < 0.2 else target.change_window(picture, film.facts, window, window, 8, 10), time_s)
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


@pytest.mark.parametrize('codec', target.CODECS)
@pytest.mark.parametrize('rotation', [90, 180, 270])
def test_rotation_pixel_shape_and_colours_are_kept(tmp_path, rotation, codec):
  tags = [('color_range', 1), ('colorspace', 1), ('color_primaries', 1), ('color_trc', 1)]
  path, out = write_video(tmp_path / 'a.mp4', rotation=rotation, aspect=Fraction(4, 3), tags=tags), tmp_path / 'b.mp4'
  before, after = written_again(path, out, codec=codec)
  same = ('rotation', 'pixel_aspect', 'colour_range', 'matrix', 'primaries', 'transfer', 'width', 'height')
  assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
  shown = [(int(picture.color_primaries), int(picture.color_trc)) for picture in source.open_source(str(out)).read([0, 15])]
  assert shown == [(1, 1), (1, 1)]
  assert before.rotation == rotation and before.pixel_aspect == Fraction(4, 3) and before.matrix == 1


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


@pytest.mark.parametrize('ids', [range(100), [40, 41, 42, 5, 6, 70, 3], range(99, -1, -1)])
def test_an_mpeg_program_stream_is_read_from_its_true_beginning(tmp_path, ids):
  path = write_video(tmp_path / 'a.mpg', codec='mpeg1video', count=100, sound=False, options={'g': '12', 'bf': '2', 'b': '2000000'})
  with video.open_container(path) as container:
    whole = [planes[0].copy() for planes in map(source.planes_of, video.decode(container, video.video_stream(container, path)))]
  read = [source.planes_of(picture)[0] for picture in source.open_source(path).read(ids)]
  assert len(whole) == 100 and all((picture == whole[i]).all() for i, picture in zip(ids, read, strict=True))


@pytest.mark.slow
def test_few_pictures_are_held_and_decoded_where_a_long_video_runs_back(tmp_path, monkeypatch):
  film = source.open_source(write_video(tmp_path / 'a.mp4', count=180, options=OPEN))
  monkeypatch.setattr(source, 'HELD', 11)
  alive, decoded = [], []
  decode = video.decode
  monkeypatch.setattr(video, 'decode', lambda *where: (decoded.append(1) or picture for picture in decode(*where)))
  stamps = []
  for picture in film.read(np.repeat(range(179, -1, -1), 2)):
    stamps.append(round(float(picture.pts * picture.time_base) * 25))
    alive.append(sum(isinstance(each, av.VideoFrame) for each in gc.get_objects()))
  assert stamps == np.repeat(range(179, -1, -1), 2).tolist()
  assert 4 <= max(alive) <= 11 + 12  # those held, and the decoder's
  assert len(decoded) < 2 * 180  # none from the beginning, as of a picture before a key picture that refers to both


@pytest.mark.parametrize('name, options', [
    ('a.mp4', dict(options=OPEN)), ('a.mkv', dict(options=OPEN)), ('a.ts', dict(options=OPEN)),
    ('b.ts', dict(codec='mpeg2video', options={'g': '10', 'bf': '2'})), ('b.avi', dict(codec='mpeg4', options={'bf': '2'}))])
def test_any_picture_is_read_alone_as_in_its_turn(tmp_path, name, options):
  """Also those before a key picture that refer to what is before it, which a seek does not read."""
  film = source.open_source(write_video(tmp_path / name, count=60, sound=name != 'b.avi', **options))
  in_turn = [source.planes_of(picture)[0].copy() for picture in film.read(range(60))]
  for number in [*range(27, 43), 59]:
    assert (source.planes_of(next(film.read([number])))[0] == in_turn[number]).all()


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


def noise(pix_fmt, rotation=0, size=(62, 90), full=False):
  """A picture of random samples that are legal, and the facts of its source."""
  picture = av.VideoFrame(size[1], size[0], pix_fmt)
  picture.colorspace, picture.color_range = 1, 2 if full else 1
  facts = facts_of(picture, rotation)
  unit = 1 << (facts.bit_depth - 8)
  for plane in source.planes_of(picture):
    plane[:] = np.random.default_rng(0).integers(16 * unit, 235 * unit, plane.shape)
  return picture, facts


def facts_of(picture, rotation=0):
  height, width = (picture.width, picture.height) if rotation % 180 else (picture.height, picture.width)
  return source.SourceFacts('a.mp4', width, height, picture.width, picture.height, rotation, Fraction(1), picture.format.name,
                            int(picture.color_range), int(picture.colorspace), 2, 2, Fraction(25), Fraction(1, 25), np.zeros(1),
                            0.04, 0)


@pytest.mark.parametrize('rotation', [0, 90, 180, 270])
@pytest.mark.parametrize('pix_fmt', source.FORMATS)
def test_a_part_has_the_colours_of_the_whole_picture(pix_fmt, rotation):
  picture, facts = noise(pix_fmt, rotation)
  whole, random = video.to_rgb(picture, facts), np.random.default_rng(1)
  for _ in range(30):
    top, left = random.integers(facts.height), random.integers(facts.width)
    height, width = random.integers(1, facts.height - top + 1), random.integers(1, facts.width - left + 1)
    part = source.crop_rgb(picture, facts, int(top), int(left), int(height), int(width))
    np.testing.assert_array_equal(part, whole[top:top + height, left:left + width])


BARS = np.repeat(np.repeat(np.array([[[191, 191, 191], [191, 191, 0], [0, 191, 191], [0, 191, 0], [191, 0, 191], [191, 0, 0],
                                      [0, 0, 191], [20, 20, 20]]], np.uint8), 720, 0), 4, 1)


@pytest.mark.parametrize('matrix, shares', [
    (1, (0.2126, 0.0722)), (5, (0.299, 0.114)), (6, (0.299, 0.114)), (9, (0.2627, 0.0593)), (2, None), (8, None)])
@pytest.mark.parametrize('lines', [90, 720])
@pytest.mark.parametrize('full', [False, True])
def test_colour_bars_are_read_by_the_matrix_and_range_of_the_file_or_as_players_do(matrix, shares, lines, full):
  red, blue = shares or ((0.2126, 0.0722) if lines == 720 else (0.299, 0.114))
  bars = BARS[:lines].astype(float)
  luma = bars @ (red, 1 - red - blue, blue)
  planes = [luma, (bars[..., 2] - luma) / (2 - 2 * blue), (bars[..., 0] - luma) / (2 - 2 * red)]
  picture = av.VideoFrame(32, lines, 'yuv444p')
  for place, (plane, samples) in enumerate(zip(source.planes_of(picture), planes)):
    plane[:] = np.rint(samples + 128 * (place > 0) if full else samples * (224 if place else 219) / 255 + (128 if place else 16))
  picture.colorspace, picture.color_range = matrix, 2 if full else 1
  facts = facts_of(picture)
  assert np.abs(video.to_rgb(picture, facts) - bars).max() <= 3
  assert np.abs(source.crop_rgb(picture, facts, 20, 3, 40, 20) - bars[20:60, 3:23]).max() <= 3
  # And written by the same: a window that is asked to become another bar does.
  before = source.crop_rgb(picture, facts, 20, 8, 40, 4)
  changed = target.change_window(picture, facts, before, np.broadcast_to(bars[0, 21], before.shape).astype(np.uint8), 20, 8)
  assert np.abs(source.crop_rgb(changed, facts, 20, 8, 40, 4) - bars[0, 21]).max() <= 4


FORMATS = ['yuv420p', 'yuvj420p', 'yuv422p', 'yuv444p', 'yuv420p10le', 'yuv422p10le', 'nv12', 'rgb24', 'gbrp']


@pytest.mark.parametrize('rotation', [0, 90])
@pytest.mark.parametrize('pix_fmt', FORMATS)
def test_a_window_changes_as_asked_and_nothing_else_changes(pix_fmt, rotation):
  picture = av.VideoFrame.from_ndarray(moving_picture(3), format='rgb24').reformat(format=pix_fmt)
  facts = facts_of(picture, rotation)
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


def test_a_change_stays_in_the_legal_range_and_leaves_brighter_samples_where_they_are():
  picture, facts = noise('yuv420p')
  luma, *chroma = source.planes_of(picture)
  luma[:], chroma[0][:], chroma[1][:] = 230, 128, 128
  luma[:20] = 250  # brighter than white, as cameras write it
  before = source.crop_rgb(picture, facts, 10, 10, 20, 20)
  for after, seen in ((np.full_like(before, 255), (250, 235)), (before, (250, 230))):
    changed = source.planes_of(target.change_window(picture, facts, before, after, 10, 10))[0]
    assert (changed[12, 15], changed[28, 15]) == seen
  dark = source.planes_of(target.change_window(picture, facts, np.full_like(before, 255), np.zeros_like(before), 10, 10))[0]
  assert dark[28, 15] == 16


@pytest.mark.parametrize('codec', target.CODECS)
@pytest.mark.parametrize('kind', [
    dict(codec='qtrle', pix_fmt='rgb24', container='mov'), dict(pix_fmt='yuvj420p'), dict(codec='ffv1', pix_fmt='yuv444p12le'),
    dict(pix_fmt='yuv422p', tags=[('color_range', 2), ('colorspace', 1)])], ids=lambda kind: kind['pix_fmt'])
def test_a_film_looks_like_its_source_whatever_the_codec_takes(tmp_path, kind, codec):
  film = source.open_source(write_video(tmp_path / ('a.mov' if 'container' in kind else 'a.mkv'), sound=False, **kind))
  out = str(tmp_path / f'b.{target.CODECS[codec][2]}')
  with target.FilmWriter(out, film.facts, None, 0, crf=4, codec=codec) as writer:
    for picture, time_s in zip(film.read(range(16)), film.facts.times_s, strict=True):
      writer.write(picture, time_s)
  again = source.open_source(out)
  seen, own = (video.to_rgb(next(each.read([1])), each.facts).astype(int) for each in (again, film))
  assert np.abs(seen - own).mean() < 2
  assert again.facts.is_full_range == (film.facts.is_full_range and codec != 'prores' and 'rgb' not in film.facts.pix_fmt)
  assert again.facts.applied_matrix == (1 if 'rgb' in film.facts.pix_fmt else video.matrix_of(film.facts.matrix, SIZE[0]))


@pytest.mark.parametrize('pix_fmt, size', [('yuv420p', (63, 64)), ('yuv422p', (64, 63))])
def test_odd_sizes_are_kept_by_prores_and_refused_by_h264(tmp_path, pix_fmt, size):
  path = write_video(tmp_path / 'a.mkv', codec='ffv1', pix_fmt=pix_fmt, size=size, sound=False)
  with pytest.raises(InputError, match='odd number.*--codec prores'):
    target.FilmWriter(tmp_path / 'b.mp4', source.open_source(path).facts, SILENCE, 16_000)
  _, after = written_again(path, tmp_path / 'b.mov', codec='prores')
  assert (after.stored_height, after.stored_width) == size


def test_sound_goes_along_and_hevc_is_tagged_for_all_players(tmp_path):
  path = write_video(tmp_path / 'a.mp4')
  tone = np.rint(8000 * np.sin(np.arange(10_240) / 16_000 * 2 * np.pi * 500)).astype(np.int16)[None].repeat(2, 0)
  for codec, sound in (('h264', 'aac'), ('hevc', 'aac'), ('prores', 'pcm_s16le')):
    film, out = source.open_source(path), tmp_path / f'b.{target.CODECS[codec][2]}'
    with target.FilmWriter(out, film.facts, tone, 16_000, codec=codec) as writer:
      for picture, time_s in zip(film.read(range(16)), film.facts.times_s):
        writer.write(picture, time_s)
    with av.open(str(out)) as file:
      assert file.streams.audio[0].codec_context.name == sound and file.streams.audio[0].channels == 2
      assert file.streams.video[0].codec_context.codec_tag == {'h264': 'avc1', 'hevc': 'hvc1', 'prores': 'apch'}[codec]
    heard, _ = media.read_sound(out, 16_000)
    assert abs(np.abs(np.fft.rfft(heard[1, :8000])).argmax() - 250) <= 1


def through(filters, path, out):
  """What ffmpeg -vf makes of a video."""
  with av.open(path) as file, av.open(str(out), 'w') as written:
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=file.streams.video[0])]
    nodes += [graph.add(name, values or None) for name, _, values in (each.partition('=') for each in filters.split(','))]
    graph.link_nodes(*nodes, graph.add('buffersink')).configure()
    stream = None
    for frame in [*file.decode(video=0), None]:
      graph.vpush(frame)
      while True:
        try:
          made = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
          break
        if stream is None:
          stream = written.add_stream('libx264', rate=file.streams.video[0].average_rate, options={'preset': 'ultrafast'})
          stream.codec_context.time_base = made.time_base
          stream.width, stream.height, stream.pix_fmt = made.width, made.height, made.format.name
        written.mux(stream.encode(made))
    written.mux(stream.encode())
  return str(out)


HDR = dict(pix_fmt='yuv420p10le')
WIDE = [('color_primaries', 9), ('colorspace', 9)]


@pytest.mark.parametrize('wrong, told', [
    (dict(tags=[('color_trc', 16), *WIDE], **HDR), 'HDR (PQ)'), (dict(tags=[('color_trc', 18), *WIDE], **HDR), 'HDR (HLG)'),
    (dict(codec='prores_ks', pix_fmt='yuva444p10le', options={'profile': '4444'}), 'alpha'),
    (dict(pix_fmt='yuvj444p', codec='mjpeg', size=(16, 4400)), 'more than 4096'),
    (dict(pix_fmt='yuvj444p', codec='mjpeg', size=(2170, 2170), count=2, rate=4), 'more than 4096×2160'),
    (dict(codec='ffv1', pix_fmt='gray', container='matroska'), 'gray'),
    (dict(options={'flags': '+ildct+ilme', 'x264-params': 'tff=1'}), 'interlaced')], ids=lambda value: str(value)[:20])
def test_what_cannot_be_written_back_is_refused_with_the_command_that_helps(tmp_path, wrong, told):
  path = write_video(tmp_path / "it's.mov", sound=False, **{'count': 13} | wrong)
  with pytest.raises(InputError) as error:
    source.open_source(path)
  message = str(error.value)
  assert told in message and '\n' not in message
  command = shlex.split(message.partition('convert it first: ')[2])
  assert command[:3] == ['ffmpeg', '-i', path] and command[-3:] == ['-crf', '14', 'NEW.mp4']
  filters = 'format=' + command[4] if command[3] == '-pix_fmt' else command[4]
  if all(each.partition('=')[0] in av.filter.filters_available for each in filters.split(',')):  # zscale needs not be there
    assert source.open_source(through(filters, path, tmp_path / 'new.mp4')).facts.times_s.any()


def test_what_is_transparent_becomes_black_by_the_command_told(tmp_path):
  path = tmp_path / 'a.mov'
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('prores_ks', rate=25, options={'profile': '4444'})
    stream.height, stream.width, stream.pix_fmt = 64, 64, 'yuva444p10le'
    for _ in range(13):
      rgba = np.full((64, 64, 4), 255, np.uint8)
      rgba[:, 32:, 3] = 0
      file.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format='rgba').reformat(format='yuva444p10le')))
    file.mux(stream.encode())
  with pytest.raises(InputError, match='alpha') as error:
    source.open_source(str(path))
  film = source.open_source(through(shlex.split(str(error.value))[-4], str(path), tmp_path / 'b.mp4'))
  seen = source.crop_rgb(next(film.read([2])), film.facts, 0, 0, 64, 64)
  assert seen[:, :28].min() > 240 and seen[:, 36:].max() < 15


def test_sound_alone_is_refused(tmp_path):
  wavfile.write(tmp_path / 'a.wav', 16_000, SILENCE[0])
  with pytest.raises(InputError, match='has no video stream'):
    source.open_source(str(tmp_path / 'a.wav'))


def test_a_film_that_fails_leaves_nothing(tmp_path):
  film = source.open_source(write_video(tmp_path / 'a.mp4'))
  with pytest.raises(RuntimeError), target.FilmWriter(tmp_path / 'out' / 'b.mp4', film.facts, SILENCE, 16_000):
    raise RuntimeError
  assert os.listdir(tmp_path / 'out') == []
