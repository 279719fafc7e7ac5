"""Hidden states of a pretrained speech encoder (wav2vec 2.0, HuBERT, Whisper's encoder) over sound of any length.

Whisper's encoder runs in JAX (`whisper_speech`); the others need the extra `speech` (transformers, torch), imported only when a
sound is encoded. Sound is [n] int16, 16 kHz mono; features are [M, C] float32. Long sound is run in overlapping chunks that give
what one pass gives:

- wav2vec 2.0 and HuBERT: the convolutions see 25 ms, so chunks that overlap by that much are exact; what is normalised over
  the whole sound (its loudness, the group norm of the first layer) is measured over the whole sound first. The transformer
  then attends over everything, up to `ATTENTION_S`.
- Sound longer than that is run in windows that overlap by twice their context and are cross-faded in the middle of it. No
  pass is there to compare with: wav2vec 2.0 would attend over minutes that it never saw in training.
"""
import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.schema import SAMPLE_RATE
from speech2lip_jax.data.whisper_speech import WhisperSpeech, is_whisper, whisper_of_folder

CONVOLUTION_S = 20.0  # sound in the convolutions at once; their first layer takes 6.5 MB a second and copy
ATTENTION_S = 180.0  # sound that a transformer attends over at once; its time grows with the square
ATTENTION_CONTEXT_S = 10.0  # at each side of such a window
FAMILIES = ('wav2vec2', 'hubert', 'whisper')
_WEIGHTS = ('.safetensors', '.bin')


def encoder_digest(name: str) -> str:
  """What tells one set of weights from another, without loading them.

  Args:
    name: a local folder (its files are hashed) or a name at the Hugging Face hub (with the revision in the local cache).

  Raises:
    InputError: the folder has no configuration or no weights.
  """
  if os.path.isdir(name):
    _check_folder(name)
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(name).iterdir()):
      if path.suffix in _WEIGHTS or path.name in ('config.json', 'preprocessor_config.json'):
        with path.open('rb') as file:
          digest.update(path.name.encode() + hashlib.file_digest(file, 'sha256').digest())
    return digest.hexdigest()
  revision = ''
  if importlib.util.find_spec('huggingface_hub'):
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    try:
      cached = try_to_load_from_cache(name, 'config.json')
    except HFValidationError:
      cached = None
    revision = pathlib.Path(cached).parent.name if isinstance(cached, str) else ''
  return hashlib.sha256(f'{name}@{revision}'.encode()).hexdigest()


def _check_folder(folder: str) -> None:
  names = os.listdir(folder)
  if 'config.json' not in names:
    raise InputError(f'{folder}: no speech encoder (no config.json in it); give a folder that save_pretrained wrote')
  if not any(name.endswith(_WEIGHTS) for name in names):
    raise InputError(f'{folder}: the speech encoder has no weights (model.safetensors); download the whole folder')


def _check_family(name: str, model_type: str) -> None:
  if model_type not in FAMILIES:
    raise InputError(f'{name}: a {model_type!r} is no known speech encoder; one of: {", ".join(FAMILIES)}')


def open_encoder(name: str) -> 'Encoder':
  """Loads the encoder of a local folder, or of a name at the Hugging Face hub.

  Raises:
    InputError: there is none, it is of an unknown family or incomplete, or a package that it needs is not installed.
  """
  folder = name if os.path.isdir(name) else _downloaded_whisper(name)
  if folder and is_whisper(folder):
    return whisper_of_folder(folder)
  return TorchEncoder(name)


def _downloaded_whisper(name: str) -> str | None:
  """The folder of a Whisper at the hub, fetched where it is not there; None for other encoders or without the extra `speech`."""
  if 'whisper' not in name.lower() or importlib.util.find_spec('huggingface_hub') is None:
    return None
  import huggingface_hub
  try:
    return huggingface_hub.snapshot_download(name, allow_patterns=['config.json', '*.safetensors'])
  except Exception as error:  # the network and the hub each raise their own kinds
    raise _unloadable(name, error) from error


