"""Sound in, mp4 out."""
import re
from fractions import Fraction

import av
import numpy as np
import pytest
import scipy.signal
from scipy.io import wavfile

from speech2lip_jax.common import film_file, media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.preprocess import video
from speech2lip_jax.rendering.film import back_and_forth


def write_tone(path, seconds, rate, channels):
  time = np.arange(int(seconds * rate)) / rate
  sound = np.stack([np.sin(2 * np.pi * 200 * (c + 1) * time) for c in range(channels)], -1)
  wavfile.write(path, rate, (sound * 20000).astype(np.int16))
  return path


@pytest.mark.parametrize(('rate', 'channels'), [(8000, 1), (16000, 1), (44100, 2), (48000, 2), (48000, 6)])
def test_sound_of_any_rate_and_channels_keeps_its_length(tmp_path, rate, channels):
  path = write_tone(tmp_path / 'tone.wav', 1.3, rate, channels)
  speech, speech_rate = media.read_sound(path, 16000, mono=True)
  assert speech_rate == 16000 and speech.shape[0] == 1
  assert abs(speech.shape[1] / 16000 - 1.3) < 0.005
  own, own_rate = media.read_sound(path)
  assert own_rate == rate and own.shape[0] == min(channels, 2)


def test_an_mp4_lasts_as_long_as_its_sound(tmp_path):
  sound, rate = media.read_sound(write_tone(tmp_path / 'tone.wav', 2.0, 44100, 2))
  with film_file.Mp4Writer(tmp_path / 'out.mp4', 64, 48, 25, sound, rate) as writer:
    for i in range(50):
      writer.write(np.full((64, 48, 3), 4 * i, np.uint8))
  with av.open(str(tmp_path / 'out.mp4')) as container:
    assert {s.codec_context.name for s in container.streams} == {'h264', 'aac'}
    frames = [frame.to_ndarray(format='rgb24').mean() for frame in container.decode(video=0)]
    assert len(frames) == 50 and np.all(np.diff(frames) > 2)
    assert abs(container.duration / av.time_base - 2.0) <= 0.04
  heard, _ = media.read_sound(tmp_path / 'out.mp4', 44100)
  spectrum = np.abs(np.fft.rfft(heard[1, 20000:20000 + 44100].astype(float)))
  assert abs(int(spectrum.argmax()) - 400) <= 1


def test_an_mp4_has_the_colours_that_were_written_at_any_height(tmp_path):
  colours = np.zeros((720, 64, 3), np.uint8)
  colours[:, :32], colours[:, 32:] = (200, 40, 40), (40, 180, 60)
  with film_file.Mp4Writer(tmp_path / 'out.mp4', 720, 64, 25, np.zeros((1, 16_000), np.int16), 16_000, quality=4) as writer:
    for _ in range(25):
      writer.write(colours)
  seen = next(video.read_pictures(video.probe(str(tmp_path / 'out.mp4'))))
  assert np.abs(seen[:, 4:28].astype(int) - colours[:, 4:28]).max() <= 3
  assert np.abs(seen[:, 36:60].astype(int) - colours[:, 36:60]).max() <= 3


def test_a_failed_render_leaves_no_file(tmp_path):
  sound = np.zeros((1, 100), np.int16)
  with pytest.raises(RuntimeError), film_file.Mp4Writer(tmp_path / 'out.mp4', 64, 64, 25, sound, 16000) as writer:
    writer.write(np.zeros((64, 64, 3), np.uint8))
    raise RuntimeError('stopped')
  assert list(tmp_path.iterdir()) == []


def test_bad_sound_is_named_with_a_remedy(tmp_path):
  empty = tmp_path / 'empty.wav'
  wavfile.write(empty, 16000, np.zeros(0, np.int16))
  text = tmp_path / 'notes.txt'
  text.write_text('hello ' * 100)
  zero = tmp_path / 'zero.wav'
  zero.write_bytes(b'')
  for path in (tmp_path / 'none.wav', empty, text, zero):
    with pytest.raises(InputError) as error:
      media.read_sound(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)


RATE = 44_100
SECONDS = 6.0


def speechlike(seed=0):
  """[1, n] int16: noise that swells, so that no packet is small."""
  time = np.arange(int(SECONDS * RATE)) / RATE
  return (np.random.default_rng(seed).normal(0, 2000, time.shape) * (1.2 + np.sin(9 * time))).astype(np.int16)[None]


def encode(path, codec, **options):
  with av.open(str(path), 'w', options=options) as container:
    rate = 48_000 if codec == 'libopus' else RATE
    stream = container.add_stream(codec, rate=rate, layout='mono')
    stream.bit_rate = 64_000
    frame = av.AudioFrame.from_ndarray(speechlike(), format='s16p', layout='mono')
    frame.sample_rate = RATE
    resampler = av.AudioResampler(format=stream.format, layout='mono', rate=rate)
    for part in resampler.resample(frame) + resampler.resample(None):
      container.mux(stream.encode(part))
    container.mux(stream.encode(None))
  return path


