"""The training step over devices. `jax.pmap` for training lives only here.

What a step's loss has follows from its batch (`Phase`): lips always (Eq. 7); windows of consecutive frames, whose mouths a frozen
expert holds against speech (Eq. 6), where the batch has them; whole lips that a perceptual network compares, and composed and
blended frames (Eq. 8), where it has these. Each combination is compiled once. All noise is keyed by (seed, step, position in the
global batch), so the same step is taken whatever the number of devices or processes, and again after a restart.
"""
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from speech2lip_jax.data import schema
from speech2lip_jax.data.input_pipeline import Batch, Resident, composed_rows
from speech2lip_jax.gamem.compose import Composition, paste_windows
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.ops import fill
from speech2lip_jax.sync import lattice
from speech2lip_jax.sync.loss import sync_loss
from speech2lip_jax.training import losses
from speech2lip_jax.training.augment import augmented, heard
from speech2lip_jax.training.frozen import Frozen
from speech2lip_jax.workdir.state import FITTED, TrainState

AXIS = 'device'


class Phase(NamedTuple):
  """What a step trains besides canonical lips. blend: composed frames and Blend-Net. sync: by the sync loss.

  perceptual: whole lips by the perceptual distance.
  """
  blend: bool
  sync: bool
  perceptual: bool = False

  @property
  def name(self) -> str:
    """'lips' or 'blend', and '+perceptual', '+sync' behind."""
    return ('blend' if self.blend else 'lips') + '+perceptual' * self.perceptual + '+sync' * self.sync

  @property
  def rank(self) -> int:
    """How far training has come: more with the perceptual distance, more again with Blend-Net. It never falls in a run."""
    return 2 * self.blend + self.sync + self.perceptual


def phase_of_step(step: int, config: ConfigDict) -> Phase:
  """Blend from config.train.blend_start_step on; sync from config.sync.start_step on, given an expert.

  Perceptual from config.perceptual.start_step on, given a weight, until Blend-Net joins: in the default's last steps lips hardly
  move any more, and a step with both takes twice as long to compile.
  """
  blend = step >= config.train.blend_start_step
  return Phase(blend, bool(config.sync.expert) and step >= config.sync.start_step,
               bool(config.loss.lip_perceptual_weight) and config.perceptual.start_step <= step and not blend)


class _Inputs(NamedTuple):
  """What the terms of one device's loss read. B: its frames.

  variables: {'params', 'batch_stats'}. audio_feat: [B, T, C] speech as the networks hear it. shift_keys, hole_keys: [B] keys of
  each frame's noise.
  """
  variables: dict[str, Any]
  batch: Batch
  resident: Resident
  constants: SubjectConstants
  frozen: Frozen
  audio_feat: jax.Array
  shift_keys: jax.Array
  hole_keys: jax.Array


