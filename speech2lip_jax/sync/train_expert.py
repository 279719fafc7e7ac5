"""Training a sync expert on a subject's own lips and speech (InfoNCE over clips and over shifts in time)."""
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from speech2lip_jax.common.devices import most_sharing, replicate, shard, unreplicate
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import MIN_CLIPS_TO_SPLIT_BY_CLIP, Subject, runs_of, subject_mel_windows
from speech2lip_jax.data.input_pipeline import prefetch
from speech2lip_jax.sync import lattice as lattice_module
from speech2lip_jax.sync.expert import HALF_WINDOW, Expert

AXIS = 'device'
BLOCK_FRAMES = 4 * schema.FPS  # a part of a long clip


def part_of(subject: Subject, frame_ids: np.ndarray, part: str) -> np.ndarray:
  """The frames of every other clip, or of every other block of BLOCK_FRAMES where the clips are few. part: 'all', 'even', 'odd'."""
  if part == 'all':
    return frame_ids
  by_clip = len(subject.meta.clips) >= MIN_CLIPS_TO_SPLIT_BY_CLIP
  block = subject.clip_of_frames(frame_ids) if by_clip else frame_ids // BLOCK_FRAMES
  _, block = np.unique(block, return_inverse=True)
  return frame_ids[block % 2 == (part == 'odd')]


class Runs:
  """Batches of runs of consecutive training frames; that of a step is a function of (seed, step)."""

  def __init__(self, subject: Subject, frame_ids: np.ndarray, num_runs: int, run_frames: int, seed: int):
    runs = [frame_ids[rows] for rows in runs_of(subject, frame_ids) if len(rows) >= run_frames]
    if not runs:
      raise InputError(f'{subject.folder}: no {run_frames} consecutive training frames in a clip; use longer clips, or lower '
                       '--recipe.train.run_frames')
    self._starts = np.concatenate([run[:len(run) - run_frames + 1] for run in runs])
    self._subject, self._num_runs, self._run_frames, self._seed = subject, num_runs, run_frames, seed

  def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Lips [R, F, h, w, 3] uint8 and the mel windows [R, F − 4, 16, 80] float32 of their 5-frame windows."""
    starts = np.random.default_rng((self._seed, step)).choice(self._starts, self._num_runs)
    ids = starts[:, None] + np.arange(self._run_frames)
    centres = ids[:, HALF_WINDOW:-HALF_WINDOW]
    mel = subject_mel_windows(self._subject, centres.reshape(-1), schema.SYNC_MEL_STEPS)
    lips = self._subject.rgb_lip_canonical[ids.reshape(-1)]
    return lips.reshape(*ids.shape, *lips.shape[1:]), mel.reshape(*centres.shape, *mel.shape[1:])


class _Noise(NamedTuple):
  """What disturbs R runs in a step. pictures: [R] keys. mel_gain: [R, 1, 1, 1] and mel: [R, F − 4, 16, 80], added to the mel."""
  pictures: jax.Array
  mel_gain: jax.Array
  mel: jax.Array

  @classmethod
  def draw(cls, num_runs: int, mel_shape: tuple[int, ...], config: ConfigDict, key: jax.Array) -> '_Noise':
    """Of all runs of a step, whatever the devices."""
    picture_key, mel_key = jax.random.split(key)
    noise_key, gain_key = jax.random.split(mel_key)
    return cls(jax.random.split(picture_key, num_runs), config.mel_gain_std * jax.random.normal(gain_key, (num_runs, 1, 1, 1)),
               config.mel_noise_std * jax.random.normal(noise_key, (num_runs, *mel_shape)))


def _augmented_pictures(lips: jax.Array, expert: Expert, keys: jax.Array) -> jax.Array:
  """The expert's view of runs [R, F, h, w, 3]: each run moved by up to a lattice cell and disturbed."""
  def one(run, key):
    keys = jax.random.split(key)
    shift = jax.random.randint(keys[0], (2,), -expert.stride, 2 * expert.stride)
    pixels = lattice_module.lattice_pixels(expert.lip_size, expert.stride, shift)
    pictures = expert.pictures_of_pixels(run.reshape(len(run), -1, 3)[:, pixels] / 255.0, pixels)
    return lattice_module.disturbed(pictures, keys[1])

  return jax.vmap(one)(lips, keys)


