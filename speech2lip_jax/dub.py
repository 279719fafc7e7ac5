"""Gives a person's own video back, at its own size and frame rate, saying something else.

    speech2lip dub --video take.mov --audio new.wav --out dubbed.mp4
    speech2lip dub --video take.mov --text 'Hello again.' --voice en-gb --out dubbed.mp4
    speech2lip dub --video take.mov --audio fixed.wav --fit video --segments 00:10-00:14.2 --out corrected.mp4
    speech2lip dub --video another.mov --workdir runs/anna --audio a.wav,b.wav --out dubbed/

The whole way: the video is prepared, the person trained where --workdir holds no trained one, and the video painted. Only the
mouth's surroundings change; where the mouth is covered or the face away, nothing does. Stopped and started again, it goes on.
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import (
  AUDIO,
  BATCH_SIZE,
  CERTIFICATE,
  CONSENT,
  FEATURES,
  KEY,
  LABEL,
  LANDMARKER,
  OUT,
  PROVENANCE,
  SIZE,
  VIDEO,
  WORKDIR,
  split,
)

_TEXT = flags.DEFINE_string('text', None, 'What is to be said as text, a .txt or a .srt (each line is spoken at its time), where a '
                            'speech synthesiser is installed.')
_VOICE = flags.DEFINE_string('voice', None, "For --text: a language or voice of espeak-ng, 'en' or 'fr-fr', or a neural "
                             'voice of Piper, FILE.onnx.')
_FIT = flags.DEFINE_enum('fit', 'loop', ['loop', 'video'], "How long it is: 'loop', as the sound, the video playing back and "
                         "forth; 'video', as the video, the sound cut or followed by silence.")
_START = flags.DEFINE_float('start', 0.0, 'Where in the video the dub begins, seconds; not beside --segments.', lower_bound=0.0)
_SEGMENTS = flags.DEFINE_string('segments', None, 'Where alone the mouth changes, as 00:10-00:14.2, several with commas. A sound '
                                'as long as the video stays in place, any other fills them, and is cut where it is longer.')
_KEEP_ORIGINAL = flags.DEFINE_bool('keep_original', True, "Beside --segments the video's own sound is heard.")
_CRF = flags.DEFINE_integer('crf', 17, 'Quality of the pictures, 0 … 51: lower is better.', lower_bound=0, upper_bound=51)
_CODEC = flags.DEFINE_enum('codec', 'h264', ['h264', 'hevc', 'prores', 'png'], 'Of the result: h264 and hevc in an mp4, prores in '
                           'a mov, png in a folder of numbered pictures.')
_ALPHA = flags.DEFINE_bool('alpha', False, 'The painted mouth as a layer with alpha, to be laid over the source: for --codec '
                           'prores and png.')
flags.declare_key_flag('video')
flags.declare_key_flag('audio')
flags.declare_key_flag('out')
flags.declare_key_flag('workdir')
flags.declare_key_flag('size')
flags.declare_key_flag('landmarker')
flags.declare_key_flag('consent')
flags.declare_key_flag('batch_size')
flags.declare_key_flag('features')
flags.declare_key_flag('provenance')
flags.declare_key_flag('label')
flags.declare_key_flag('certificate')
flags.declare_key_flag('key')


def main() -> None:
  """The verb."""
  if not VIDEO.value or len(VIDEO.value) != 1:
    raise InputError('--video is needed, one video file')
  if not OUT.value:
    raise InputError('--out is missing: the FILE to write, or the folder for several')
  if bool(AUDIO.value) == bool(_TEXT.value):
    raise InputError('give either --audio FILE or --text TEXT')
  if _SEGMENTS.value and _FIT.value == 'loop' and flags.FLAGS['fit'].present:
    raise InputError('--segments corrects the whole video; leave --fit=loop out')
  from speech2lip_jax.common import media
  for file in [VIDEO.value[0], *split([AUDIO.value] if AUDIO.value else [])]:
    media.check_file(file)
  from speech2lip_jax.dubbing import job
  from speech2lip_jax.provenance.origin import Disclosure
  disclosure = Disclosure(PROVENANCE.value, LABEL.value, CERTIFICATE.value, KEY.value)
  disclosure.signer()  # a bad certificate is told first
  if AUDIO.value:
    said = job.listen(split([AUDIO.value]), OUT.value, _CODEC.value)
  else:
    said = job.speak(_TEXT.value or '', _VOICE.value, OUT.value, _CODEC.value)
  options = job.Options(
      fit='video' if _SEGMENTS.value else _FIT.value, start_s=_START.value, segments=_SEGMENTS.value,
      keep_original=_KEEP_ORIGINAL.value, crf=_CRF.value, codec=_CODEC.value, alpha=_ALPHA.value, size=SIZE.value,
      landmarker=LANDMARKER.value,
      batch_size=BATCH_SIZE.value, features=FEATURES.value, disclosure=disclosure, consent=CONSENT.value)
  for line in job.dub(VIDEO.value[0], said, WORKDIR.value, options):
    print(line)


if __name__ == '__main__':
  cli.run_verb('dub', sys.modules[__name__], sys.argv)
