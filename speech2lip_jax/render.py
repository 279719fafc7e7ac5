"""Renders a trained subject saying something, or its held-out frames.

    speech2lip render --workdir runs/anna --audio speech.wav --out anna.mp4
    speech2lip render --workdir runs/anna --split test --out held_out.mp4

The head moves as in the subject's longest clip; --pose moves it otherwise. With --distributed several processes, which must see
one disk, render a part of the frames each.
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import (
  AUDIO,
  BATCH_SIZE,
  CERTIFICATE,
  DISTRIBUTED_FLAGS,
  FEATURES,
  KEY,
  LABEL,
  OUT,
  PROVENANCE,
  WORKDIR,
)

_SPLIT = flags.DEFINE_enum('split', None, ['test'], 'Render the held-out frames with their own sound.')
_CLIP = flags.DEFINE_string('clip', None, "The clip to play under --audio by name, or 'all'; the longest one if not given.")
_POSE = flags.DEFINE_string('pose', None, "Where the head is to be: 'still', 'offset:yaw=10,x=0.05', 'sine:yaw=10,period=4' or "
                            "'track:SUBJECT[/CLIP]'; yaw, pitch, roll in degrees, x, y, z in picture widths, period in "
                            'seconds. Good up to 15 degrees and 10 %.')
flags.declare_key_flag('workdir')
flags.declare_key_flag('audio')
flags.declare_key_flag('batch_size')
flags.declare_key_flag('features')
flags.declare_key_flag('out')
flags.declare_key_flag('provenance')
flags.declare_key_flag('label')
flags.declare_key_flag('certificate')
flags.declare_key_flag('key')
for _name in DISTRIBUTED_FLAGS:
  flags.declare_key_flag(_name)


def main() -> None:
  """The verb."""
  if not WORKDIR.value or not OUT.value:
    raise InputError('--workdir (of a training run) and --out (FILE.mp4) are needed')
  if (AUDIO.value is None) == (_SPLIT.value is None):
    raise InputError('give either --audio FILE or --split test')
  if FEATURES.value and not AUDIO.value:
    raise InputError(f'--features={FEATURES.value}: are those of a sound; give it with --audio FILE')
  if not OUT.value.endswith('.mp4'):
    raise InputError(f'--out={OUT.value}: must end in .mp4')
  from speech2lip_jax.common import processes
  with processes.joined():
    _render(WORKDIR.value, OUT.value)


def _render(workdir: str, out: str) -> None:
  from speech2lip_jax.data.utterance import read_utterance
  from speech2lip_jax.provenance.origin import Disclosure
  speech = read_utterance(AUDIO.value) if AUDIO.value else None  # a bad file is told before anything heavy is loaded, and so is
  disclosure = Disclosure(PROVENANCE.value, LABEL.value, CERTIFICATE.value, KEY.value)
  disclosure.signer()  # a bad certificate
  import jax

  from speech2lip_jax.common import devices
  from speech2lip_jax.common.progress import stage
  from speech2lip_jax.rendering import pose
  from speech2lip_jax.rendering.person import open_person
  wanted = pose.parse(_POSE.value) if _POSE.value else None
  person = open_person(workdir, BATCH_SIZE.value, disclosure)
  devices.announce()
  with devices.memory_explained(f'lower --batch_size (now {BATCH_SIZE.value})'):
    with stage('audio embeddings', show=jax.process_index() == 0):
      film = (person.say(speech, clip=_CLIP.value, pose=wanted, features=FEATURES.value) if speech
              else person.held_out(pose=wanted))
    film.write(out)
  if jax.process_index():
    return
  print(f'{out}: {len(film)} frames, {film.seconds:.2f} s, checkpoint of step {person.trained.step}')
  if not speech:
    print(usage.next_command('evaluate', workdir=workdir, out=f'{workdir}/eval'))


if __name__ == '__main__':
  cli.run_verb('render', sys.modules[__name__], sys.argv)
