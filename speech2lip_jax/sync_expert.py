"""A trained sync expert on disk and at work: a folder with expert.json and weights.npz, for the loss and for metrics."""
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.io import wavfile

from speech2lip_jax.atomic import write_text
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, subject_mel_windows
from speech2lip_jax.data.input_pipeline import SyncSampler
from speech2lip_jax.data.mel import mel_crop
from speech2lip_jax.data.voice_activity import speech_frames
from speech2lip_jax.errors import InputError
from speech2lip_jax.frozen import load_syncnet
from speech2lip_jax.metrics import sync
from speech2lip_jax.models import sync_expert
from speech2lip_jax.models.syncnet import SyncNet, lower_half_window
from speech2lip_jax.weights import load_tree, save_tree

HALF_WINDOW = schema.SYNC_FRAMES // 2
FACE_SIZE = 96  # pixels of the square face that SyncNet looks at


@functools.partial(jax.tree_util.register_dataclass, data_fields=('params', 'mean_grey', 'deviation'),
                   meta_fields=('lip_size', 'stride', 'num_features', 'width'))
@dataclasses.dataclass(frozen=True)
class Expert:
  """An expert of one subject, a pytree of its weights.

  lip_size: (height, width) of its lip box. mean_grey: [h, w] and deviation: scalar, of training pictures.
  """
  lip_size: tuple[int, int]
  stride: int
  num_features: int
  width: int
  params: Any
  mean_grey: np.ndarray
  deviation: np.ndarray

  @property
  def model(self) -> sync_expert.SyncExpert:
    return sync_expert.SyncExpert(self.num_features, self.width)

  def pictures(self, rgb_lip: jax.Array) -> jax.Array:
    """The expert's view [B, F, rows, columns] of whole canonical lips [B, F, h, w, 3] float32 0 … 1."""
    phase = jnp.full(2, (self.stride - 1) // 2)
    pixels = sync_expert.lattice_pixels(self.lip_size, self.stride, phase)
    return self.pictures_of_pixels(rgb_lip.reshape(*rgb_lip.shape[:2], -1, 3)[:, :, pixels], pixels)

  def pictures_of_pixels(self, rgb: jax.Array, pixels: jax.Array) -> jax.Array:
    """The same from the lattice's colours rgb [..., P, 3] at `pixels` [..., P] (`sync_expert.lattice_pixels`)."""
    normal = (sync_expert.grey(rgb) - jnp.asarray(self.mean_grey).reshape(-1)[pixels]) / self.deviation
    return normal.reshape(*normal.shape[:-1], *sync_expert.lattice_size(self.lip_size, self.stride))

  def embed_mouth(self, pictures: jax.Array) -> jax.Array:
    """[B, F − 4, E] of pictures [B, F, rows, columns]."""
    return self.model.apply({'params': self.params}, pictures, method='embed_mouth')

  @functools.cached_property
  def _jitted(self):
    """(lips [n, h, w, 3] uint8 → embeddings, mel windows → embeddings), compiled once."""
    return (jax.jit(lambda lips: self.embed_mouth(self.pictures(lips[None] / 255.0))[0]), jax.jit(self.embed_mel))

  def embed_mel(self, mel: jax.Array) -> jax.Array:
    """[B, E] of mel windows [B, 16, 80]."""
    return self.model.apply({'params': self.params}, mel, method='embed_mel')

  def embed_lips(self, rgb_lip: np.ndarray) -> np.ndarray:
    """[n − 4, E] float32 of n consecutive canonical lip images [n, h, w, 3] uint8."""
    padded = np.pad(rgb_lip, [(0, -len(rgb_lip) % 128), (0, 0), (0, 0), (0, 0)])  # few shapes, few compilations
    return np.asarray(self._jitted[0](padded))[:max(0, len(rgb_lip) - 2 * HALF_WINDOW)]

  def embed_speech(self, subject: Subject, first_frames: np.ndarray) -> np.ndarray:
    """[n, E] float32 of the subject's own speech during the 5 frames from each of `first_frames` [n] on."""
    windows = subject_mel_windows(subject, np.asarray(first_frames) + HALF_WINDOW, schema.SYNC_MEL_STEPS)
    padded = np.pad(windows, [(0, -len(windows) % 512), (0, 0), (0, 0)])
    return np.concatenate([np.asarray(self._jitted[1](padded[i:i + 512])) for i in range(0, len(padded), 512)])[:len(windows)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Committee:
  """Experts of one subject that judge together: cosines of its embeddings are the means of theirs.

  What one expert likes without reason the others do not, so that a mouth is improved for experts that it never met.
  """
  members: tuple[Expert, ...]

  @property
  def stride(self) -> int:
    return self.members[0].stride

  def pictures_of_pixels(self, rgb: jax.Array, pixels: jax.Array) -> list[jax.Array]:
    """Each member's pictures, `Expert.pictures_of_pixels`."""
    return [member.pictures_of_pixels(rgb, pixels) for member in self.members]

  def embed_mouth(self, pictures: list[jax.Array]) -> jax.Array:
    """[V, 1, members · E] of each member's pictures."""
    embedded = [member.embed_mouth(seen) for member, seen in zip(self.members, pictures, strict=True)]
    return jnp.concatenate(embedded, -1) / len(self.members)**0.5

  def embed_speech(self, subject: Subject, first_frames: np.ndarray) -> np.ndarray:
    """[n, members · E] float32; see `Expert.embed_speech`."""
    embedded = [member.embed_speech(subject, first_frames) for member in self.members]
    return np.concatenate(embedded, -1) / np.float32(len(self.members)**0.5)


def save_expert(folder: os.PathLike | str, expert: Expert, record: dict[str, Any]) -> None:
  """Writes weights.npz and expert.json; `record` tells how it was made."""
  folder = pathlib.Path(folder)
  save_tree(folder / 'weights.npz', {'params': expert.params, 'mean_grey': expert.mean_grey, 'deviation': expert.deviation})
  facts = {'kind': 'own', 'lip_size': expert.lip_size, 'stride': expert.stride, 'num_features': expert.num_features,
           'width': expert.width}
  write_text(folder / 'expert.json', json.dumps(facts | record, indent=1) + '\n')


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


def open_expert(folder: os.PathLike | str, subject: Subject) -> Expert | SyncNetExpert:
  """Opens a folder of `speech2lip expert` or of `speech2lip convert --kind syncnet` for use on a subject.

  Raises:
    InputError: no expert is there, it is damaged, or it was made for another subject's lip box.
  """
  remedy = f'make it with: speech2lip expert --subject {subject.folder} --workdir {folder}'
  path = pathlib.Path(folder, 'expert.json')
  if not path.is_file():
    raise InputError(f'{folder}: no sync expert (no expert.json); {remedy}')
  try:
    facts = json.loads(path.read_text())
    if facts['kind'] == 'syncnet':
      return SyncNetExpert(load_syncnet(folder))
    lip_size = tuple(facts['lip_size'])
    sizes = {name: facts[name] for name in ('stride', 'num_features', 'width')}
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f'{path}: damaged ({error}); {remedy}') from error
  box = subject.meta.lip_box
  if lip_size != (box.height, box.width):
    raise InputError(f'{folder}: made for a lip box of {lip_size[0]} × {lip_size[1]}, {subject.folder} has '
                     f'{box.height} × {box.width}; {remedy}')
  return Expert(lip_size=lip_size, **sizes, **load_tree(pathlib.Path(folder, 'weights.npz'), remedy))


def listed_folders(value: str) -> list[str]:
  """The folders in config.sync.expert: one, which may have commas in its own name, or several with commas between."""
  return [value] if os.path.isdir(value) else [folder for folder in value.split(',') if folder]


def open_experts(folders: Sequence[os.PathLike | str], subject: Subject) -> Expert | Committee | SyncNetExpert:
  """Opens what the sync loss asks: the expert of a folder, or those of several, who judge together.

  Raises:
    InputError: as `open_expert`; or SyncNet is among several.
  """
  experts = [open_expert(folder, subject) for folder in folders]
  if len(experts) == 1:
    return experts[0]
  if any(isinstance(expert, SyncNetExpert) for expert in experts):
    listed = ','.join(map(str, folders))
    raise InputError(f'config.sync.expert={listed}: SyncNet looks at whole faces and judges alone; give its folder only')
  return Committee(tuple(experts))


def sync_sampler(expert: Expert | Committee | SyncNetExpert, subject: Subject, frame_ids: np.ndarray, sync_config: ConfigDict,
                 seed: int) -> SyncSampler:
  """Windows among the given frames, with the expert's embeddings of their speech.

  Raises:
    InputError: no 5 of the frames are consecutive.
  """
  runs = [frame_ids[rows[:len(rows) - schema.SYNC_FRAMES + 1]] for rows in runs_of(subject, frame_ids)]
  if not runs:
    raise InputError(f'{subject.folder}: no {schema.SYNC_FRAMES} consecutive training frames for the sync loss; use longer clips, '
                     "or --config.sync.expert=''")
  firsts = np.concatenate(runs)
  embedded = expert.embed_speech(subject, firsts)
  speech = np.zeros((subject.meta.num_frames, embedded.shape[1]), np.float32)
  speech[firsts] = embedded
  return SyncSampler(speech, runs, sync_config.num_windows, sync_config.num_negatives, sync_config.max_shift, seed)


def runs_of(subject: Subject, frame_ids: np.ndarray) -> list[np.ndarray]:
  """Rows of the sorted `frame_ids`, cut where these are not consecutive frames of one clip; runs shorter than a window go."""
  cuts = np.flatnonzero((np.diff(frame_ids) != 1) | (np.diff(subject.clip_of_frames(frame_ids)) != 0)) + 1
  return [rows for rows in np.split(np.arange(len(frame_ids)), cuts) if len(rows) >= schema.SYNC_FRAMES]


def subject_activity(subject: Subject, frame_ids: np.ndarray) -> np.ndarray:
  """1 where a frame is spoken, 0 where not, [n] float32, found in the subject's own sound clip by clip."""
  _, sound = wavfile.read(subject.folder / 'audio.wav', mmap=True)
  clip_ids, activity = subject.clip_of_frames(frame_ids), np.zeros(len(frame_ids), np.float32)
  for clip_id in np.unique(clip_ids):
    clip, rows = subject.meta.clips[clip_id], clip_ids == clip_id
    samples = sound[clip.start * schema.SAMPLES_PER_FRAME:(clip.start + clip.num_frames) * schema.SAMPLES_PER_FRAME]
    activity[rows] = speech_frames(samples, clip.num_frames)[frame_ids[rows] - clip.start]
  return activity


@dataclasses.dataclass(frozen=True)
class SyncScores:
  """distances: [windows, 31], see `metrics.sync.offset_distances`; speech_share: [windows] of the 1 s window's frames that are
  speech, 0 … 1; acc5: over num_acc5 windows, see `metrics.sync.window_accuracy`."""
  distances: np.ndarray
  speech_share: np.ndarray
  acc5: float
  num_acc5: int

  def metrics(self) -> dict[str, float]:
    """sync_conf, sync_dist, sync_conf0, sync_acc5, sync_within_one, the last also over windows at least half speech (…_speech)."""
    spoken = self.distances[self.speech_share >= 0.5]
    return sync.confidences(self.distances) | {'sync_acc5': self.acc5, 'sync_within_one': sync.within_one(self.distances),
                                               'sync_within_one_speech': sync.within_one(spoken),
                                               'num_speech_windows': len(spoken)}


def sum_scores(scores: list[SyncScores]) -> SyncScores:
  """The scores of several runs as one."""
  known = [score for score in scores if score.num_acc5]
  acc5 = np.average([s.acc5 for s in known], weights=[s.num_acc5 for s in known]) if known else float('nan')
  return SyncScores(np.concatenate([s.distances for s in scores]), np.concatenate([s.speech_share for s in scores]),
                    float(acc5), sum(s.num_acc5 for s in known))


def score_lips(expert: Expert, subject: Subject, frame_ids: np.ndarray, rgb_lip: np.ndarray, activity: np.ndarray) -> SyncScores:
  """How well lips keep time with the subject's own speech.

  Args:
    expert: one that was not trained on these frames and that nothing was trained against.
    frame_ids: [n] ascending.
    rgb_lip: [n, h, w, 3] uint8 canonical lips at those frames: the true ones, or any to be judged.
    activity: [n] float, the share of speech of each frame.
  """
  scores = [SyncScores(np.zeros((0, 2 * sync.MAX_OFFSET + 1), np.float32), np.zeros(0), float('nan'), 0)]
  for rows in runs_of(subject, frame_ids):
    mouth = expert.embed_lips(rgb_lip[rows])
    speech = expert.embed_speech(subject, frame_ids[rows[:len(mouth)]])
    distances = sync.offset_distances(mouth, speech)
    seconds = np.convolve(activity[rows], np.full(schema.FPS, 1 / schema.FPS), 'same' if len(rows) < schema.FPS else 'valid')
    scores.append(SyncScores(distances, seconds[sync.MAX_OFFSET:][:len(distances)], *sync.window_accuracy(mouth, speech)))
  return sum_scores(scores)