def _painted_lips(model: Speech2Lip, config: ConfigDict, inputs: _Inputs, rows: slice, pixels: jax.Array
                  ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of the lips of the frames in `rows` at pixels [P]: painted and true colours [n, P, 3], and which are inside the box [P]."""
  draw = lambda key: jax.random.uniform(jax.random.fold_in(key, 1))
  shift = jax.vmap(draw)(inputs.shift_keys[rows]) if config.field.ensemble else None
  frame_id = inputs.batch.frame_id[rows]
  rgb = model.apply(inputs.variables, inputs.audio_feat[rows], frame_id, pixels, inputs.constants, shift, method='lip_pixels')
  lips = inputs.resident.rgb_lip_canonical
  true = lips.reshape(len(lips), -1, 3)
  return rgb, true[frame_id[:, None], pixels] / 255.0, _in_box(model)[pixels]


def _in_box(model: Speech2Lip) -> jax.Array:
  """Which pixels of lip images lie in the lip box: [h · w] bool."""
  (rows, columns), box = model.geometry.lip_size, model.geometry.lip_box
  return ((jnp.arange(rows) < box.height)[:, None] & (jnp.arange(columns) < box.width)).reshape(-1)


def _single_pixels(model: Speech2Lip, config: ConfigDict, key: jax.Array) -> jax.Array:
  """The pixels [P] at which a step paints the frames that are in no window: a random part of the lip box, or all of it.

  Where the box has fewer than are wanted, some beyond it follow.
  """
  in_box = _in_box(model)
  if not 0 < config.train.lip_pixels < len(in_box):
    return jnp.arange(len(in_box))
  order = jax.random.permutation(key, len(in_box))
  return order[jnp.argsort(~in_box[order], stable=True)][:config.train.lip_pixels]


def _window_mouths(model: Speech2Lip, config: ConfigDict, inputs: _Inputs, key: jax.Array
                   ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
  """The lips of the windows' frames, painted and true, and the expert's embedding of each window's mouths [V, E]."""
  expert, batch, lip_size = inputs.frozen.expert, inputs.batch, model.geometry.lip_size
  assert batch.sync is not None
  rows = slice(batch.num_window_frames)
  if batch.sync.frames is None:  # an expert of lips looks at its lattice alone; the lip loss then takes the same pixels
    phase_yx = jax.random.randint(key, (2,), 0, expert.stride)
    pixels = lattice.lattice_pixels(lip_size, expert.stride, phase_yx)
    painted = _painted_lips(model, config, inputs, rows, pixels)
    windows = painted[0].reshape(-1, schema.SYNC_FRAMES, *painted[0].shape[1:])
    return painted, expert.embed_mouth(expert.pictures_of_pixels(windows, pixels))[:, 0]
  painted = _painted_lips(model, config, inputs, rows, jnp.arange(math.prod(lip_size)))
  frames = batch.sync.frames._replace(rgb_face_observed=batch.sync.frames.rgb_face_observed / 255.0)
  depth = model.apply(inputs.variables, inputs.constants, method='depth')
  composition = model.apply(inputs.variables, painted[0].reshape(-1, *lip_size, 3), *frames, depth, method='compose')
  faces = paste_windows(jnp.asarray(frames.rgb_face_observed), composition.merged, composition.origin)
  return painted, expert.embed_faces(faces, batch.sync.face_box)


def _black_holes(model: Speech2Lip, config: ConfigDict, keys: jax.Array) -> jax.Array:
  """[B, wh, ww] bool: holes in `config.blend.hole_fraction` of the windows, to be filled by Blend-Net."""
  def one(key):
    chance_key, hole_key = jax.random.split(key)
    hole = fill.random_holes(hole_key, *model.geometry.window)
    return hole & jax.random.bernoulli(chance_key, config.blend.hole_fraction)
  return jax.vmap(one)(keys)


def _blended_frames(model: Speech2Lip, config: ConfigDict, inputs: _Inputs) -> tuple[Composition, jax.Array, Any]:
  """The composed frames, Blend-Net's picture of their windows [b, wh, ww, 3], and the new batch statistics."""
  batch = inputs.batch
  assert batch.frames is not None
  rows = composed_rows(len(batch.frame_id), batch.num_window_frames, config.train.blend_every)
  rgb_face, poses = batch.frames.rgb_face_observed / 255.0, batch.frames.observed_from_canonical
  (composition, blended), updated = model.apply(
      inputs.variables, inputs.audio_feat[rows], batch.frame_id[rows], rgb_face, poses, inputs.constants, train=True,
      hole=_black_holes(model, config, inputs.hole_keys[rows]), mutable=['batch_stats'])
  return composition, blended, updated['batch_stats']


def _perceived_lips(model: Speech2Lip, config: ConfigDict, inputs: _Inputs, key: jax.Array) -> jax.Array:
  """The perceptual distance of the lips of `Batch.perceived` as they are rendered, all that stands beside the field included."""
  assert inputs.batch.perceived is not None
  sample_id, frame_id, weight = inputs.batch.perceived
  noise_keys, place_keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)), out_axes=1)(sample_id)
  audio_feat = heard(inputs.resident.speech, frame_id, config.audio.window_steps, noise_keys)
  rgb = model.apply(inputs.variables, augmented(audio_feat, noise_keys, config.audio), frame_id, inputs.constants, method='lips')
  true = inputs.resident.rgb_lip_canonical[frame_id] / 255.0
  geometry = model.geometry
  height = round(config.perceptual.height * geometry.canonical_scale)
  pictures = losses.enlarged(place_keys, rgb, true, (geometry.lip_box.height, geometry.lip_box.width),
                             (height, round(height * geometry.lip_proportion)))
  distance = losses.perceptual_distance(*pictures, inputs.frozen.lpips)
  return jnp.mean(weight * distance)


