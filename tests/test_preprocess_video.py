"""Reading video and sound: the clock, the turn and the errors, on small files made here."""
import fractions
import struct

import av
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.preprocess import audio, video

HEIGHT, WIDTH = 48, 64


def write_video(path, times_s, rate=25, images=None, sound=None, sound_start_s=0.0, sound_rate=16_000):
  """Writes pictures shown at `times_s` (`numbered` ones when not given) and sound [channels, n] float32."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=rate, options={'crf': '4', 'bf': '0', 'g': '10'})
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
    if images is not None:
      stream.height, stream.width = images[0].shape[:2]
    stream.codec_context.time_base = fractions.Fraction(1, 90_000)
    track = None
    if sound is not None:
      track = container.add_stream('pcm_f32le', rate=sound_rate, layout='stereo' if len(sound) == 2 else 'mono')
    for number, time_s in enumerate(times_s):
      image = numbered(number) if images is None else images[number]
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
      frame.pts, frame.time_base = round(time_s * 90_000), fractions.Fraction(1, 90_000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if track is not None:
      for start in range(0, sound.shape[1], 1024):
        part = np.ascontiguousarray(sound[:, start:start + 1024].T.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(part, format='flt', layout='stereo' if len(sound) == 2 else 'mono')
        frame.sample_rate, frame.time_base = sound_rate, fractions.Fraction(1, sound_rate)
        frame.pts = start + round(sound_start_s * sound_rate)
        container.mux(track.encode(frame))
      container.mux(track.encode(None))
  return str(path)


def numbered(number):
  """A picture that tells its number below 100: tens as grey of the upper half, units of the lower half."""
  image = np.full((HEIGHT, WIDTH, 3), 25 + number // 10 * 20, np.uint8)
  image[HEIGHT // 2:] = 25 + number % 10 * 20
  return image


def silence(seconds, rate=16_000, channels=1):
  return np.zeros((channels, round(seconds * rate)), np.float32)


def shown_numbers(info, **where):
  """Which source picture each grid frame shows."""
  return [10 * round((frame[4:20].mean() - 25) / 20) + round((frame[28:44].mean() - 25) / 20)
          for _, frame in video.read_frames(info, **where)]


def nearest(times_s, num_frames):
  """The picture nearest in time to each grid frame, the earlier of two."""
  return [int(np.argmin(np.abs(np.asarray(times_s) - grid / 25).round(7))) for grid in range(num_frames)]


@pytest.mark.parametrize('rate', [25, 10, 30_000 / 1001, 50])
def test_every_grid_frame_shows_the_nearest_source_picture(tmp_path, rate):
  times = np.arange(40) / rate
  info = video.probe(write_video(tmp_path / 'a.mkv', times, sound=silence(40 / rate)))
  assert abs(info.num_frames - 40 / rate * 25) <= max(1,
                                                      25 / rate)  # a file need not say how long its last picture stays
  assert shown_numbers(info) == nearest(times.round(3), info.num_frames)
  rows, num_pictures = video.source_pictures(info)
  assert rows.tolist() == shown_numbers(info) and num_pictures == 40


def test_a_variable_rate_and_a_late_first_picture_keep_their_timing(tmp_path):
  times = 1.5 + np.cumsum([0.0] + [0.02, 0.05, 0.1, 0.03] * 9)
  info = video.probe(write_video(tmp_path / 'a.mkv', times, sound=silence(4.0)))
  assert info.start_s == pytest.approx(1.5, abs=1e-3)
  shown = shown_numbers(info)
  error = np.abs((times - times[0])[shown] - np.arange(len(shown)) / 25)
  assert error.max() <= 0.05 + 1e-3
  assert shown == nearest((times - times[0]).round(3), len(shown))
  assert video.source_pictures(info)[0].tolist() == shown


def test_a_part_read_by_itself_equals_the_same_part_of_the_whole(tmp_path):
  info = video.probe(write_video(tmp_path / 'a.mp4', np.arange(90) / 30, sound=silence(3.0)))
  whole = [frame for _, frame in video.read_frames(info)]
  part = list(video.read_frames(info, start=40, stop=60))
  assert [grid for grid, _ in part] == list(range(40, 60))
  assert all(np.array_equal(frame, whole[grid]) for grid, frame in part)


@pytest.mark.parametrize('matrix, upright', [((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
                                             ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
                                             ((0, -1, 1, 0), np.rot90)])
def test_the_rotation_flag_is_applied(tmp_path, matrix, upright):
  image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
  image[:16, :16] = (230, 30, 30)
  path = write_video(tmp_path / 'a.mp4', np.arange(20) / 25, images=[image] * 20, sound=silence(0.8))
  content = bytearray(open(path, 'rb').read())
  at = content.index(b'tkhd') + 4 + 40  # the picture track is the first; version 0 keeps its matrix 40 bytes in
  content[at:at + 20] = struct.pack('>5i', matrix[0] << 16, matrix[1] << 16, 0, matrix[2] << 16, matrix[3] << 16)
  open(path, 'wb').write(content)
  info = video.probe(path)
  expected = upright(image)
  assert (info.height, info.width) == expected.shape[:2]
  frame = next(iter(video.read_frames(info)))[1]
  assert np.abs(frame.astype(int) - expected).mean() < 6


def test_large_frames_are_shrunk_on_request(tmp_path):
  info = video.probe(write_video(tmp_path / 'a.mp4', np.arange(20) / 25, sound=silence(0.8)))
  assert next(iter(video.read_frames(info, max_side=32)))[1].shape == (24, 32, 3)


@pytest.mark.parametrize('late_s', [0.0, 0.3])
def test_sound_is_resampled_mixed_and_on_the_video_clock(tmp_path, late_s):
  rate = 48_000
  times = np.arange(rate) / rate
  wave = np.sin(2 * np.pi * 200 * times) * np.exp(-((times - 0.5) / 0.05)**2)
  sound = np.stack([0.8 * wave, 0.2 * wave]).astype(np.float32)
  info = video.probe(
      write_video(tmp_path / 'a.mkv', np.arange(30) / 25, sound=sound, sound_start_s=late_s, sound_rate=rate))
  heard = audio.read_sound(info)
  assert heard.shape == (info.num_frames * 640,) and heard.dtype == np.float32
  grid = np.arange(len(heard)) / 16_000 - late_s
  expected = 0.5 * np.sin(2 * np.pi * 200 * grid) * np.exp(-((grid - 0.5) / 0.05)**2) * ((grid >= 0) & (grid < 1))
  assert np.abs(heard - expected).max() < 0.02  # half a sample of shift at 16 kHz would be 0.02
  assert abs(int(np.argmax(np.correlate(heard, expected, 'full'))) - (len(expected) - 1)) == 0


def test_sound_that_begins_before_the_pictures_is_cut(tmp_path):
  sound = silence(2.0)
  sound[0, 16_000 + 640 * 5] = 1.0  # 1.2 s, which is grid frame 5 of pictures that begin at 1 s
  info = video.probe(write_video(tmp_path / 'a.mkv', 1.0 + np.arange(25) / 25, sound=sound))
  assert int(np.argmax(np.abs(audio.read_sound(info)))) == 640 * 5


def test_damaged_sound_of_a_video_is_refused_and_a_pause_in_it_is_silence(tmp_path):
  sound = silence(2.0)
  sound[0, 9_000] = np.nan
  info = video.probe(write_video(tmp_path / 'a.mkv', np.arange(50) / 25, sound=sound))
  for read in (audio.check, audio.read_sound):
    with pytest.raises(InputError, match=r'a.mkv: a sample at 0\.56 s is not a finite number'):
      read(info)
  path = tmp_path / 'pause.mkv'
  with av.open(str(path), 'w') as container:
    pictures = container.add_stream('libx264', rate=25)
    pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
    track = container.add_stream('pcm_f32le', rate=16_000, layout='mono')
    for number in range(50):
      container.mux(pictures.encode(av.VideoFrame.from_ndarray(numbered(number), format='rgb24')))
      if not 10 <= number < 30:
        frame = av.AudioFrame.from_ndarray(np.full((1, 640), 0.5, np.float32), format='flt', layout='mono')
        frame.sample_rate, frame.pts, frame.time_base = 16_000, number * 640, fractions.Fraction(1, 16_000)
        container.mux(track.encode(frame))
    container.mux(pictures.encode(None))
    container.mux(track.encode(None))
  heard = audio.read_sound(video.probe(str(path))).reshape(50, 640)[:, 320]
  assert np.flatnonzero(heard < 0.25).tolist() == list(range(10, 30))


def test_errors_name_the_file_and_the_remedy(tmp_path):
  text = tmp_path / 'notes.mp4'
  text.write_text('no video')
  short = write_video(tmp_path / 'short.mp4', np.arange(5) / 25, sound=silence(0.2))
  mute = write_video(tmp_path / 'mute.mp4', np.arange(30) / 25)
  for path, message in ((str(text), 'not a readable video'), (short, r'0\.20 s'), (mute, 'no sound'), (str(tmp_path),
                                                                                                       'is a folder')):
    with pytest.raises(InputError, match=message) as caught:
      video.probe(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)
  for pattern in (str(tmp_path / 'none.mp4'), str(tmp_path / '*.avi')):
    with pytest.raises(InputError, match='no') as caught:
      video.expand_inputs([pattern])
    assert pattern in str(caught.value)
  with av.open(str(tmp_path / 'only_sound.mka'), 'w') as container:
    track = container.add_stream('pcm_s16le', rate=16_000, layout='mono')
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format='s16', layout='mono')
    frame.sample_rate = 16_000
    container.mux(track.encode(frame))
    container.mux(track.encode(None))
  with pytest.raises(InputError, match='no video stream'):
    video.probe(str(tmp_path / 'only_sound.mka'))


def test_patterns_expand_sorted_and_once(tmp_path):
  for name in ('b.mp4', 'a.mp4', 'c,d.mp4'):
    (tmp_path / name).write_bytes(b'')
  found = video.expand_inputs([str(tmp_path / 'b.mp4'), str(tmp_path / '*.mp4')])
  assert [path.rsplit('/', 1)[1] for path in found] == ['b.mp4', 'a.mp4', 'c,d.mp4']
