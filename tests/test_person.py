"""A trained person to program with: pictures as `render` encodes them, sounds from files and arrays, and docs/python.md."""
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import wavfile

import speech2lip_jax
from speech2lip_jax import cli
from speech2lip_jax.common import film_file
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.utterance import Utterance, read_utterance
from speech2lip_jax.provenance.origin import Disclosure
from speech2lip_jax.rendering.person import open_person
from tests.toy_run import write_toy_run

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOISE = np.random.default_rng(0)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return write_toy_run(tmp_path_factory.mktemp('person'))


@pytest.fixture(scope='module')
def person(workdir):
  return open_person(workdir, batch_size=1)


@pytest.fixture(scope='module')
def speech(workdir):
  path = workdir.parent / 'speech.wav'
  wavfile.write(path, 44_100, NOISE.integers(-9000, 9000, (22_050, 2)).astype(np.int16))
  return path


def run_render(monkeypatch, *flags):
  """The pictures that `speech2lip render` encodes, as samples [1.5 · H, W]."""
  pictures, append = [], film_file.Mp4Writer.append

  def kept(self, picture):
    pictures.append(picture.to_ndarray())
    append(self, picture)
  monkeypatch.setattr(film_file.Mp4Writer, 'append', kept)
  module = cli.load_verb('render')
  with pytest.raises(SystemExit) as ended:
    cli.run_verb('render', module, ['speech2lip render', *map(str, flags)])
  assert not ended.value.code
  return pictures


def test_pictures_are_those_that_render_encodes(person, workdir, speech, tmp_path, monkeypatch):
  encoded = run_render(monkeypatch, f'--workdir={workdir}', f'--audio={speech}', f'--out={tmp_path / "a.mp4"}', '--batch_size=1')
  said = person.say(speech)
  assert len(said) == len(encoded) == 12
  for ours, theirs in zip(said, encoded, strict=True):
    assert ours.dtype == np.uint8 and ours.shape == (*person.size, 3)
    np.testing.assert_array_equal(film_file.encodable(ours).to_ndarray(), theirs)
  np.testing.assert_array_equal(film_file.encodable(next(iter(said))).to_ndarray(), encoded[0])  # once more from the beginning


def test_pictures_carry_the_mark_unless_nothing_is_to_be_told(person, workdir, speech):
  plain = open_person(workdir, batch_size=1, disclosure=Disclosure(is_on=False))
  marked, unmarked = (next(iter(one.say(speech))).astype(int) for one in (person, plain))
  assert 0 < np.abs(marked - unmarked).max() <= 2


def test_a_sound_in_memory_is_heard_as_that_of_a_file(speech, tmp_path):
  rate, samples = wavfile.read(speech)
  from_file = read_utterance(str(speech))
  for sound in (samples.T, samples.T / 32768, (samples.T / 32768).astype(np.float32)):
    ours = Utterance.of(sound, rate)
    assert ours.rate == from_file.rate
    np.testing.assert_array_equal(ours.sound, from_file.sound)
    np.testing.assert_array_equal(ours.mono, from_file.mono)


def test_the_mouth_follows_the_sound_in_memory(person, speech):
  rate, samples = wavfile.read(speech)
  for ours, theirs in zip(person.say((samples.T / 32768, rate)), person.say(speech), strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('samples, rate, told', [
    (np.zeros((16_000, 3)), 16_000, r'\(16000, 3\); give samples \[n\] or \[channels, n\]'), (np.zeros(0), 16_000, 'of shape'),
    (np.full(100, np.nan), 16_000, 'not finite'), (np.full(100, 9000.0), 16_000, 'up to 9000; divide'),
    (np.zeros(100, np.int64), 16_000, 'of int64 samples'), (np.zeros(100), 0, '0 samples a second')])
def test_a_sound_that_cannot_be_used_is_told(person, samples, rate, told):
  with pytest.raises(InputError, match=told):
    person.say((samples, rate))


def test_what_a_program_asks_wrongly_is_told(person, speech, tmp_path):
  for call, told in ((lambda: speech2lip_jax.open_person(tmp_path), 'not a training workdir'),
                     (lambda: person.say('none.wav'), 'none.wav: no such file'),
                     (lambda: person.say(speech, clip='x'), '--clip=x'),
                     (lambda: person.say(speech, pose='upside'), '--pose=upside'),
                     (lambda: person.dub('none.mp4', speech, tmp_path / 'a.avi'), 'must end in .mp4'),
                     (lambda: person.dub('none.mp4', speech, tmp_path / 'a.mp4'), 'none.mp4: no such file')):
    with pytest.raises(speech2lip_jax.InputError, match=told):
      call()


def test_the_package_comes_without_jax():
  code = ("import sys, speech2lip_jax; assert 'open_person' in dir(speech2lip_jax); "
          "assert not {'jax', 'numpy', 'av'} & set(sys.modules); speech2lip_jax.nothing")
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
  assert "has no attribute 'nothing'" in done.stderr and 'assert' not in done.stderr.splitlines()[-1]


def test_the_page_about_python_runs_as_it_stands(workdir, speech, tmp_path, monkeypatch):
  text = (ROOT / 'docs' / 'python.md').read_text(encoding='utf-8')
  blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
  assert len(blocks) >= 3
  os.symlink(workdir, tmp_path / 'talk.speech2lip')
  os.symlink(speech, tmp_path / 'speech.wav')
  monkeypatch.chdir(tmp_path)
  scope = {}
  for block in blocks:
    if 'dub(' not in block:  # for which a video must be tracked: tests/test_dubbing_full_frame.py
      exec(compile(block, 'docs/python.md', 'exec'), scope)
  assert (tmp_path / 'said.mp4').stat().st_size > 1000
