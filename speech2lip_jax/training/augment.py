"""What training does to speech features: another rendition, other voices and noise."""
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.data.mel import band_frequencies
from speech2lip_jax.data.schema import NUM_MEL_BANDS
from speech2lip_jax.data.tracks import Speech


def other_voice(mel: jax.Array, key: jax.Array, audio_config: ConfigDict) -> jax.Array:
  """A mel window [T, 80] as another voice, room and microphone might give it.

  Frequencies are stretched (read at f / α, α within e^±voice_warp), a smooth equaliser and a gain are added.
  """
  warp_key, tilt_key, gain_key = jax.random.split(key, 3)
  bands = jnp.asarray(band_frequencies())
  stretch = jnp.exp(audio_config.voice_warp * jax.random.uniform(warp_key, minval=-1.0))
  place = jnp.interp(bands / stretch, bands, jnp.arange(len(bands), dtype=jnp.float32))
  weights = jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(len(bands))))
  knots = audio_config.voice_tilt_std * jax.random.normal(tilt_key, (5,))
  tilt = jnp.interp(jnp.linspace(0, 4, len(bands)), jnp.arange(5.0), knots)
  return mel @ weights.T + tilt + audio_config.voice_gain_std * jax.random.normal(gain_key)


def heard(speech: Speech, frame_id: jax.Array | np.ndarray, num_steps: int, keys: jax.Array | None = None) -> jax.Array:
  """The windows [B, T, C] of frames [B]: of the first rendition, or with keys [B] each of a random one."""
  if keys is None:
    rendition = jnp.zeros(frame_id.shape, jnp.int32)
  else:
    draw = lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(speech.steps))
    rendition = jax.vmap(draw)(keys)
  steps = jnp.asarray(speech.first)[frame_id][:, None] + jnp.arange(num_steps)
  return jnp.asarray(speech.steps)[rendition[:, None], steps]


def augmented(audio_feat: jax.Array, keys: jax.Array, audio_config: ConfigDict) -> jax.Array:
  """Windows [B, T, C] in training: mel of `voice_fraction` of them as another voice, and noise on all."""
  def one(window, key):
    noise_key, choice_key, voice_key = jax.random.split(key, 3)
    if audio_config.features.split('+')[0] == 'mel' and audio_config.voice_fraction:
      changed = jax.random.bernoulli(choice_key, audio_config.voice_fraction)
      mel = window[:, :NUM_MEL_BANDS]
      mel = jnp.where(changed, other_voice(mel, voice_key, audio_config), mel)
      window = jnp.concatenate([mel, window[:, NUM_MEL_BANDS:]], axis=1)
    return window + audio_config.noise_std * jax.random.normal(noise_key, window.shape)
  return jax.vmap(one)(audio_feat, keys)
