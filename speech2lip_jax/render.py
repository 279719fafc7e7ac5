"""Renders a trained subject saying something: `speech2lip render --workdir RUN --audio FILE --out FILE.mp4`.

With --split test instead of --audio: the held-out frames with their own sound. With --pose the head is moved: see `pose`.
"""
import sys
from typing import NamedTuple

import jax
import numpy as np
from absl import flags, logging
from scipy.io import wavfile
from tqdm import tqdm

from speech2lip_jax import cli, media, pose, silence
from speech2lip_jax.common_flags import OUT, WORKDIR
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, back_and_forth
from speech2lip_jax.devices import memory_explained
from speech2lip_jax.errors import InputError
from speech2lip_jax.predict import Trained, load_trained

_AUDIO = flags.DEFINE_string('audio', None, 'Any sound or video file: what the person is to say.')
_SPLIT = flags.DEFINE_enum('split', None, ['test'], 'Render the held-out frames with their own sound.')
_FEATURES = flags.DEFINE_string('features', None,
                                'The .npy of the features of --audio, where the model was trained on features from a file.')
_CLIP = flags.DEFINE_string('clip', None, "The clip to play under --audio by name, or 'all'; the longest one if not given.")
_POSE = flags.DEFINE_string('pose', None, "Where the head is to be: 'still', 'offset:yaw=10,x=0.05', 'sine:yaw=10,period=4' or "
                            "'track:SUBJECT[/CLIP]'; yaw, pitch, roll in degrees, x, y, z in picture widths, period in "
                            'seconds. Good up to 15 degrees and 10 %.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Frames a device renders at once.', lower_bound=1)


def background_frames(subject: Subject, count: int, clip_name: str | None) -> np.ndarray:
  """The frames to paint on, [count]: one clip (the longest by default) back and forth, or all clips one after another.

  Raises:
    InputError: no clip has that name.
  """
  clips = subject.meta.clips
  if clip_name == 'all':
    ids = np.arange(subject.meta.num_frames)
  else:
    chosen = [clip for clip in clips if clip.name == clip_name] if clip_name else [max(clips, key=lambda c: c.num_frames)]
    if not chosen:
      names = ', '.join(clip.name for clip in clips[:8]) + (' …' if len(clips) > 8 else '')
      raise InputError(f"--clip={clip_name}: {subject.folder} has no such clip; one of: {names}, or 'all'")
    ids = np.arange(chosen[0].start, chosen[0].start + chosen[0].num_frames)
  return ids[back_and_forth(len(ids), count)]


class Speech(NamedTuple):
  """What is to be said. sound: [channels, n] int16 at `rate`, as in the file; mono: [m] int16, 16 kHz."""
  sound: np.ndarray
  rate: int
  mono: np.ndarray


def read_speech(path: str) -> Speech:
  """Decodes a sound or video file.

  Raises:
    InputError: it cannot be read.
  """
  mono, _ = media.read_sound(path, schema.SAMPLE_RATE, mono=True)
  return Speech(*media.read_sound(path), mono[0])


def render_audio(trained: Trained, speech: Speech, out: str, clip_name: str | None = None,
                 wanted: pose.PoseSpec | None = None, features_file: str | None = None) -> int:
  """Writes `out`, an mp4 as long as the sound, the head at the wanted poses; returns its number of frames.

  features_file: the .npy of the sound's features, for a model that was trained on features from a file.
  """
  count = max(1, round(speech.sound.shape[1] / speech.rate * schema.FPS))
  frame_ids = background_frames(trained.subject, count, clip_name)
  codes = trained.sound_codes(speech.mono, count, features_file)
  write_video(trained, frame_ids, codes, out, speech.sound, speech.rate, wanted)
  return count


def render_test(trained: Trained, out: str, wanted: pose.PoseSpec | None = None) -> int:
  """Writes the held-out frames with their own sound, the head at the wanted poses; returns their number."""
  frame_ids = trained.split.test
  rate, sound = wavfile.read(trained.subject.folder / 'audio.wav', mmap=True)
  sound = sound.reshape(-1, schema.SAMPLES_PER_FRAME)[frame_ids].reshape(1, -1)
  write_video(trained, frame_ids, trained.subject_codes(frame_ids), out, sound, rate, wanted)
  return len(frame_ids)


def write_video(trained: Trained, frame_ids: np.ndarray, codes: silence.Codes, out: str, sound: np.ndarray, rate: int,
                wanted: pose.PoseSpec | None = None) -> None:
  """Writes `out`: the frames [n] saying codes [n], with the sound [channels, m] int16 at `rate`; heads at the wanted poses."""
  meta = trained.subject.meta
  if wanted is None:
    predictions = trained.predictor.from_codes(frame_ids, codes)
  else:
    targets = pose.target_poses(wanted, trained.subject, frame_ids)
    if warning := pose.warning(trained.subject, frame_ids, targets):
      logging.warning(warning)
    predictions = trained.predictor.from_codes_at_poses(frame_ids, codes, targets)
  with media.Mp4Writer(out, meta.height, meta.width, schema.FPS, sound, rate) as writer:
    for prediction in tqdm(predictions, total=len(frame_ids), unit='frame', dynamic_ncols=True):
      writer.write(prediction.rgb_face)


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not WORKDIR.value or not OUT.value:
    raise InputError('--workdir (of a training run) and --out (FILE.mp4) are needed')
  if (_AUDIO.value is None) == (_SPLIT.value is None):
    raise InputError('give either --audio FILE or --split test')
  if _FEATURES.value and not _AUDIO.value:
    raise InputError(f'--features={_FEATURES.value}: are those of a sound; give it with --audio FILE')
  if not OUT.value.endswith('.mp4'):
    raise InputError(f'--out={OUT.value}: must end in .mp4')
  wanted = pose.parse(_POSE.value) if _POSE.value else None
  speech = read_speech(_AUDIO.value) if _AUDIO.value else None  # a bad file is told before the model loads
  trained = load_trained(WORKDIR.value, _BATCH_SIZE.value)
  with memory_explained(f'lower --batch_size (now {_BATCH_SIZE.value})'):
    if speech:
      count = render_audio(trained, speech, OUT.value, _CLIP.value, wanted, _FEATURES.value)
    else:
      count = render_test(trained, OUT.value, wanted)
  print(f'{OUT.value}: {count} frames, {count / schema.FPS:.2f} s, checkpoint of step {trained.step}, '
        f'{jax.local_device_count()} {jax.local_devices()[0].platform} device(s)')


if __name__ == '__main__':
  cli.run_verb('render', sys.modules[__name__], sys.argv)
