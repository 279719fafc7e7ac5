"""Text → sound, where a speech synthesiser is installed: espeak-ng, or Piper with the file of a neural voice."""
import io
import os
import pathlib
import re
import shutil
import subprocess
from typing import NamedTuple, Protocol

import numpy as np
from scipy.io import wavfile

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError

DEFAULT_VOICE = 'en'
FASTEST = 1.3  # times the usual speed at which a subtitle that is too long for its room is spoken
WORDS_A_MINUTE = 160  # of espeak-ng at its usual speed
MAX_BYTES = 2_000_000  # of a text file, more than a day of speech
CUE = re.compile(r'(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})\s*-->\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})')


class Synthesiser(Protocol):
  """Something that speaks. title: its name and voice. licence: a line about it."""
  title: str
  licence: str

  def speak(self, text: str, speed: float = 1.0) -> tuple[np.ndarray, int]:
    """The text, `speed` times as fast as usual: [n] int16, and samples a second."""


class Cue(NamedTuple):
  """A subtitle: seconds from which and until which it is shown."""
  begin_s: float
  end_s: float
  text: str


class EspeakNg:
  """The program espeak-ng."""

  licence = 'espeak-ng is under the GPL 3 or later; what it speaks is yours'

  def __init__(self, voice: str):
    self.title, self._voice = f'espeak-ng, voice {voice}', voice

  def speak(self, text: str, speed: float = 1.0) -> tuple[np.ndarray, int]:
    """See `Synthesiser`.

    Raises:
      InputError: there is no such voice.
    """
    command = ['espeak-ng', '--stdin', '--stdout', '-v', self._voice, '-s', str(round(WORDS_A_MINUTE * speed))]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode or not done.stdout:
      told = done.stderr.decode(errors='replace').strip().split('\n')[0]
      raise InputError(f'--voice={self._voice}: espeak-ng does not speak with it ({told}); espeak-ng --voices lists all')
    # Its header tells the length of a file that it does not know yet.
    with np.errstate(all='ignore'):
      rate, sound = wavfile.read(io.BytesIO(_with_length(done.stdout)))
    return sound, rate


def _with_length(wav: bytes) -> bytes:
  """A WAV of 44 bytes of header, with the lengths that belong to it."""
  samples = (len(wav) - 44) // 2 * 2
  return wav[:4] + (samples + 36).to_bytes(4, 'little') + wav[8:40] + samples.to_bytes(4, 'little') + wav[44:44 + samples]


class Piper:
  """Piper with a voice of a file."""

  def __init__(self, file: str):
    import piper
    if not pathlib.Path(file).is_file() or not pathlib.Path(f'{file}.json').is_file():
      raise InputError(f'--voice={file}: a voice of Piper is FILE.onnx with FILE.onnx.json beside it; one of them is missing')
    try:
      self._voice, self._config = piper.PiperVoice.load(file), piper.SynthesisConfig
    except Exception as error:  # ONNX Runtime's have no class in common
      told = f'{type(error).__name__}: {error}'.splitlines()[0]
      raise InputError(f'--voice={file}: Piper cannot load it ({told[:120]}); fetch its two files again') from error
    self.title = f'Piper, voice {pathlib.Path(file).stem}'
    self.licence = f'Piper is under the GPL 3 or later; what the voice {file} may be used for, its own licence says'

  def speak(self, text: str, speed: float = 1.0) -> tuple[np.ndarray, int]:
    """See `Synthesiser`.

    Raises:
      InputError: it finds no words.
    """
    chunks = list(self._voice.synthesize(text, self._config(length_scale=self._voice.config.length_scale / speed)))
    if not chunks:
      raise InputError(f'--text: {self.title} finds no words in {text[:40]!r}; give a text of its language')
    return np.concatenate([chunk.audio_int16_array for chunk in chunks]), chunks[0].sample_rate


def find_synthesiser(voice: str | None) -> Synthesiser:
  """The synthesiser of a voice: a file is Piper's, any other name espeak-ng's.

  Raises:
    InputError: it is not installed, or there is no such voice.
  """
  if voice and voice.endswith('.onnx'):
    try:
      return Piper(voice)
    except ImportError as error:
      raise InputError(f"--voice={voice}: Piper is not installed; pip install 'speech2lip_jax[tts]', in a checkout "
                       "pip install -e '.[tts]'") from error
  if not shutil.which('espeak-ng'):
    raise InputError('--text: no speech synthesiser is here; install espeak-ng (apt install espeak-ng, brew install espeak-ng), or '
                     "pip install piper-tts and give a neural voice's file with --voice FILE.onnx")
  return EspeakNg(voice or DEFAULT_VOICE)