FORMATS = {'a.mp3': ('libmp3lame', {}), 'a.m4a': ('aac', {'movflags': 'faststart'}), 'a.mka': ('aac', {}), 'a.flac': ('flac', {}),
           'a.wav': ('pcm_s16le', {}), 'a.ogg': ('libopus', {}), 'a.aac': ('aac', {})}


@pytest.mark.parametrize('name', FORMATS)
def test_a_whole_file_of_any_format_is_heard_to_its_end_without_a_warning(tmp_path, caplog, name):
  codec, options = FORMATS[name]
  sound, rate = media.read_sound(encode(tmp_path / name, codec, **options))
  assert abs(sound.shape[1] / rate - SECONDS) < 0.06
  assert not caplog.records


def damaged(path, kind):
  """Spoils a file around its middle; `kind` says how."""
  content = path.read_bytes()
  middle, noise = len(content) // 2, np.random.default_rng(1).bytes(4000)
  path.write_bytes({'overwritten': content[:middle] + noise + content[middle + 4000:],
                    'inserted': content[:middle] + noise + content[middle:],
                    'a few bytes': content[:middle] + noise[:400] + content[middle + 400:],
                    'half': content[:middle]}[kind])
  return path


def lag_s(heard, begin_s, rate=RATE):
  """Seconds that the second from begin_s on lies later in `heard` than in `speechlike()`; None where it is not found."""
  part = speechlike()[0, round(begin_s * rate):round((begin_s + 1) * rate)].astype(float)
  found = scipy.signal.correlate(heard.astype(float), part, 'valid', 'fft')
  place = int(np.abs(found).argmax())
  norm = np.linalg.norm(part) * np.linalg.norm(heard[place:place + len(part)].astype(float))
  return place / rate - begin_s if found[place] > 0.3 * norm else None


@pytest.mark.parametrize('kind', ['overwritten', 'inserted', 'a few bytes'])
@pytest.mark.parametrize('name', ['a.mp3', 'a.m4a', 'a.mka', 'a.flac', 'a.ogg'])
def test_what_damage_leaves_of_a_sound_stays_at_its_place_and_the_rest_is_silence(tmp_path, caplog, name, kind):
  codec, options = FORMATS[name]
  path = damaged(encode(tmp_path / name, codec, **options), kind)
  heard, rate = media.read_sound(path, RATE)
  slip_s = 0.6 if (name, kind) == ('a.mp3', 'inserted') else 0.1  # where nothing tells that the bytes were none of its own
  assert abs(heard.shape[1] / rate - SECONDS) < slip_s
  assert abs(lag_s(heard[0], 1.0)) < 0.03
  last = lag_s(heard[0], 4.7)
  if (name, kind) != ('a.m4a', 'inserted'):  # whose table of places is wrong from there on
    assert abs(last) < slip_s
  if last is None or kind != 'a few bytes':
    [record] = caplog.records
    told = record.getMessage()
    begin_s, end_s = (float(side) for side in re.search(r'silence: (\d+\.\d\d)–(\d+\.\d\d) s', told).groups())
    assert 2 < begin_s < end_s <= SECONDS + slip_s and str(path) in told
    inside = heard[0, round((begin_s + 0.02) * rate):round((end_s - 0.02) * rate)]
    assert not inside.any()


@pytest.mark.parametrize('name', ['a.mp3', 'a.m4a', 'a.mka', 'a.flac', 'a.wav'])
def test_the_missing_half_of_a_file_is_silence(tmp_path, caplog, name):
  codec, options = FORMATS[name]
  path = damaged(encode(tmp_path / name, codec, **options), 'half')
  heard, rate = media.read_sound(path)
  assert abs(heard.shape[1] / rate - SECONDS) < 0.1 and not heard[:, round(3.3 * rate):].any()
  [record] = caplog.records
  assert re.search(r'become silence: [23]\.\d\d–[56]\.\d\d s$', record.getMessage())


def test_a_sound_of_which_little_is_left_is_refused(tmp_path):
  path = encode(tmp_path / 'a.wav', 'pcm_s16le')
  path.write_bytes(path.read_bytes()[:20_000])
  with pytest.raises(InputError, match=r'5\.\d\d s of 6\.00 s of its sound are damaged or missing; fetch'):
    media.read_sound(path)


def test_a_jump_of_the_time_stamps_is_silence_and_a_clock_set_anew_is_none(tmp_path, caplog):
  for jump_s, expected_s in ((1.5, 3.5), (5_000, 2.0)):
    path = tmp_path / f'{jump_s}.mka'
    with av.open(str(path), 'w') as container:
      stream = container.add_stream('pcm_s16le', rate=16_000, layout='mono')
      for number in range(20):
        frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 900, np.int16), format='s16', layout='mono')
        frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
        frame.pts = number * 1600 + (round((jump_s) * 16_000) if number >= 10 else 0)
        container.mux(stream.encode(frame))
      container.mux(stream.encode(None))
    caplog.clear()
    heard, rate = media.read_sound(path)
    assert heard.shape[1] / rate == pytest.approx(expected_s, abs=0.01), jump_s
    assert len(caplog.records) == (jump_s == 1.5)
    if jump_s == 1.5:
      assert '1.00–2.50 s' in caplog.text
      assert not heard[0, 16_010:2 * 16_000].any() and (heard[0, 40_010:] == 900).all()


