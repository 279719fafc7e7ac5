"""Renders a trained subject saying something, or its held-out frames.

    speech2lip render --workdir runs/anna --audio speech.wav --out anna.mp4
    speech2lip render --workdir runs/anna --split test --out held_out.mp4

The head moves as in the subject's longest clip; --pose moves it otherwise.
"""
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import AUDIO, BATCH_SIZE, FEATURES, OUT, WORKDIR

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
  from speech2lip_jax.data import schema
  from speech2lip_jax.data.utterance import read_utterance
  speech = read_utterance(AUDIO.value) if AUDIO.value else None  # a bad file is told before anything heavy is loaded
  from speech2lip_jax.common import devices
  from speech2lip_jax.rendering import pose
  from speech2lip_jax.rendering.film import render_audio, render_test
  from speech2lip_jax.rendering.trained import load_trained
  wanted = pose.parse(_POSE.value) if _POSE.value else None
  trained = load_trained(WORKDIR.value, BATCH_SIZE.value)
  devices.announce()
  with devices.memory_explained(f'lower --batch_size (now {BATCH_SIZE.value})'):
    if speech:
      count = render_audio(trained, speech, OUT.value, _CLIP.value, wanted, FEATURES.value)
    else:
      count = render_test(trained, OUT.value, wanted)
  print(f'{OUT.value}: {count} frames, {count / schema.FPS:.2f} s, checkpoint of step {trained.step}')
  if not speech:
    print(usage.next_command('evaluate', workdir=WORKDIR.value, out=f'{WORKDIR.value}/eval'))


if __name__ == '__main__':
  cli.run_verb('render', sys.modules[__name__], sys.argv)