class TorchEncoder:
  """A loaded wav2vec 2.0 or HuBERT. rate: features a second. first_step: centre of feature 0, in features after the sound's
  start."""

  def __init__(self, name: str):
    """name: local folder or name at the hub.

    Raises:
      InputError: transformers or torch is not installed, no such encoder, or it is of an unknown family or incomplete.
    """
    if any(importlib.util.find_spec(module) is None for module in ('torch', 'transformers')):
      raise InputError(f"config.audio.features='hf:{name}': needs transformers and torch; in a checkout: "
                       "pip install -e '.[speech]', elsewhere: pip install torch transformers")
    import torch
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    self.name, self.library = name, f'transformers {transformers.__version__}, torch {torch.__version__}'
    self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    self._config = config = _from_pretrained(transformers.AutoConfig, name)
    _check_family(name, config.model_type)
    self._model = _load_weights(transformers, name, config).eval().to(self._device)
    self._extractor = _feature_extractor(transformers.Wav2Vec2FeatureExtractor, name)
    self._step_samples = int(np.prod(config.conv_stride))
    self._reach = 1  # samples that one feature sees
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
      self._reach = (self._reach - 1) * stride + kernel
    self.first_step, self.num_channels = self._reach / 2 / self._step_samples, config.hidden_size
    self.rate = SAMPLE_RATE / self._step_samples

  def __call__(self, sound: np.ndarray, level: float) -> np.ndarray:
    """The last hidden states of a whole sound [n] int16: [M, C] float32. level: not needed, these encoders level by themselves.

    Raises:
      InputError: they are not finite.
    """
    import torch
    with torch.inference_mode():
      features = self._wav2vec(sound / np.float32(32768))
    if not np.isfinite(features).all():
      raise InputError(f'{self.name}: the speech encoder gives values that are not finite; its weights are damaged')
    return features

  def _wav2vec(self, sound: np.ndarray) -> np.ndarray:
    import torch
    if getattr(self._extractor, 'do_normalize', True):
      sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    sound = np.pad(sound, (0, max(0, self._reach - len(sound))))
    local = self._convolve(torch.from_numpy(sound))

    def attend(start: int, stop: int) -> np.ndarray:
      hidden = self._model.feature_projection(local[None, start:stop].to(self._device))
      hidden = hidden[0] if isinstance(hidden, tuple) else hidden
      return self._model.encoder(hidden)[0][0].cpu().numpy()

    return in_windows(len(local), round(ATTENTION_S * self.rate), round(ATTENTION_CONTEXT_S * self.rate), attend)

  def _convolve(self, sound: Any) -> Any:
    """The convolutional front end over the whole sound, chunk by chunk: [M, conv channels] torch float32 on the CPU."""
    import torch
    first, *rest = self._model.feature_extractor.conv_layers
    normalise = self._whole_sound_norm(first, sound)
    num_steps = (len(sound) - self._reach) // self._step_samples + 1
    chunk, parts = max(1, round(CONVOLUTION_S * self.rate)), []
    for start in range(0, num_steps, chunk):
      stop = min(start + chunk, num_steps)
      samples = sound[start * self._step_samples:(stop - 1) * self._step_samples + self._reach].to(self._device)
      hidden = samples[None, None]
      hidden = first(hidden) if normalise is None else first.activation(normalise(first.conv(hidden)))
      for layer in rest:
        hidden = layer(hidden)
      parts.append(hidden[0].T.cpu())
    return torch.cat(parts)

  def _whole_sound_norm(self, layer: Any, sound: Any) -> Callable | None:
    """The group norm of the first layer with the statistics of the whole sound; None where it has none."""
    import torch
    norm = getattr(layer, 'layer_norm', None)
    if not isinstance(norm, torch.nn.GroupNorm):
      return None
    kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
    num_outputs, chunk = (len(sound) - kernel) // stride + 1, round(CONVOLUTION_S * SAMPLE_RATE / stride)
    moments = torch.zeros(2, layer.conv.out_channels, 1, dtype=torch.float64)
    for start in range(0, num_outputs, chunk):
      stop = min(start + chunk, num_outputs)
      hidden = layer.conv(sound[None, None, start * stride:(stop - 1) * stride + kernel].to(self._device)).double()[0]
      moments += torch.stack([hidden.sum(-1, keepdim=True), hidden.square().sum(-1, keepdim=True)]).cpu()
    mean, square = moments / num_outputs
    scale = (square - mean**2).clamp(min=0).add(norm.eps).rsqrt()
    mean, scale = mean.float().to(self._device), scale.float().to(self._device)
    return lambda hidden: (hidden - mean) * scale * norm.weight[:, None] + norm.bias[:, None]