def test_an_mp4_that_broke_off_before_its_index_is_named_as_such(tmp_path):
  path = encode(tmp_path / 'a.m4a', 'aac')
  path.write_bytes(path.read_bytes()[:20_000])
  with pytest.raises(InputError, match='only the beginning of one'):
    media.read_sound(path)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_with_its_time(tmp_path, value):
  sound = np.zeros((32_000, 2), np.float32)
  sound[20_000, 1] = value
  wavfile.write(tmp_path / 'a.wav', 16_000, sound)
  with pytest.raises(InputError, match=r'a.wav: a sample at 1\.25 s is not a finite number'):
    media.read_sound(tmp_path / 'a.wav')


@pytest.mark.parametrize('rate', [3_000, 192_000, 768_000])
def test_sound_at_an_unusual_rate_fits_into_an_mp4(tmp_path, rate):
  sound, own = media.read_sound(write_tone(tmp_path / 'tone.wav', 1.0, rate, 1))
  assert abs(sound.shape[1] / own - 1.0) < 0.01
  with film_file.Mp4Writer(tmp_path / 'out.mp4', 64, 64, 25, sound, own) as writer:
    for _ in range(25):
      writer.write(np.zeros((64, 64, 3), np.uint8))
  heard, _ = media.read_sound(tmp_path / 'out.mp4')
  assert heard.any()


@pytest.mark.parametrize('rate', [100, 4_000_000])
def test_an_absurd_rate_is_refused(tmp_path, rate):
  path = tmp_path / 'a.wav'
  wavfile.write(path, rate, np.zeros(1000, np.int16))
  with pytest.raises(InputError, match=f'{rate} samples a second'):
    media.read_sound(path)


def test_metadata_around_the_samples_of_a_wav_is_no_missing_sound(tmp_path):
  path = write_tone(tmp_path / 'a.wav', 1.0, 16_000, 1)
  content = bytearray(path.read_bytes() + b'LIST' + (20_000).to_bytes(4, 'little') + bytes(20_000))
  content[4:8] = (len(content) - 8).to_bytes(4, 'little')
  path.write_bytes(content)
  assert media.read_sound(path)[0].shape[1] == 16_000


def test_frames_run_back_and_forth_without_repeating_the_turn():
  np.testing.assert_array_equal(back_and_forth(4, 10), [0, 1, 2, 3, 2, 1, 0, 1, 2, 3])
  np.testing.assert_array_equal(back_and_forth(1, 3), [0, 0, 0])


def test_segments_are_joined_without_encoding_again_and_keep_every_picture_and_the_sound(tmp_path):
  rng = np.random.default_rng(0)
  ramp = np.linspace(0, 255, 64).astype(np.uint8)
  pictures = [np.dstack([np.roll(np.tile(ramp, (64, 1)), 3 * n, 1)] * 3) for n in range(40)]
  sound = rng.integers(-9000, 9000, (1, 40 * 640)).astype(np.int16)

  def written(path, part, *sound_and_rate):
    with film_file.Mp4Writer(path, 64, 64, 25, *sound_and_rate) as writer:
      for picture in part:
        writer.write(picture)
    return path

  parts = [written(tmp_path / f'{i}.mp4', part) for i, part in enumerate((pictures[:1], pictures[1:20], pictures[20:]))]
  film_file.join_segments(parts, tmp_path / 'joined.mp4', 25, sound, 16000)
  written(tmp_path / 'whole.mp4', pictures, sound, 16000)

  def read(path):
    with av.open(str(path)) as container:
      return [(frame.time, frame.to_ndarray(format='rgb24').astype(int)) for frame in container.decode(video=0)]

  def packets(path):
    with av.open(str(path)) as container:
      return [bytes(packet) for packet in container.demux(video=0) if packet.size]

  joined, whole = read(tmp_path / 'joined.mp4'), read(tmp_path / 'whole.mp4')
  assert [time for time, _ in joined] == [time for time, _ in whole] == pytest.approx(np.arange(40) / 25)
  assert max(np.abs(a - b).mean() for (_, a), (_, b) in zip(joined, whole, strict=True)) < 3
  assert packets(tmp_path / 'joined.mp4') == [packet for part in parts for packet in packets(part)]
  with av.open(str(tmp_path / 'joined.mp4')) as container:
    assert abs(container.duration / av.time_base - 1.6) < 0.05 and container.streams.audio
  assert not list(tmp_path.glob('.*'))