def speak(text: str, synthesiser: Synthesiser) -> tuple[np.ndarray, int]:
  """The sound of a text, of a .txt file, or of a .srt file whose cues are spoken at their times: [n] int16, and samples a second.

  Raises:
    InputError: a file cannot be read, nothing is to be said, or a cue is too long for its room.
  """
  kind = pathlib.PurePath(text).suffix.lower()
  if kind not in ('.txt', '.srt'):
    return _spoken(text, synthesiser, '--text')
  media.check_file(text, 'text file in UTF-8 with --text')
  if os.path.getsize(text) > MAX_BYTES:
    raise InputError(f'--text={text}: has {os.path.getsize(text) / 1e6:.0f} million characters; give up to '
                     f'{MAX_BYTES // 10**6} million')
  try:
    content = pathlib.Path(text).read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    told = error.strerror if isinstance(error, OSError) else 'it is no UTF-8'
    raise InputError(f'--text={text}: cannot be read ({told}); give a text file in UTF-8') from error
  if kind == '.srt':
    return _at_their_times(read_srt(content, text), synthesiser, text)
  return _spoken(content, synthesiser, text)


def _spoken(text: str, synthesiser: Synthesiser, name: str) -> tuple[np.ndarray, int]:
  if not any(character.isalnum() for character in text):
    raise InputError(f'{name}: has no words; give some text')
  return synthesiser.speak(text)


def _at_their_times(cues: list[Cue], synthesiser: Synthesiser, path: str) -> tuple[np.ndarray, int]:
  """One sound as long as the last cue, or as what it says."""
  parts: list[tuple[float, np.ndarray]] = []
  rate = 0
  for cue, following in zip(cues, [*cues[1:], None]):
    sound, rate = synthesiser.speak(cue.text)
    room_s = following.begin_s - cue.begin_s if following else np.inf
    if len(sound) / rate > room_s:
      sound, rate = synthesiser.speak(cue.text, min(FASTEST, len(sound) / rate / max(room_s, 1e-3) * 1.03))
    if len(sound) / rate > room_s + 0.05:
      raise InputError(f'{path}: the subtitle at {cue.begin_s:.2f} s takes {len(sound) / rate:.2f} s to say even {FASTEST} times '
                       f'as fast, the next one comes after {room_s:.2f} s; shorten it or move the next one: {cue.text[:40]!r}')
    parts.append((cue.begin_s, sound))
  length = round(cues[-1].end_s * rate)
  placed = [(round(begin_s * rate), sound) for begin_s, sound in parts]
  whole = np.zeros(max(length, *(at + len(sound) for at, sound in placed)), np.int16)
  for at, sound in placed:
    whole[at:at + len(sound)] = sound
  return whole, rate


def read_srt(content: str, path: str) -> list[Cue]:
  """The cues of a .srt with words in them, in order of time.

  Raises:
    InputError: there is none, or a time makes no sense.
  """
  cues: list[Cue] = []
  lines = content.splitlines()
  starts = [number for number, line in enumerate(lines) if '-->' in line]
  for number, after in zip(starts, [*starts[1:], len(lines) + 1]):
    found = CUE.search(lines[number])
    if not found:
      raise InputError(f'{path}: line {number + 1} is no time of a subtitle: {lines[number][:40]!r}; it must be '
                       '00:00:01,000 --> 00:00:03,500')
    begin_s, end_s = (int(h or 0) * 3600 + int(m) * 60 + int(s) + int(ms.ljust(3, '0')) / 1000
                      for h, m, s, ms in (found.groups()[:4], found.groups()[4:]))
    if end_s > media.MAX_S:
      raise InputError(f'{path}: line {number + 1}: the subtitle lasts {end_s / 3600:.4g} h; give up to {media.MAX_S // 3600} h: '
                       f'{lines[number][:40]!r}')
    if end_s <= begin_s:
      raise InputError(f'{path}: line {number + 1}: the subtitle ends before it begins: {lines[number][:40]!r}')
    said = [line for line in lines[number + 1:after - 1] if line.strip()]
    text = re.sub(r'<[^>]*>|\{[^}]*\}', '', ' '.join(said)).strip()
    if any(character.isalnum() for character in text):
      cues.append(Cue(begin_s, end_s, text))
  if not cues:
    raise InputError(f'{path}: holds no subtitle; a .srt has a number, a line 00:00:01,000 --> 00:00:03,500 and words')
  return sorted(cues, key=lambda cue: cue.begin_s)
