"""A trained person to program with: what `speech2lip render`, the app, and others' programs call.

    person = speech2lip_jax.open_person('talk.speech2lip')
    for picture in person.say('speech.wav'):
      ...  # [H, W, 3] uint8 RGB, 25 a second
    person.say('speech.wav').write('said.mp4')
"""
import os
from typing import Any

import numpy as np

from speech2lip_jax.data import schema
from speech2lip_jax.data.utterance import Utterance, read_utterance
from speech2lip_jax.provenance.origin import DISCLOSED, Disclosure
from speech2lip_jax.rendering import pose as pose_module
from speech2lip_jax.rendering.film import Film, background_frames
from speech2lip_jax.rendering.trained import Trained, load_trained

Sound = str | os.PathLike | tuple[np.ndarray, int] | Utterance


class Person:
  """A trained person. workdir: the folder that they were trained in."""

  def __init__(self, trained: Trained, workdir: os.PathLike | str, disclosure: Disclosure = DISCLOSED):
    """disclosure: what pictures of the person say of themselves."""
    self.trained, self.workdir, self._disclosure = trained, os.fspath(workdir), disclosure
    self._origin = disclosure.origin(workdir, trained.digest)

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of a picture, pixels."""
    return self.trained.subject.meta.height, self.trained.subject.meta.width

  def say(self, sound: Sound, *, clip: str | None = None, pose: str | pose_module.PoseSpec | None = None,
          features: str | None = None) -> Film:
    """The person saying a sound.

    Args:
      sound: a file with sound, or (samples, samples a second): samples [n] or [channels, n], float in −1 … 1 or int16.
      clip: which of the subject's clips the head moves as in, by name, or 'all'; the longest one if not given.
      pose: where the head is to be, as `render --pose` has it.
      features: the .npy of the sound's features, for a model that was trained on features from a file.

    Raises:
      InputError: the sound cannot be read or used, there is no such clip, or the pose or the features do not fit.
    """
    speech = heard(sound)
    wanted = pose_module.parse(pose) if isinstance(pose, str) else pose
    count = max(1, round(speech.seconds * schema.FPS))
    frame_ids = background_frames(self.trained.subject, count, clip)
    mouths = self.trained.sound_mouths(speech.mono, count, features)
    return Film(self.trained, frame_ids, mouths, speech.sound, speech.rate, wanted, self._origin)

  def held_out(self, *, pose: str | pose_module.PoseSpec | None = None) -> Film:
    """The frames that training never saw, with their own sound. pose: as of `say`."""
    frame_ids = self.trained.split.test
    sound = self.trained.subject.sound[frame_ids].reshape(1, -1)
    wanted = pose_module.parse(pose) if isinstance(pose, str) else pose
    return Film(self.trained, frame_ids, self.trained.subject_mouths(frame_ids), sound, schema.SAMPLE_RATE, wanted, self._origin)

  def dub(self, video: os.PathLike | str, sound: Sound, out: os.PathLike | str, **options: Any) -> list[str]:
    """Writes a video of the person, at its own size and rate, in which they say the sound: `speech2lip dub` with this model.

    Args:
      video: one that the person was trained on, or another one, which is then tracked first.
      sound: as of `say`.
      out: the file to write, .mp4, or .mov with codec='prores'.
      options: of `dubbing.job.Options`, the flags of the verb: fit, start_s, segments, keep_original, crf, codec, landmarker.

    Returns:
      Lines about what was written, as the verb prints them.

    Raises:
      InputError: an option, the video or the sound cannot be used, or the video shows somebody else.
    """
    from speech2lip_jax.dubbing import job
    settings = job.Options(**options)._replace(disclosure=self._disclosure)
    said = job.Said(job.dub_file(os.fspath(out), settings.codec), heard(sound))
    return list(job.dub(os.fspath(video), [said], self.workdir, settings, self.trained))


def heard(sound: Sound) -> Utterance:
  """A sound as the program takes it. See `Person.say`.

  Raises:
    InputError: it cannot be read or used.
  """
  if isinstance(sound, Utterance):
    return sound
  if isinstance(sound, tuple):
    return Utterance.of(*sound)
  return read_utterance(os.fspath(sound))


def open_person(workdir: os.PathLike | str, batch_size: int = 8, disclosure: Disclosure = DISCLOSED) -> Person:
  """The person that was trained in a folder, with the checkpoint that was best on the validation part.

  Args:
    workdir: of `speech2lip train`, or the .speech2lip of `speech2lip dub`.
    batch_size: pictures that a device paints at once; the first picture waits for so many.
    disclosure: what pictures of the person say of themselves: by default tags, a manifest and an invisible mark.

  Raises:
    InputError: no workdir, no checkpoint in it yet, its subject folder is gone or changed, or a certificate cannot be used.
  """
  disclosure.signer()  # a bad certificate is told first
  return Person(load_trained(os.fspath(workdir), batch_size), workdir, disclosure)
