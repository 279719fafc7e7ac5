"""Training a sync expert on a subject's own lips and speech (InfoNCE over clips and over shifts in time)."""
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import MIN_CLIPS_TO_SPLIT_BY_CLIP, Subject, runs_of, subject_mel_windows
from speech2lip_jax.sync import lattice as lattice_module
from speech2lip_jax.sync.expert import HALF_WINDOW, Expert

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


def _augmented_pictures(lips: jax.Array, expert: Expert, key: jax.Array) -> jax.Array:
  """The expert's view of runs [R, F, h, w, 3]: each run moved by up to a lattice cell and disturbed."""
  def one(run, key):
    keys = jax.random.split(key)
    shift = jax.random.randint(keys[0], (2,), -expert.stride, 2 * expert.stride)
    pixels = lattice_module.lattice_pixels(expert.lip_size, expert.stride, shift)
    pictures = expert.pictures_of_pixels(run.reshape(len(run), -1, 3)[:, pixels] / 255.0, pixels)
    return lattice_module.disturbed(pictures, keys[1])

  return jax.vmap(one)(lips, jax.random.split(key, len(lips)))


def _augmented_mel(mel: jax.Array, config: ConfigDict, key: jax.Array) -> jax.Array:
  noise_key, gain_key = jax.random.split(key)
  gain = config.mel_gain_std * jax.random.normal(gain_key, (len(mel), 1, 1, 1))
  return mel + gain + config.mel_noise_std * jax.random.normal(noise_key, mel.shape)


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


def train_expert(subject: Subject, frame_ids: np.ndarray, config: ConfigDict, show_progress: bool = True) -> Expert:
  """An expert trained on the given frames of a subject.

  Raises:
    InputError: no clip has enough consecutive frames, or the loss is not finite.
  """
  train, box = config.train, subject.meta.lip_box
  lip_size, stride = (box.height, box.width), lattice_module.lattice_stride((box.height, box.width))
  batches = Runs(subject, frame_ids, train.num_runs, train.run_frames, config.seed)
  sample = frame_ids[np.linspace(0, len(frame_ids) - 1, min(len(frame_ids), 500)).astype(int)]
  pictures = np.asarray(lattice_module.grey(subject.rgb_lip_canonical[sample] / np.float32(255)))
  mean_grey = pictures.mean(0)
  expert = Expert(lip_size, stride, config.expert.num_features, config.expert.width, None, mean_grey,
                  np.array((pictures - mean_grey).std(), np.float32))
  schedule = optax.warmup_cosine_decay_schedule(0.0, train.learning_rate, min(train.warmup_steps, train.num_steps - 1),
                                                train.num_steps)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=train.weight_decay))

  def loss_fn(params, lips, mel, key):
    keys = jax.random.split(key)
    mouth = expert.model.apply({'params': params}, _augmented_pictures(lips, expert, keys[0]), method='embed_mouth')
    mel = _augmented_mel(mel, config.expert, keys[1])
    speech = expert.model.apply({'params': params}, mel.reshape(-1, *mel.shape[2:]), method='embed_mel')
    return contrastive_loss(mouth, speech.reshape(mouth.shape), config.expert)

  @jax.jit
  def step_fn(params, opt_state, lips, mel, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    loss, gradient = jax.value_and_grad(loss_fn)(params, lips, mel, key)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  lattice = lattice_module.lattice_size(lip_size, stride)
  with stage('building the expert', show=show_progress):
    params = expert.model.init(jax.random.key(config.seed), jnp.zeros((1, schema.SYNC_FRAMES, *lattice)),
                               jnp.zeros((1, schema.SYNC_MEL_STEPS, schema.NUM_MEL_BANDS)))['params']
    opt_state = optimizer.init(params)
  bar = Bar(range(train.num_steps), total=train.num_steps, unit='step', show=show_progress, compiles=True)
  for step in bar:
    params, opt_state, loss = step_fn(params, opt_state, *batches.batch(step), step)
    if (step + 1) % train.log_every == 0 or step + 1 == train.num_steps:
      if not np.isfinite(loss):
        raise InputError(f"the expert's loss is {loss} at step {step + 1}; give a --recipe.train.learning_rate below "
                         f'{train.learning_rate:g}; nothing was written')
      bar.set_postfix(loss=f'{float(loss):.3f}')
  return Expert(lip_size, stride, config.expert.num_features, config.expert.width, jax.tree.map(np.asarray, params), mean_grey,
                expert.deviation)
