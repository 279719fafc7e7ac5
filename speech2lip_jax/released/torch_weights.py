"""PyTorch weights of the released program, of LPIPS and of SyncNet → our Flax trees. NumPy only.

A state dict is {torch name: array}. Each network has a table of `Entry`: where a torch array goes and how its axes are
turned. A name that the table lacks and that is not known to be dead raises, and so does a missing one, so that no
weight is lost silently.
"""
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.models import lpips, syncnet

Tree = dict[str, Any]


class Entry(NamedTuple):
  """One array: its torch name, its path in the Flax variables, the order of the torch axes in ours, and its torch shape
  (None: any; the lip field may have any width).
  """
  torch_name: str
  path: tuple[str, ...]
  axes: tuple[int, ...]
  shape: tuple[int, ...] | None = None


_VECTOR = (0,)
_LINEAR = (1, 0)  # (out, in) → (in, out)
_CONV_1D = (2, 1, 0)  # (out, in, k) → (k, in, out)
_CONV_2D = (2, 3, 1, 0)  # (out, in, kh, kw) → (kh, kw, in, out)
_POINTWISE = (1, 0, 2, 3)  # (out, in, 1, 1) → (in, out, 1, 1), squeezed to (in, out)
_CHANNELS = (0, 2, 3, 1)  # (1, C, 1, 1) → (1, 1, 1, C), squeezed to (C,)

_BLEND_BLOCKS = {'inc': 'inc', 'down1.maxpool_conv.1': 'down_1', 'down2.maxpool_conv.1': 'down_2', 'up1.conv': 'up_1',
                 'up2.conv': 'up_2'}

# The five convolutions of AlexNet as torchvision names them.
_ALEXNET_NAMES = ('features.0', 'features.3', 'features.6', 'features.8', 'features.10')

# The convolutions of each trunk, as a whole LPIPS module names them.
_TRUNK_NAMES = {
    'alex': ('net.slice1.0', 'net.slice2.3', 'net.slice3.6', 'net.slice4.8', 'net.slice5.10'),
    'st_alex': ('net.slice1.0', 'net.slice2.5', 'net.slice3.9', 'net.slice4.11', 'net.slice5.13'),
    'st_vgg': ('net.slice1.0', 'net.slice1.2', 'net.slice2.6', 'net.slice2.8', *(f'net.slice3.{i}' for i in (12, 14, 16)),
               *(f'net.slice4.{i}' for i in (20, 22, 24)), *(f'net.slice5.{i}' for i in (28, 30, 32)))}


def _layer(torch_name: str, path: tuple[str, ...], axes: tuple[int, ...]) -> list[Entry]:
  return [Entry(f'{torch_name}.weight', ('params', *path, 'kernel'), axes),
          Entry(f'{torch_name}.bias', ('params', *path, 'bias'), _VECTOR)]


def audio_net_entries() -> list[Entry]:
  """Table of `AudioNet` for windows of 16 steps."""
  entries = [entry for i in range(4) for entry in _layer(f'encoder_conv.{2 * i}', (f'conv_{i}',), _CONV_1D)]
  return entries + [entry for i in range(2) for entry in _layer(f'encoder_fc1.{2 * i}', (f'dense_{i}',), _LINEAR)]


def lip_field_entries(depth: int = 8) -> list[Entry]:
  """Table of `LipField` with use_time, any width."""
  entries = []
  for ours, theirs in (('place', 'uv'), ('audio', 'audio'), ('time', 'time')):
    entries += _layer(f'fc_{theirs}', (f'{ours}_in',), _LINEAR)
    entries += _layer(f'fc_{theirs}_skip', (f'{ours}_skip',), _LINEAR)
  for i in range(depth):
    entries += _layer(f'pts_linears.{i}', (f'hidden_{i}',), _LINEAR)
  return entries + _layer('output_linear', ('rgb',), _LINEAR)


