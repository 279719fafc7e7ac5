"""The training step over devices. `jax.pmap` for training lives only here.

A step is in a phase, each compiled once: 'lips' trains speech → canonical lips, 'blend' adds frames that are composed and
blended, and '+sync' begins the batch with windows of consecutive frames whose mouths a frozen expert holds against speech.
All noise is keyed by (seed, step, position in the global batch), so the same
step is taken whatever the number of devices or processes, and again after a restart.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from speech2lip_jax.data import schema
from speech2lip_jax.data.input_pipeline import Batch, Resident, composed_rows
from speech2lip_jax.gamem.compose import paste_windows
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.models.lpips import Lpips
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.ops import fill
from speech2lip_jax.sync import lattice
from speech2lip_jax.sync import loss as sync_loss
from speech2lip_jax.training import losses
from speech2lip_jax.training.augment import augmented
from speech2lip_jax.training.state import TrainState

AXIS = 'device'
PHASES = ('lips', 'lips+sync', 'blend', 'blend+sync')


class Frozen(NamedTuple):
  """Networks that losses ask and that are never trained. expert: `Expert`, `SyncNetExpert` or None. lpips: variables or None."""
  expert: Any = None
  lpips: Any = None


def phase_of_step(step: int, config: ConfigDict) -> str:
  """'blend' from config.train.blend_start_step on, 'lips' before; '+sync' from config.sync.start_step on, given an expert."""
  phase = 'blend' if step >= config.train.blend_start_step else 'lips'
  return f'{phase}+sync' if config.sync.expert and step >= config.sync.start_step else phase


def make_loss(model: Speech2Lip, config: ConfigDict, phase: str) -> Callable:
  """The loss of one device's batch.

  (params, batch_stats, batch, resident, constants, frozen, key) → (loss, (named terms, batch_stats)).
  """
  _, _, lip_height, lip_width = model.geometry.lip_box
  num_pixels = lip_height * lip_width
  weights = config.loss

  def painted(variables, batch: Batch, resident: Resident, audio_feat, keys, rows, pixels, constants):
    """Colours [n, P, 3] of pixels [P] of the frames in the slice `rows`, and the true ones."""
    shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys[rows]) if config.field.ensemble else None
    rgb = model.apply(variables, audio_feat[rows], batch.frame_id[rows], pixels, constants, shift, method='lip_pixels')
    true = resident.rgb_lip_canonical.reshape(-1, num_pixels, 3)
    return rgb, true[batch.frame_id[rows][:, None], pixels] / 255.0

  def single_pixels(key):
    """The pixels [P] of a step's frames: a random part of them, or all."""
    if not 0 < config.train.lip_pixels < num_pixels:
      return jnp.arange(num_pixels)
    return jax.random.choice(key, num_pixels, (config.train.lip_pixels,), replace=False)

  def lip_terms(variables, batch: Batch, resident: Resident, audio_feat, keys, step_key, constants, frozen: Frozen):
    num_window_frames = schema.SYNC_FRAMES * len(batch.sync.speech) if 'sync' in phase else 0
    pixel_key, phase_key = jax.random.split(step_key)
    singles = slice(num_window_frames, None)
    rgb, target = painted(variables, batch, resident, audio_feat, keys, singles, single_pixels(pixel_key), constants)
    error = jnp.mean(jnp.square(rgb - target), (1, 2))
    if not num_window_frames:
      return {'lip': jnp.mean(error)}
    rows, expert = slice(num_window_frames), frozen.expert
    if batch.sync.frames is None:  # looks at lips alone: at its lattice's pixels, which are also those of the lip loss
      phase_yx = jax.random.randint(phase_key, (2,), 0, expert.stride)
      pixels = lattice.lattice_pixels((lip_height, lip_width), expert.stride, phase_yx)
      rgb, target = painted(variables, batch, resident, audio_feat, keys, rows, pixels, constants)
      mouth = expert.embed_mouth(expert.pictures_of_pixels(rgb.reshape(-1, schema.SYNC_FRAMES, *rgb.shape[1:]), pixels))[:, 0]
    else:
      rgb, target = painted(variables, batch, resident, audio_feat, keys, rows, jnp.arange(num_pixels), constants)
      frames = batch.sync.frames._replace(rgb_face_observed=batch.sync.frames.rgb_face_observed / 255.0)
      composition = model.apply(variables, rgb.reshape(-1, lip_height, lip_width, 3), *frames,
                                model.apply(variables, constants, method='depth'), method='compose')
      faces = paste_windows(frames.rgb_face_observed, composition.merged, composition.origin)
      mouth = expert.embed_faces(faces, batch.sync.face_box)
    error = jnp.concatenate([jnp.mean(jnp.square(rgb - target), (1, 2)), error])
    return {'lip': jnp.mean(error), 'sync': sync_loss.contrastive_sync(mouth, batch.sync.speech, config.sync.negative_weight)}

  def black_holes(keys):
    """[B, wh, ww] bool: holes in `hole_fraction` of the windows, to be filled by Blend-Net."""
    def one(key):
      chance_key, hole_key = jax.random.split(key)
      hole = fill.random_holes(hole_key, *model.geometry.window)
      return hole & jax.random.bernoulli(chance_key, config.blend.hole_fraction)
    return jax.vmap(one)(keys)

  def frame_terms(variables, batch: Batch, audio_feat, keys, constants, frozen: Frozen):
    num_window_frames = schema.SYNC_FRAMES * len(batch.sync.speech) if 'sync' in phase else 0
    rows = composed_rows(len(batch.frame_id), num_window_frames, config.train.blend_every)
    rgb_face, poses = batch.frames.rgb_face_observed / 255.0, batch.frames.observed_from_canonical
    (composition, blended), updated = model.apply(
        variables, audio_feat[rows], batch.frame_id[rows], rgb_face, poses, constants, train=True,
        hole=black_holes(keys[rows]), mutable=['batch_stats'])
    terms = {'frame': losses.mean_squared_error(blended, composition.observed)}
    if weights.perceptual_weight:
      if frozen.lpips is None:
        terms['perceptual'] = losses.edge_distance(blended, composition.observed)
      else:
        terms['perceptual'] = jnp.mean(Lpips().apply(frozen.lpips, blended, composition.observed)[0])
    return terms, updated['batch_stats']

  def loss_fn(params, batch_stats, batch: Batch, resident: Resident, constants: SubjectConstants, frozen: Frozen, step_key):
    sample_key, shared_key = jax.random.split(step_key)
    keys = jax.vmap(lambda i: jax.random.fold_in(sample_key, i))(batch.sample_id)
    noise_keys, shift_keys, hole_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    variables = {'params': params, 'batch_stats': batch_stats}
    clean = resident.audio_feat[batch.frame_id]
    audio_feat = augmented(clean, noise_keys, config.audio)
    if 'sync' in phase:  # what comes late or early is heard in clean speech; noise of its own on each frame would hide it
      num_window_frames = schema.SYNC_FRAMES * len(batch.sync.speech)
      audio_feat = jnp.concatenate([clean[:num_window_frames], audio_feat[num_window_frames:]])
    terms = lip_terms(variables, batch, resident, audio_feat, shift_keys, shared_key, constants, frozen)
    if 'blend' in phase:
      frame, batch_stats = frame_terms(variables, batch, audio_feat, hole_keys, constants, frozen)
      terms |= frame
    total = sum(weights[f'{name}_weight'] * term for name, term in terms.items())
    return total, (terms | {'total': total}, batch_stats)

  return loss_fn


def make_train_step(model: Speech2Lip, optimizer: optax.GradientTransformation, config: ConfigDict, phase: str
                    ) -> Callable:
  """The pmapped step (state, batch, resident, constants, frozen) → (state, metrics); all but the batch replicated, that sharded.

  Gradients, batch statistics and metrics are means over all devices of all processes. The old state is donated.
  """
  loss_fn = make_loss(model, config, phase)

  def step(state: TrainState, batch: Batch, resident: Resident, constants: SubjectConstants, frozen: Frozen):
    step_key = jax.random.fold_in(jax.random.key(batch.seed[0]), state.step)
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient_fn(state.params, state.batch_stats, batch, resident, constants, frozen,
                                                            step_key)
    gradients, terms, batch_stats = jax.lax.pmean((gradients, terms, batch_stats), AXIS)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # A short memory at first, so that the average is not held back by the initial weights.
    decay = jnp.minimum(config.train.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = optax.incremental_update(params, state.ema_params, 1.0 - decay)
    metrics = {f'loss/{name}': term for name, term in terms.items()}
    metrics['metric/grad_norm'] = optax.tree.norm(gradients)
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema_params), metrics

  return jax.pmap(step, axis_name=AXIS, donate_argnums=0)