def in_windows(num_steps: int, window: int, context: int, encode: Callable[[int, int], np.ndarray]) -> np.ndarray:
  """Features of a sequence from windows of it, cross-faded where they overlap: [num_steps, C] float32.

  Args:
    num_steps: length of the sequence.
    window: largest length of a window; a sequence no longer than that is one.
    context: steps at each side of a window in which the next one takes over; windows overlap by twice as many.
    encode: (start, stop) → [≥ stop − start, C] float32, features of steps start …
  """
  if num_steps <= window:
    return encode(0, num_steps)[:num_steps]
  hop, weight = window - 2 * context, np.zeros((num_steps, 1), np.float32)
  total: np.ndarray | None = None
  for start in range(0, num_steps - 2 * context, hop):
    stop = min(start + window, num_steps)
    features = encode(start, stop)[:stop - start]
    position = np.arange(stop - start, dtype=np.float32) + 0.5
    share = np.ones(stop - start, np.float32)
    if start > 0:
      share = np.minimum(share, np.clip((position - context / 2) / context, 0, 1))
    if stop < num_steps:
      share = np.minimum(share, np.clip((stop - start - position - context / 2) / context, 0, 1))
    if total is None:
      total = np.zeros((num_steps, features.shape[1]), np.float32)
    total[start:stop] += share[:, None] * features
    weight[start:stop, 0] += share
  assert total is not None  # a sequence longer than a window has one
  return total / weight


def _from_pretrained(loader: Any, name: str, **options) -> Any:
  try:
    return loader.from_pretrained(name, **options)
  except Exception as error:  # transformers, safetensors, torch and the network each raise their own kinds
    raise _unloadable(name, error) from error


def _unloadable(name: str, error: Exception) -> InputError:
  reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
  remedy = 'download the folder again' if os.path.isdir(name) else 'give an existing folder, or a name at huggingface.co'
  return InputError(f"config.audio.features='hf:{name}': cannot be loaded ({reason}); {remedy}")


def _feature_extractor(kind: Any, name: str, **defaults) -> Any:
  """As the folder says, or as the family usually has it where preprocessor_config.json is not in the folder."""
  if os.path.isdir(name) and not os.path.isfile(os.path.join(name, 'preprocessor_config.json')):
    return kind(**defaults)
  return _from_pretrained(kind, name)


def _load_weights(transformers: Any, name: str, config: Any) -> Any:
  import torch
  if os.path.isdir(name):
    _check_folder(name)
  model, info = _from_pretrained(transformers.AutoModel, name, dtype=torch.float32, output_loading_info=True)
  # Without these an encoder works as well: only pretraining uses them.
  needed = [key for key in info['missing_keys'] if not key.startswith(('masked_spec_embed', 'adapter.'))]
  if needed:
    raise InputError(f'{name}: the weights of the speech encoder are incomplete ({sorted(needed)[0]} and {len(needed) - 1} more '
                     'are not in it); download the folder again')
  return model


Encoder = TorchEncoder | WhisperSpeech
