"""Sound in, mp4 out."""
import av
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
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
  with media.Mp4Writer(tmp_path / 'out.mp4', 64, 48, 25, sound, rate) as writer:
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


def test_a_failed_render_leaves_no_file(tmp_path):
  sound = np.zeros((1, 100), np.int16)
  with pytest.raises(RuntimeError), media.Mp4Writer(tmp_path / 'out.mp4', 64, 64, 25, sound, 16000) as writer:
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


def test_frames_run_back_and_forth_without_repeating_the_turn():
  np.testing.assert_array_equal(back_and_forth(4, 10), [0, 1, 2, 3, 2, 1, 0, 1, 2, 3])
  np.testing.assert_array_equal(back_and_forth(1, 3), [0, 0, 0])
