"""Sound → hidden states of Whisper's encoder, 50 a second, on the device: the package's own two layers, or a folder's weights.

The encoder hears windows of 8 s (the package's) or 30 s. Where a step lies in its window changes its states, so windows overlap by
twice a context and fade into each other there; the second of the `RENDITIONS` puts all windows half a hop earlier, so that training
hears both. Each window's own loudness would amplify mostly silent ones: the whole sound is brought to one level of speech instead.
"""
import functools
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.weights import asset, load_asset
from speech2lip_jax.data.schema import SAMPLE_RATE
from speech2lip_jax.models.whisper import WhisperEncoder, encoder_variables

STEP = 320  # samples: 50 steps a second
HOP, FFT = 160, 400  # samples, of the mel
RATE = SAMPLE_RATE / STEP
CONTEXT_STEPS = 100  # at each side of a window, in which the next one takes over
LOUD_DB = 20.0  # what is not further below the loudest twentieth counts as speech
CEILING = 3.5  # decades of mel power, above that of a levelled voice; Whisper reads 8 decades below the loudest
RENDITIONS = 2
ASSET = 'whisper_tiny_2_layers.npz'
_LEVEL_CHUNK = 10_000  # steps


@functools.lru_cache
def _mel_filters(num_bands: int) -> np.ndarray:
  """[bands, 201]: Whisper's, 0 … 8 kHz."""
  import librosa  # Slow to import, and needed for sound only.
  return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=num_bands)


def whisper_mel(samples: np.ndarray, num_bands: int = 80) -> np.ndarray:
  """Whisper's log-mel of samples [FFT + (n − 1)·HOP] of a levelled sound: [n, bands] float32, 100 a second."""
  import librosa  # Slow to import, and needed for sound only.
  power = np.square(np.abs(librosa.stft(samples, n_fft=FFT, hop_length=HOP, center=False)))
  decades = np.log10(np.maximum(_mel_filters(num_bands) @ power, 1e-10))
  return ((np.maximum(decades, CEILING - 8).T + 4) / 4).astype(np.float32)


