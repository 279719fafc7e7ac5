"""Text → sound: subtitles, synthesisers that are there and that are not."""
import shutil
import sys
import types

import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import text

SRT = ('\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\nHello <i>there</i>,\r\nfriend.\r\n\r\n'
       '2\r\n00:00:04.5 --> 00:00:05.0\r\n{\\an8}Bye\r\n')


class Slow:
  """Speaks ten letters a second."""
  title, licence = 'slow', 'none'

  def __init__(self):
    self.speeds = []

  def speak(self, said, speed=1.0):
    self.speeds.append(speed)
    return np.full(round(len(said) * 100 / speed), 5, np.int16), 1000


def test_subtitles_are_read_whatever_wrote_them():
  assert text.read_srt(SRT.lstrip('\ufeff'), 'a.srt') == [
      text.Cue(1.0, 2.5, 'Hello there, friend.'), text.Cue(4.5, 5.0, 'Bye')]
  assert text.read_srt('00:59.25 --> 01:01.5\nx', 'a.srt') == [text.Cue(59.25, 61.5, 'x')]


@pytest.mark.parametrize('content, told', [
    ('words only', 'holds no subtitle'), ('', 'holds no subtitle'), ('1\n00:00:01,000 --> never\nx', 'line 2 is no time'),
    ('1\n00:00:03,000 --> 00:00:01,000\nx', 'line 2: the subtitle ends before'),
    ('1\n00:00:01,000 --> 00:00:02,000\n...', 'no subtitle')])
def test_subtitles_that_make_no_sense_are_named(content, told):
  with pytest.raises(InputError, match=f'a.srt: .*{told}'):
    text.read_srt(content, 'a.srt')


def test_each_subtitle_is_spoken_at_its_time(tmp_path):
  (tmp_path / 'a.srt').write_text(SRT, encoding='utf-8')
  sound, rate = text.speak(str(tmp_path / 'a.srt'), Slow())
  spoken = np.flatnonzero(np.diff(np.concatenate([[0], sound, [0]])))
  assert rate == 1000 and len(sound) == 5000
  np.testing.assert_array_equal(spoken, [1000, 3000, 4500, 4800])


def test_a_subtitle_that_is_a_little_long_is_spoken_faster_and_a_long_one_is_named(tmp_path):
  cues = lambda room: f'00:00:00,000 --> 00:00:01,000\n{"x" * 20}\n\n00:00:0{room} --> 00:00:05,000\ny'
  slow = Slow()
  (tmp_path / 'a.srt').write_text(cues('1,700'))
  text.speak(str(tmp_path / 'a.srt'), slow)
  assert slow.speeds[1] == pytest.approx(2 / 1.7 * 1.03)
  (tmp_path / 'a.srt').write_text(cues('1,000'))
  with pytest.raises(InputError, match=r'a.srt: the subtitle at 0.00 s takes 1.54 s .* 1.3 times .* after 1.00 s'):
    text.speak(str(tmp_path / 'a.srt'), Slow())


def test_two_subtitles_at_one_time_are_named(tmp_path):
  (tmp_path / 'a.srt').write_text('00:00:01,000 --> 00:00:02,000\nhe\n\n00:00:01,000 --> 00:00:02,000\nshe')
  with pytest.raises(InputError, match=r'a.srt: the subtitle at 1.00 s .* after 0.00 s; .*he'):
    text.speak(str(tmp_path / 'a.srt'), Slow())


def test_text_files_and_mistakes(tmp_path):
  (tmp_path / 'a.txt').write_text('0123456789')
  assert len(text.speak(str(tmp_path / 'a.txt'), Slow())[0]) == 1000
  (tmp_path / 'A.SRT').write_text(SRT, encoding='utf-8')
  assert len(text.speak(str(tmp_path / 'A.SRT'), Slow())[0]) == 5000
  for wrong, told in ((str(tmp_path / 'none.txt'), 'no such file'), ('...', 'has no words')):
    with pytest.raises(InputError, match=told):
      text.speak(wrong, Slow())
  (tmp_path / 'b.txt').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(InputError, match='UTF-8'):
    text.speak(str(tmp_path / 'b.txt'), Slow())


def test_what_is_not_installed_is_named(monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  with pytest.raises(InputError, match='apt install espeak-ng'):
    text.find_synthesiser(None)
  monkeypatch.setitem(sys.modules, 'piper', None)
  with pytest.raises(InputError, match=r'speech2lip_jax\[tts\]'):
    text.find_synthesiser('voice.onnx')


def test_a_neural_voice_is_a_file_of_two(tmp_path, monkeypatch):
  chunk = types.SimpleNamespace(audio_int16_array=np.arange(50, dtype=np.int16), sample_rate=22050)
  # A voice that is slow by itself.
  voice = types.SimpleNamespace(config=types.SimpleNamespace(length_scale=2.0), synthesize=lambda said, config: iter(
      [chunk] * round(2 * config.length_scale) if said != '…' else []))

  def load(file):
    if 'broken' in file:
      raise KeyError('num_symbols')
    return voice
  fake = types.SimpleNamespace(PiperVoice=types.SimpleNamespace(load=load),
                               SynthesisConfig=lambda length_scale: types.SimpleNamespace(length_scale=length_scale))
  monkeypatch.setitem(sys.modules, 'piper', fake)
  with pytest.raises(InputError, match='FILE.onnx.json'):
    text.find_synthesiser(str(tmp_path / 'a.onnx'))
  (tmp_path / 'a.onnx').touch()
  (tmp_path / 'a.onnx.json').touch()
  synthesiser = text.find_synthesiser(str(tmp_path / 'a.onnx'))
  assert 'licence' in synthesiser.licence
  assert len(synthesiser.speak('x')[0]) == 200 and len(synthesiser.speak('x', 2.0)[0]) == 100
  with pytest.raises(InputError, match='Piper, voice a finds no words'):
    synthesiser.speak('…')
  for name in ('broken.onnx', 'broken.onnx.json'):
    (tmp_path / name).touch()
  with pytest.raises(InputError, match="broken.onnx: Piper cannot load it .KeyError: 'num_symbols'.; fetch"):
    text.find_synthesiser(str(tmp_path / 'broken.onnx'))


@pytest.mark.skipif(not shutil.which('espeak-ng'), reason='espeak-ng is not installed')
def test_espeak_ng_speaks_and_names_a_voice_that_it_lacks():
  sound, rate = text.find_synthesiser('en').speak('Good morning to all of you.')
  assert 1.0 < len(sound) / rate < 4.0 and np.abs(sound).max() > 3000
  faster, _ = text.find_synthesiser('en').speak('Good morning to all of you.', 1.3)
  assert len(faster) < 0.9 * len(sound)
  with pytest.raises(InputError, match='--voice=xx-none'):
    text.find_synthesiser('xx-none').speak('hello')