def make_loss(shapes: Speech2Lip, config: ConfigDict) -> Callable:
  """The loss of one device's batch.

  (params, batch_stats, batch, resident, constants, frozen, key) → (loss, (named terms, batch_stats)). shapes: the subject's model,
  or one for the shapes of several.
  """
  def loss_fn(params, batch_stats, batch: Batch, resident: Resident, constants: SubjectConstants, frozen: Frozen, step_key):
    model = shapes.at(constants)
    sample_key, shared_key = jax.random.split(step_key)
    keys = jax.vmap(lambda i: jax.random.fold_in(sample_key, i))(batch.sample_id)
    noise_keys, shift_keys, hole_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    pixel_key, lattice_key = jax.random.split(shared_key)
    in_windows = batch.num_window_frames
    audio_feat = augmented(heard(resident.speech, batch.frame_id, config.audio.window_steps, noise_keys), noise_keys, config.audio)
    if in_windows:  # Windows hear clean speech: noise of its own on each frame would hide whether a mouth is late or early.
      clean = heard(resident.speech, batch.frame_id[:in_windows], config.audio.window_steps)
      audio_feat = jnp.concatenate([clean, audio_feat[in_windows:]])
    variables = {'params': params, 'batch_stats': batch_stats}
    inputs = _Inputs(variables, batch, resident, constants, frozen, audio_feat, shift_keys, hole_keys)

    painted = [_painted_lips(model, config, inputs, slice(in_windows, None), _single_pixels(model, config, pixel_key))]
    terms = {}
    if batch.sync is not None:
      of_windows, mouth = _window_mouths(model, config, inputs, lattice_key)
      painted.insert(0, of_windows)
      terms['sync'] = sync_loss(mouth, jnp.asarray(batch.sync.speech), config.sync.negative_weight)
    terms['lip'] = losses.lip_loss(painted)
    if batch.perceived is not None:
      terms['lip_perceptual'] = _perceived_lips(model, config, inputs, jax.random.fold_in(shared_key, 2))
    if batch.frames is not None:
      composition, blended, batch_stats = _blended_frames(model, config, inputs)
      terms['frame'] = losses.frame_loss(blended, composition.observed)
      if config.loss.perceptual_weight:
        terms['perceptual'] = losses.perceptual_loss(blended, composition.observed, frozen.lpips)
    total = losses.total_loss(terms, config.loss)
    return total, (terms | {'total': total}, batch_stats)

  return loss_fn


def make_train_step(model: Speech2Lip, optimizer: optax.GradientTransformation, config: ConfigDict,
                    devices: Sequence[jax.Device] | None = None, num_people: int = 1) -> jax.stages.Wrapped:
  """The pmapped step (state, batch, resident, constants, frozen) → (state, metrics); all but the batch replicated, that sharded.

  Gradients, batch statistics and metrics are means over all devices of all processes. The old state is donated.

  Args:
    model, optimizer, config: of the person, or for the shapes of several.
    devices: those of `devices.first_of_each_process`, where not all are used.
    num_people: where there are more than one, everything but `frozen` has an axis of people behind that of devices, and each takes
      a step of its own.
  """
  loss_fn = make_loss(model, config)

  def step(state: TrainState, batch: Batch, resident: Resident, constants: SubjectConstants, frozen: Frozen):
    step_key = jax.random.fold_in(jax.random.key(batch.seed[0]), state.step)
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient_fn(state.params, state.batch_stats, batch, resident, constants, frozen,
                                                            step_key)
    networks = {name: gradient for name, gradient in gradients.items() if name not in FITTED}
    networks, terms, batch_stats = jax.lax.pmean((networks, terms, batch_stats), AXIS)
    gradients = gradients | networks  # those of what was fitted are 0 and need not be sent
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # A short memory at first, so that the average is not held back by the initial weights.
    decay = jnp.minimum(config.train.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = optax.incremental_update(params, state.ema_params, 1.0 - decay)
    metrics = {f'loss/{name}': term for name, term in terms.items()}
    metrics['metric/grad_norm'] = optax.tree.norm(gradients)
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema_params), metrics

  of_each = step if num_people == 1 else jax.vmap(step, in_axes=(0, 0, 0, 0, None))
  return jax.pmap(of_each, axis_name=AXIS, devices=devices, donate_argnums=0)