def blend_net_entries(prefix: str = '') -> list[Entry]:
  """Table of `BlendNet`; `prefix` precedes the torch names, 'post_fusion_unet.' in whole-model files."""
  entries = []
  for theirs, ours in _BLEND_BLOCKS.items():
    for i in range(2):
      conv, norm = (f'{prefix}{theirs}.double_conv.{3 * i + j}' for j in range(2))
      entries += [Entry(f'{conv}.weight', ('params', ours, f'conv_{i}', 'kernel'), _CONV_2D),
                  Entry(f'{norm}.weight', ('params', ours, f'norm_{i}', 'scale'), _VECTOR),
                  Entry(f'{norm}.bias', ('params', ours, f'norm_{i}', 'bias'), _VECTOR),
                  Entry(f'{norm}.running_mean', ('batch_stats', ours, f'norm_{i}', 'mean'), _VECTOR),
                  Entry(f'{norm}.running_var', ('batch_stats', ours, f'norm_{i}', 'var'), _VECTOR)]
  return entries + _layer(f'{prefix}outc.conv', ('out',), _POINTWISE)


def lpips_entries(trunk: str = 'alex') -> list[Entry]:
  """Table of `Lpips` with this trunk, by the names of a whole LPIPS module."""
  entries = [Entry(f'scaling_layer.{name}', ('params', name), _CHANNELS, (1, 3, 1, 1)) for name in ('shift', 'scale')]
  num_inputs, num_compared = 3, 0
  for i, (layer, torch_name) in enumerate(zip(lpips.TRUNKS[trunk].layers, _TRUNK_NAMES[trunk], strict=True)):
    shape = (layer.num_outputs, num_inputs, layer.kernel, layer.kernel)
    entries += [Entry(f'{torch_name}.weight', ('params', f'conv_{i}', 'kernel'), _CONV_2D, shape),
                Entry(f'{torch_name}.bias', ('params', f'conv_{i}', 'bias'), _VECTOR, shape[:1])]
    if layer.compared:
      entries += [Entry(f'lin{num_compared}.model.1.weight', ('params', f'lin_{num_compared}'), _CHANNELS,
                        (1, layer.num_outputs, 1, 1))]
      num_compared += 1
    num_inputs = layer.num_outputs
  return entries


def syncnet_entries() -> list[Entry]:
  """Table of `SyncNet`."""
  entries = []
  for theirs, ours, blocks, num_inputs in (('face', 'face', syncnet.FACE_BLOCKS, syncnet.FACE_CHANNELS),
                                           ('audio', 'mel', syncnet.MEL_BLOCKS, syncnet.MEL_CHANNELS)):
    for i, block in enumerate(blocks):
      conv, norm = (f'{theirs}_encoder.{i}.conv_block.{j}' for j in range(2))
      vector = (block.num_outputs,)
      entries += [Entry(f'{conv}.weight', ('params', ours, f'conv_{i}', 'kernel'), _CONV_2D,
                        (block.num_outputs, num_inputs, block.kernel, block.kernel)),
                  Entry(f'{conv}.bias', ('params', ours, f'conv_{i}', 'bias'), _VECTOR, vector),
                  Entry(f'{norm}.weight', ('params', ours, f'norm_{i}', 'scale'), _VECTOR, vector),
                  Entry(f'{norm}.bias', ('params', ours, f'norm_{i}', 'bias'), _VECTOR, vector),
                  Entry(f'{norm}.running_mean', ('batch_stats', ours, f'norm_{i}', 'mean'), _VECTOR, vector),
                  Entry(f'{norm}.running_var', ('batch_stats', ours, f'norm_{i}', 'var'), _VECTOR, vector)]
      num_inputs = block.num_outputs
  return entries


def from_torch(entry: Entry, array: np.ndarray) -> np.ndarray:
  """A torch array, or its gradient, in our layout, float32.

  Raises:
    InputError: the array has another number of axes, or another shape, than the table says.
  """
  array = np.asarray(array, np.float32)
  if array.ndim != len(entry.axes):
    raise InputError(f'{entry.torch_name}: has shape {array.shape}, expected {len(entry.axes)} axes')
  if entry.shape not in (None, array.shape):
    raise InputError(f'{entry.torch_name}: has shape {array.shape}, expected {entry.shape}; is this the file of another network?')
  if entry.axes == _CHANNELS:
    return array.reshape(-1)
  array = array.transpose(entry.axes)
  return np.ascontiguousarray(array[..., 0, 0] if entry.axes == _POINTWISE else array)


