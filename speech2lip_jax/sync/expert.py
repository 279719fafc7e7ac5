"""A trained sync expert on disk and at work: a folder with expert.json and weights.npz, for the loss and for metrics."""
import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.weights import load_tree, save_with_description
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, runs_of, subject_mel_windows
from speech2lip_jax.data.input_pipeline import SyncSampler
from speech2lip_jax.sync import lattice
from speech2lip_jax.sync import network as sync_network
from speech2lip_jax.sync.syncnet_expert import EXPERT_FILE, WEIGHTS_FILE, SyncNetExpert, load_syncnet, read_facts

HALF_WINDOW = schema.SYNC_FRAMES // 2


@functools.partial(jax.tree_util.register_dataclass, data_fields=('params', 'mean_grey', 'deviation'),
                   meta_fields=('lip_size', 'stride', 'num_features', 'width'))
@dataclasses.dataclass(frozen=True)
class Expert:
  """An expert of one subject, a pytree of its weights.

  lip_size: (height, width) of its lip box. mean_grey: [h, w] and deviation: [], of training pictures.
  """
  lip_size: tuple[int, int]
  stride: int
  num_features: int
  width: int
  params: Any
  mean_grey: np.ndarray
  deviation: np.ndarray

  @property
  def model(self) -> sync_network.SyncExpert:
    return sync_network.SyncExpert(self.num_features, self.width)

  def pictures(self, rgb_lip: jax.Array) -> jax.Array:
    """The expert's view [B, F, rows, columns] of whole canonical lips [B, F, h, w, 3] float32 0 … 1."""
    phase = jnp.full(2, (self.stride - 1) // 2)
    pixels = lattice.lattice_pixels(self.lip_size, self.stride, phase)
    return self.pictures_of_pixels(rgb_lip.reshape(*rgb_lip.shape[:2], -1, 3)[:, :, pixels], pixels)

  def pictures_of_pixels(self, rgb: jax.Array, pixels: jax.Array) -> jax.Array:
    """The same from the lattice's colours rgb [..., P, 3] at `pixels` [..., P] (`sync_expert.lattice_pixels`)."""
    normal = (lattice.grey(rgb) - jnp.asarray(self.mean_grey).reshape(-1)[pixels]) / self.deviation
    return normal.reshape(*normal.shape[:-1], *lattice.lattice_size(self.lip_size, self.stride))

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
    return jax.device_get(self._jitted[0](padded))[:max(0, len(rgb_lip) - 2 * HALF_WINDOW)]

  def embed_speech(self, subject: Subject, first_frames: np.ndarray) -> np.ndarray:
    """[n, E] float32 of the subject's own speech during the 5 frames from each of `first_frames` [n] on."""
    windows = subject_mel_windows(subject, np.asarray(first_frames) + HALF_WINDOW, schema.SYNC_MEL_STEPS)
    padded = np.pad(windows, [(0, -len(windows) % 512), (0, 0), (0, 0)])
    return np.concatenate([jax.device_get(self._jitted[1](padded[i:i + 512])) for i in range(0, len(padded), 512)])[:len(windows)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Experts of one subject that judge together: cosines of its embeddings are the means of theirs.

  One expert has weaknesses that a generator can exploit; the mean of several has fewer, so that the mouth also improves for experts
  that it was not trained against.
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
  facts = {'kind': 'own', 'lip_size': expert.lip_size, 'stride': expert.stride, 'num_features': expert.num_features,
           'width': expert.width}
  tree = {'params': expert.params, 'mean_grey': expert.mean_grey, 'deviation': expert.deviation}
  save_with_description(folder, WEIGHTS_FILE, tree, EXPERT_FILE, facts | record)


def open_expert(folder: os.PathLike | str, subject: Subject) -> Expert | SyncNetExpert:
  """Opens a folder of `speech2lip expert` or of `speech2lip convert --kind syncnet` for use on a subject.

  Raises:
    InputError: no expert is there, it is damaged, or it was made for another subject's lip box.
  """
  remedy = f'make it with: speech2lip expert --subject {subject.folder} --workdir {folder}'
  path = pathlib.Path(folder, 'expert.json')
  if not path.is_file():
    raise InputError(f'{folder}: no sync expert (no expert.json); {remedy}')
  facts = read_facts(folder, remedy)
  try:
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
  try:
    expert = Expert(lip_size=lip_size, **sizes, **load_tree(pathlib.Path(folder, WEIGHTS_FILE), remedy))
    lattice_size = lattice.lattice_size(lip_size, expert.stride)
    shapes = jax.eval_shape(expert.model.init, jax.random.key(0), jnp.zeros((1, schema.SYNC_FRAMES, *lattice_size)),
                            jnp.zeros((1, schema.SYNC_MEL_STEPS, schema.NUM_MEL_BANDS)))['params']
    sizes_of = lambda tree: jax.tree.map(np.shape, tree, is_leaf=lambda leaf: hasattr(leaf, 'shape'))
    if sizes_of(expert.params) != sizes_of(shapes) or np.shape(expert.mean_grey) != lip_size:
      raise ValueError('its weights have other shapes than expert.json says')
  except (TypeError, ValueError, ArithmeticError) as error:
    raise InputError(f'{folder}: damaged ({" ".join(str(error).split())}); {remedy}') from error
  return expert


def damage(folder: os.PathLike | str) -> list[str]:
  """Lines on what is wrong with an expert's files, every byte read."""
  remedy = 'run the speech2lip expert or convert command that made it again'
  try:
    read_facts(folder, remedy)
    load_tree(pathlib.Path(folder, WEIGHTS_FILE), remedy)
  except InputError as error:
    return [str(error)]
  return []


def listed_folders(value: str) -> list[str]:
  """The folders in config.sync.expert: one, which may have commas in its own name, or several with commas between."""
  return [value] if os.path.isdir(value) else [folder for folder in value.split(',') if folder]


def open_experts(folders: Sequence[os.PathLike | str], subject: Subject) -> Expert | Ensemble | SyncNetExpert:
  """Opens what the sync loss asks: the expert of a folder, or those of several, who judge together.

  Raises:
    InputError: as `open_expert`; or SyncNet is among several.
  """
  experts = [open_expert(folder, subject) for folder in folders]
  if len(experts) == 1:
    return experts[0]
  members = tuple(expert for expert in experts if isinstance(expert, Expert))
  if len(members) < len(experts):
    listed = ','.join(map(str, folders))
    raise InputError(f'config.sync.expert={listed}: SyncNet looks at whole faces and judges alone; give its folder only')
  return Ensemble(members)


def sync_sampler(expert: Expert | Ensemble | SyncNetExpert, subject: Subject, frame_ids: np.ndarray, sync_config: ConfigDict,
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
