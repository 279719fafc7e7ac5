"""Writes what other programs take: the head's poses and landmarks as JSON, and the painted lips as pictures.

    speech2lip export --workdir runs/anna --out anna_export
    speech2lip export --workdir runs/anna --audio speech.wav --out anna_export

OUT/track.json says where the head and its 478 landmarks are in each tracked picture of the subject's videos. With --audio,
OUT/lips/000000.png … are the canonical lips of 25 pictures a second, with alpha. Full frames are written
by dub --codec png or prores, and with --alpha the mouth as a layer (docs/dubbing.md).
"""
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import AUDIO, BATCH_SIZE, FEATURES, OUT, PROVENANCE, WORKDIR

flags.declare_key_flag('workdir')
flags.declare_key_flag('audio')
flags.declare_key_flag('batch_size')
flags.declare_key_flag('features')
flags.declare_key_flag('out')
flags.declare_key_flag('provenance')


def main() -> None:
  """The verb."""
  if not WORKDIR.value or not OUT.value:
    raise InputError('--workdir (of a training run) and --out (a folder) are needed')
  if FEATURES.value and not AUDIO.value:
    raise InputError(f'--features={FEATURES.value}: are those of a sound; give it with --audio FILE')
  out = pathlib.Path(OUT.value)
  if out.is_file():
    raise InputError(f'--out={out}: is a file; give a folder')
  from speech2lip_jax.data.dataset import load_subject
  from speech2lip_jax.data.utterance import read_utterance
  from speech2lip_jax.workdir import config_file
  speech = read_utterance(AUDIO.value) if AUDIO.value else None  # a bad file is told before anything heavy is loaded
  config = config_file.read_config(WORKDIR.value)
  config_file.check_subject(WORKDIR.value, config.data.path)
  subject = load_subject(config.data.path)
  from speech2lip_jax.rendering import export
  out.mkdir(parents=True, exist_ok=True)
  export.write_track(subject, out / 'track.json')
  print(f'{out / "track.json"}: {subject.meta.num_frames} frames')
  if speech:
    from speech2lip_jax.provenance.origin import Disclosure
    from speech2lip_jax.rendering.person import open_person
    person = open_person(WORKDIR.value, BATCH_SIZE.value, Disclosure(PROVENANCE.value))
    count = export.write_lips(person.say(speech, features=FEATURES.value), out / 'lips')
    box = subject.meta.lip_box
    print(f'{out / "lips"}: {count} pictures of {box.width}×{box.height}')


if __name__ == '__main__':
  cli.run_verb('export', sys.modules[__name__], sys.argv)