def contrastive_loss(mouth: jax.Array, speech: jax.Array, config: ConfigDict) -> jax.Array:
  """Symmetric InfoNCE over all windows of a batch: other clips and other moments of the same run are the negatives.

  mouth, speech: [R, n, E] unit vectors of windows that begin one frame apart. Neighbours in time share the target.
  """
  runs, count, num_features = mouth.shape
  logits = mouth.reshape(-1, num_features) @ speech.reshape(-1, num_features).T / config.temperature
  offset = np.abs(np.arange(count)[:, None] - np.arange(count))
  target = np.kron(np.eye(runs), (offset == 0) + config.neighbour_weight * (offset == 1)).astype(np.float32)
  target /= target.sum(-1, keepdims=True)
  cross_entropy = lambda logits: optax.softmax_cross_entropy(logits, target).mean()
  return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def _make_step(expert: Expert, optimizer: optax.GradientTransformation, config: ConfigDict, devices: Sequence[jax.Device]
               ) -> Callable:
  """The pmapped step (params, opt_state, lips, mel, step) → (params, opt_state, loss).

  Each device embeds its share of the runs; all hold each other's embeddings, since the other runs' are the negatives.
  """
  def loss_fn(params, lips, mel, key):
    share = len(lips)
    noise = _Noise.draw(share * len(devices), mel.shape[1:], config.expert, key)
    noise = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * share, share), noise)
    mouth = expert.model.apply({'params': params}, _augmented_pictures(lips, expert, noise.pictures), method='embed_mouth')
    mel = mel + noise.mel_gain + noise.mel
    speech = expert.model.apply({'params': params}, mel.reshape(-1, *mel.shape[2:]), method='embed_mel').reshape(mouth.shape)
    return contrastive_loss(*jax.lax.all_gather((mouth, speech), AXIS, tiled=True), config.expert)

  def step_fn(params, opt_state, lips, mel, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    loss, gradient = jax.value_and_grad(loss_fn)(params, lips, mel, key)
    updates, opt_state = optimizer.update(jax.lax.pmean(gradient, AXIS), opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  return jax.pmap(step_fn, AXIS, in_axes=(0, 0, 0, 0, None), devices=devices, donate_argnums=(0, 1))


def train_expert(subject: Subject, frame_ids: np.ndarray, config: ConfigDict, show_progress: bool = True) -> Expert:
  """An expert trained on the given frames of a subject, on as many of this process's devices as its runs divide by.

  Raises:
    InputError: no clip has enough consecutive frames, or the loss is not finite.
  """
  train, box = config.train, subject.meta.lip_box
  lip_size, stride = (box.height, box.width), lattice_module.lattice_stride((box.height, box.width))
  num_devices = jax.local_device_count()
  devices = jax.local_devices()[:most_sharing([train.num_runs], num_devices)]
  if len(devices) < num_devices:
    print(f'{len(devices)} of {num_devices} devices are used: --recipe.train.num_runs={train.num_runs} cannot be shared by more of '
          'them evenly', file=sys.stderr)
  batches = Runs(subject, frame_ids, train.num_runs, train.run_frames, config.seed)
  sample = frame_ids[np.linspace(0, len(frame_ids) - 1, min(len(frame_ids), 500)).astype(int)]
  pictures = np.asarray(lattice_module.grey(subject.rgb_lip_canonical[sample] / np.float32(255)))
  mean_grey = pictures.mean(0)
  expert = Expert(lip_size, stride, config.expert.num_features, config.expert.width, None, mean_grey,
                  np.array((pictures - mean_grey).std(), np.float32))
  schedule = optax.warmup_cosine_decay_schedule(0.0, train.learning_rate, min(train.warmup_steps, train.num_steps - 1),
                                                train.num_steps)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=train.weight_decay))

  lattice = lattice_module.lattice_size(lip_size, stride)
  with stage('building the expert', show=show_progress):
    params = expert.model.init(jax.random.key(config.seed), jnp.zeros((1, schema.SYNC_FRAMES, *lattice)),
                               jnp.zeros((1, schema.SYNC_MEL_STEPS, schema.NUM_MEL_BANDS)))['params']
    params, opt_state = replicate((params, optimizer.init(params)), devices)
  step_fn, steps = _make_step(expert, optimizer, config, devices), range(train.num_steps)
  bar = Bar(steps, total=train.num_steps, unit='step', show=show_progress, compiles=True)
  for step, batch in zip(bar, prefetch(lambda step: shard(batches.batch(step), len(devices)), steps, 2), strict=True):
    params, opt_state, loss = step_fn(params, opt_state, *batch, step)
    if (step + 1) % train.log_every == 0 or step + 1 == train.num_steps:
      if not np.isfinite(value := float(loss[0])):
        raise InputError(f"the expert's loss is {value} at step {step + 1}; give a --recipe.train.learning_rate below "
                         f'{train.learning_rate:g}; nothing was written')
      bar.set_postfix(loss=f'{value:.3f}')
  return Expert(lip_size, stride, config.expert.num_features, config.expert.width, unreplicate(params), mean_grey,
                expert.deviation)
