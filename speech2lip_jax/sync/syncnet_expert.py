"""SyncNet as expert (`speech2lip convert --kind syncnet`): it looks at the lower half of the face."""
import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np

from speech2lip_jax.common import checksums
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.weights import Tree, load_for, shapes_of
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.data.mel import mel_crop
from speech2lip_jax.models.syncnet import SyncNet, lower_half_window

WEIGHTS_FILE, EXPERT_FILE = 'weights.npz', 'expert.json'


def read_facts(folder: os.PathLike | str, remedy: str) -> dict[str, Any]:
  """What expert.json says, its kind above all, after a look at the checksum of the weights.

  Raises:
    InputError: one of the two is damaged; `remedy` ends the message.
  """
  path, weights = pathlib.Path(folder, EXPERT_FILE), pathlib.Path(folder, WEIGHTS_FILE)
  facts = checksums.read_record(path, remedy)
  if not isinstance(facts.get('kind'), str):
    raise InputError(f'{path}: damaged (it does not say its kind); {remedy}')
  if 'weights_blake2b' in facts and weights.is_file() and checksums.of_file(weights) != facts['weights_blake2b']:
    raise InputError(f'{weights}: damaged, its checksum is not the one in {EXPERT_FILE}; {remedy}')
  return facts


def load_syncnet(folder: os.PathLike | str) -> Tree:
  """Variables of `SyncNet`, batch_stats included, float32.

  Args:
    folder: of `speech2lip convert --kind syncnet`: weights.npz and expert.json, whose kind says 'syncnet'.

  Raises:
    InputError: no such folder, the expert is of another kind, or these are not its weights.
  """
  remedy = 'make it by speech2lip convert --kind syncnet'
  description = pathlib.Path(folder, EXPERT_FILE)
  if not description.is_file():
    raise InputError(f'{description}: no such file; {remedy}')
  kind = read_facts(folder, remedy)['kind']
  if kind != 'syncnet':
    raise InputError(f"{description}: kind is {kind!r}, expected 'syncnet'; {remedy}")
  return load_for(SyncNet(), pathlib.Path(folder, WEIGHTS_FILE), remedy, *shapes_of((1, 48, 96, 15), (1, 16, 80)))


FACE_SIZE = 96  # pixels of the square face that SyncNet looks at


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SyncNetExpert:
  """SyncNet (`speech2lip convert --kind syncnet`): it looks at the lower half of the face, so at frames with lips carried in."""
  variables: Any

  def embed_faces(self, rgb_face: jax.Array, face_box: jax.Array) -> jax.Array:
    """[V, 512] of windows of 5 frames.

    Args:
      rgb_face: [5·V, H, W, 3] float32 0 … 1.
      face_box: [5·V, 4] float32 (top, left, bottom, right) pixels, the face in each.
    """
    def crop(rgb, box):
      size = FACE_SIZE / (box[2:] - box[:2])
      return jax.image.scale_and_translate(rgb, (FACE_SIZE, FACE_SIZE, 3), (0, 1), size, -box[:2] * size, 'linear', antialias=False)
    faces = jax.vmap(crop)(rgb_face, face_box).reshape(-1, schema.SYNC_FRAMES, FACE_SIZE, FACE_SIZE, 3)
    return SyncNet().apply(self.variables, lower_half_window(faces), method='embed_face')

  def embed_speech(self, subject: Subject, first_frames: np.ndarray) -> np.ndarray:
    """[n, 512] float32 of the subject's own speech during the 5 frames from each of `first_frames` [n] on."""
    clip_ids, windows = subject.clip_of_frames(first_frames), []
    for frame, clip_id in zip(first_frames, clip_ids, strict=True):
      clip = subject.meta.clips[clip_id]
      windows.append(mel_crop(subject.mel[clip.mel_start:clip.mel_start + clip.num_mel], frame - clip.start, schema.SYNC_MEL_STEPS))
    embed = jax.jit(lambda variables, mel: SyncNet().apply(variables, mel, method='embed_mel'))
    padded = np.pad(np.stack(windows), [(0, -len(windows) % 64), (0, 0), (0, 0)])
    chunks = [np.asarray(embed(self.variables, padded[start:start + 64])) for start in range(0, len(padded), 64)]
    return np.concatenate(chunks)[:len(windows)]


def face_boxes(subject: Subject) -> np.ndarray:
  """(top, left, bottom, right) pixels of each frame's face from its landmarks, [N, 4] float32.

  Raises:
    InputError: the subject has no landmarks, as one imported without a landmark model.
  """
  if not np.isfinite(subject.landmarks).all():
    raise InputError(f'{subject.folder}/landmarks.npy: has no landmarks to tell faces by; train the sync loss with an expert of '
                     'speech2lip expert')
  low, high = subject.landmarks.min(1)[:, ::-1], subject.landmarks.max(1)[:, ::-1]
  return np.concatenate([low, high], 1).astype(np.float32)
