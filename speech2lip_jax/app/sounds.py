"""What comes from outside and is to be said, made a file of the person."""
import pathlib

import av
from scipy.io import wavfile

from speech2lip_jax.common import media
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.dubbing.text import find_synthesiser

# FFmpeg's names of what is taken. Play lists are not: they would have it read other files of this machine.
FORMATS = ('wav', 'mp3', 'flac', 'ogg', 'aac', 'aiff', 'mov', 'matroska', 'avi', 'mpeg', 'mpegts', 'asf', 'w64', 'caf', 'amr', 'au')


def checked(path: pathlib.Path) -> pathlib.Path:
  """A file of a sound or video that is taken from outside.

  Raises:
    InputError: it is none, and is removed.
  """
  options = {'protocol_whitelist': 'file', 'format_whitelist': ','.join(FORMATS)}
  try:
    media.check_file(str(path), 'sound file')
    with av.open(f'file:{path}', options=options, metadata_errors='replace'):
      return path
  except InputError:
    path.unlink()
    raise
  except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
    path.unlink()
    raise InputError(f'{path.name}: no sound or video of a kind that is taken; give wav, mp3, m4a, ogg, flac, mp4, mov or webm'
                     ) from error


def spoken_file(path: pathlib.Path) -> pathlib.Path:
  """The words of a text file, spoken; it is removed. See `spoken`."""
  words = path.read_text(encoding='utf-8', errors='replace')
  path.unlink()
  return spoken(words, path)


def spoken(text: str, path: pathlib.Path, voice: str | None = None) -> pathlib.Path:
  """Speaks a text into a file, in the folder and by the stem of `path`.

  Raises:
    InputError: there is nothing to say, or nothing to say it with.
  """
  if not any(character.isalnum() for character in text):
    raise InputError('the text has no words; give some')
  sound, rate = find_synthesiser(voice or None).speak(text)  # not dubbing.text.speak, which opens what looks like a file's name
  with open_atomic(path.with_suffix('.wav')) as file:
    wavfile.write(file, rate, sound)
  return path.with_suffix('.wav')