def speech_level(sound: np.ndarray) -> float:
  """Root mean square of the loud parts of a sound [n] int16, of full scale 1; 1 for digital silence."""
  steps = sound[:len(sound) // STEP * STEP].reshape(-1, STEP)
  chunks = [np.square(steps[i:i + _LEVEL_CHUNK] / np.float32(32768)).mean(1) for i in range(0, len(steps), _LEVEL_CHUNK)]
  power = np.concatenate(chunks) if chunks else np.zeros(1)
  loud = power[power > np.percentile(power, 95) / 10**(LOUD_DB / 10)]
  return float(np.sqrt(loud.mean())) if len(loud) else 1.0


class WhisperSpeech:
  """A loaded encoder. rate: steps a second. first_step: centre of step 0, in steps after the sound's start. num_channels: D.

  encode: mel of windows [B, 2·window, bands] → states [B, window, D].
  """
  rate, first_step = RATE, 0.0

  def __init__(self, encoder: WhisperEncoder, weights: Mapping[str, np.ndarray], num_bands: int = 80, library: str = ''):
    """weights: see `models.whisper`. num_bands: of its mel. library: what read them, for records.

    Raises:
      KeyError: a weight is not there.
    """
    self._window, self._num_bands, self.num_channels, self.library = encoder.max_steps, num_bands, encoder.num_channels, library
    variables = encoder_variables(weights, encoder.num_layers, encoder.final_norm)
    self.encode = functools.partial(jax.jit(encoder.apply), variables)

  def __call__(self, sound: np.ndarray, level: float, rendition: int = 0, axes: np.ndarray | None = None) -> np.ndarray:
    """Hidden states of a whole sound.

    Args:
      sound: [n] int16, 16 kHz mono; silence lies around it.
      level: `speech_level` of the recording that it is from.
      rendition: 0 or 1, where windows lie.
      axes: [D, K], of which the states' coordinates are returned: fewer of them are held than states of a long sound.

    Returns:
      [⌈n / 320⌉, D or K] float32; step k is centred at k / 50 s.

    Raises:
      InputError: they are not finite.
    """
    num_steps, window = max(1, -(-len(sound) // STEP)), self._window
    context = min(CONTEXT_STEPS, window // 4)
    hop = window - 2 * context
    fade = np.clip((np.arange(window) + 0.5 - context / 2) / context, 1e-3, 1)
    fade = np.minimum(fade, fade[::-1])[:, None].astype(np.float32)
    num_channels = self.num_channels if axes is None else axes.shape[1]
    total, weight = np.zeros((num_steps, num_channels), np.float32), np.zeros((num_steps, 1), np.float32)
    for start in np.arange(-context - rendition * hop // 2, max(num_steps - context, 1), hop).tolist():
      low, high = max(start, 0), min(start + window, num_steps)
      if low < high:
        inside = slice(low - start, high - start)
        states = np.asarray(self.encode(self.window_mel(sound, start, level)[None]))[0, inside]
        total[low:high] += fade[inside] * (states if axes is None else states @ axes)
        weight[low:high] += fade[inside]
    total /= weight
    if not np.isfinite(total).all():
      raise InputError('the speech encoder gives values that are not finite; its weights are damaged')
    return total

  def window_mel(self, sound: np.ndarray, start: int, level: float) -> np.ndarray:
    """What `encode` hears of the window from step `start` on: [2·window, bands] float32."""
    first, count = start * STEP - FFT // 2, 2 * self._window * HOP + FFT - HOP
    low, high = np.clip([first, first + count], 0, len(sound))
    samples = np.zeros(count, np.float32)
    samples[low - first:high - first] = sound[low:high] / np.float32(32768 * level)
    return whisper_mel(samples, self._num_bands)


@functools.lru_cache(maxsize=1)
def own_digest() -> str:
  """Tells the package's weights."""
  return hashlib.sha256(asset(ASSET).read_bytes()).hexdigest()


@functools.lru_cache(maxsize=1)
def own_encoder() -> WhisperSpeech:
  """The package's encoder: the convolutions and first two layers of a Whisper-tiny, hidden states of the second, D = 384."""
  weights = load_asset(ASSET)
  encoder = WhisperEncoder(num_channels=384, num_heads=6, num_hidden=1536, num_layers=2,
                           max_steps=len(weights['embed_positions.weight']))
  return WhisperSpeech(encoder, weights, library='speech2lip_jax')


def is_whisper(folder: str) -> bool:
  """Whether the folder's config.json is of a Whisper."""
  try:
    return json.loads(pathlib.Path(folder, 'config.json').read_text()).get('model_type') == 'whisper'
  except (OSError, ValueError, AttributeError):
    return False  # said where the folder is opened as another family


def whisper_of_folder(folder: str) -> WhisperSpeech:
  """The whole encoder of a folder that `save_pretrained` wrote, or of `openai/whisper-*`: the last hidden states.

  Raises:
    InputError: safetensors is not installed, or the folder's weights are missing or damaged.
  """
  if importlib.util.find_spec('safetensors') is None:
    raise InputError(f"config.audio.features='hf:{folder}': needs safetensors: pip install safetensors")
  import safetensors
  config = json.loads(pathlib.Path(folder, 'config.json').read_text())
  paths, weights = sorted(pathlib.Path(folder).glob('*.safetensors')), {}
  if not paths:
    raise InputError(f'{folder}: the speech encoder has no weights (model.safetensors); download the whole folder')
  try:
    for path in paths:
      with safetensors.safe_open(path, 'numpy') as file:
        for name in file.keys():
          short = name.removeprefix('model.').removeprefix('encoder.')
          if 'decoder.' not in name:
            weights[short] = file.get_tensor(name).astype(np.float32)
    encoder = WhisperEncoder(config['d_model'], config['encoder_attention_heads'], config['encoder_ffn_dim'],
                             config['encoder_layers'], config['max_source_positions'], final_norm=True)
    return WhisperSpeech(encoder, weights, config['num_mel_bins'], library=f'safetensors {safetensors.__version__}')
  except (safetensors.SafetensorError, OSError, KeyError) as error:
    raise InputError(f'{folder}: the weights of the speech encoder cannot be read or are incomplete ({error}); download the folder '
                     'again') from error