def convert_state(state: Mapping[str, np.ndarray], entries: Iterable[Entry], dead: tuple[str, ...] = ()) -> Tree:
  """Flax variables {'params': …, 'batch_stats': …} of a whole torch state dict.

  Args:
    state: {torch name: array}.
    entries: the tables of the networks that it holds.
    dead: starts or ends of names that are left out on purpose.

  Raises:
    InputError: a name is missing or unexpected, or an array has another shape.
  """
  entries = list(entries)
  missing = sorted({entry.torch_name for entry in entries} - set(state))
  if missing:
    raise InputError(f'{missing[0]}: missing from the weights ({len(missing)} of {len(entries)} names are); '
                     'is this the file of another network?')
  unexpected = sorted(name for name in set(state) - {entry.torch_name for entry in entries}
                      if not name.startswith(dead) and not name.endswith(dead))
  if unexpected:
    raise InputError(f'{unexpected[0]}: unexpected among the weights ({len(unexpected)} such names); '
                     'is this the file of another network?')
  variables: Tree = {}
  for entry in entries:
    branch = variables
    for key in entry.path[:-1]:
      branch = branch.setdefault(key, {})
    branch[entry.path[-1]] = from_torch(entry, state[entry.torch_name])
  return variables


def audio_net_from_torch(state: Mapping[str, np.ndarray]) -> Tree:
  """Variables of `AudioNet`; `state` holds its names only (encoder_conv.*, encoder_fc1.*)."""
  return convert_state(state, audio_net_entries())


def lip_field_from_torch(state: Mapping[str, np.ndarray]) -> Tree:
  """Variables of `LipField(use_time=True)`; the unused coord_linears.* are left out."""
  return convert_state(state, lip_field_entries(), dead=('coord_linears.',))


def blend_net_from_torch(state: Mapping[str, np.ndarray]) -> Tree:
  """Variables of `BlendNet(residual=False)`, batch_stats included; the counters num_batches_tracked are left out."""
  return convert_state(state, blend_net_entries(), dead=('.num_batches_tracked',))


def speech_part_from_torch(state: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
  """Variables of `AudioNet` and `LipField` of a state dict that holds both, as the released program's do.

  Raises:
    InputError: a name is missing or unexpected.
  """
  is_audio = {name: name.startswith('encoder_') for name in state}
  audio_net = audio_net_from_torch({name: array for name, array in state.items() if is_audio[name]})
  return audio_net, lip_field_from_torch({name: array for name, array in state.items() if not is_audio[name]})


def lpips_trunk(state: Mapping[str, np.ndarray]) -> str:
  """Which of `lpips.TRUNKS` a state dict is of: a module of ST-LPIPS names the last convolution of its own trunk."""
  return next((trunk for trunk in ('st_alex', 'st_vgg') if f'{_TRUNK_NAMES[trunk][-1]}.weight' in state), 'alex')


def lpips_from_torch(state: Mapping[str, np.ndarray]) -> Tree:
  """Variables of `Lpips` with `lpips_trunk`: of a whole module, or of torchvision's AlexNet and LPIPS's linear weights in one dict.

  AlexNet's classifier, the constant blurs of ST-LPIPS and the module's second names for its linear weights (lins.*) are left out.
  Where no names of the input's normalisation are there, as in the two public files, the published one is taken.

  Raises:
    InputError: a name is missing or unexpected, or an array has another shape.
  """
  named, trunk = {}, lpips_trunk(state)
  for name, array in state.items():
    layer, _, kind = name.rpartition('.')
    named[f'{_TRUNK_NAMES[trunk][_ALEXNET_NAMES.index(layer)]}.{kind}' if layer in _ALEXNET_NAMES else name] = array
  for name, values in (('shift', lpips.SHIFT), ('scale', lpips.SCALE)):
    named.setdefault(f'scaling_layer.{name}', np.array(values, np.float32).reshape(1, 3, 1, 1))
  return convert_state(named, lpips_entries(trunk), dead=('lins.', 'classifier.', '.filt'))


def syncnet_from_torch(state: Mapping[str, np.ndarray]) -> Tree:
  """Variables of `SyncNet`, batch_stats included; the counters num_batches_tracked are left out.

  Raises:
    InputError: a name is missing or unexpected, or an array has another shape.
  """
  return convert_state(state, syncnet_entries(), dead=('.num_batches_tracked',))
