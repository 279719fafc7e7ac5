"""The authors' checkpoint and data folder → a workdir of ours: `speech2lip convert --kind speech2lip`.

OUT becomes a workdir (config.json, checkpoints) with the subject in OUT/subject, ready for `speech2lip render`; the data folder is
described in `import_dataset`. The networks were trained on frames pasted by the program's rule (a grown rectangle of the
canonical face, not the lips alone) and on whole frames: a seam that Blend-Net removes there may show a little here.
"""
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common import recipes, weights
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock, write_text
from speech2lip_jax.models.audio_net import AudioNet
from speech2lip_jax.models.blend_net import BlendNet
from speech2lip_jax.models.lip_field import LipField
from speech2lip_jax.released import import_dataset, torch_file, torch_weights
from speech2lip_jax.training import state as train_state
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir import state as workdir_state
from speech2lip_jax.workdir.run import open_run


class Networks(NamedTuple):
  """A converted checkpoint. params: {'audio_net', 'lip_field', 'blend_net'}. depth: [H, W] or None, as the program learned it."""
  params: dict[str, Any]
  batch_stats: dict[str, Any]
  depth: np.ndarray | None
  step: int
  width: int
  num_channels: int


def _find_state(content: Any) -> dict[str, Any] | None:
  """The dict with the lip field's names, under whatever keys it lies."""
  if not isinstance(content, dict):
    return None
  if any(str(name).removeprefix('module.') == 'fc_uv.weight' for name in content):
    return content
  return next((found for value in content.values() if (found := _find_state(value)) is not None), None)


def _found_step(content: Any) -> int:
  """Steps the checkpoint says it was trained for; 1 if it does not."""
  for name in ('global_step', 'step', 'iteration', 'iter'):
    value = content.get(name) if isinstance(content, dict) else None
    if isinstance(value, int) and value > 0:
      return value
  return 1


def load_networks(src: os.PathLike | str) -> Networks:
  """Reads the authors' checkpoint.

  Raises:
    InputError: it cannot be read, or its names and shapes are not those of the program's networks.
  """
  content = torch_file.load_checkpoint(src)
  found = _find_state(content)
  if found is None:
    raise InputError(f'{src}: has no weights of a lip field (fc_uv.weight); give the model_*.pt that the program saved')
  state = torch_file.state_dict(found, src)
  is_blend = lambda name: name.startswith('post_fusion_unet.')
  depth = state.pop('canonical_depth_head', None)
  try:
    audio_net, lip_field = torch_weights.speech_part_from_torch({k: v for k, v in state.items() if not is_blend(k)})
    blend_net = torch_weights.blend_net_from_torch(
        {name.removeprefix('post_fusion_unet.'): array for name, array in state.items() if is_blend(name)})
    params = {name: tree['params'] for name, tree in
              (('audio_net', audio_net), ('lip_field', lip_field), ('blend_net', blend_net))}
    width, num_channels = state['fc_uv.weight'].shape[0], state['encoder_conv.0.weight'].shape[1]
    _check_shapes(params, width, num_channels)
  except InputError as error:
    raise InputError(f'{src}: {error}') from error
  if depth is not None:
    depth = np.squeeze(depth)
    if depth.ndim != 2:
      raise InputError(f'{src}: canonical_depth_head has shape {depth.shape}, expected [H, W]')
  return Networks(params, {'blend_net': blend_net['batch_stats']}, depth, _found_step(content), width, num_channels)


def _check_shapes(params, width, num_channels):
  """The networks' weights have the shapes that their width and input give.

  Raises:
    InputError: one has not.
  """
  key, zeros = jax.random.key(0), lambda *shape: jax.ShapeDtypeStruct(shape, np.float32)
  expected = {
      'audio_net': jax.eval_shape(AudioNet().init, key, zeros(1, 16, num_channels)),
      'lip_field': jax.eval_shape(LipField(width=width, use_time=True).init, key, zeros(1, 1, 2), zeros(1, 64), zeros(1)),
      'blend_net': jax.eval_shape(BlendNet(residual=False, align_corners=True).init, key, zeros(1, 8, 8, 3))}
  for name, network in expected.items():
    for path, wanted in jax.tree.leaves_with_path(network['params']):
      found = params[name]
      for part in path:
        found = found[part.key]
      if found.shape != wanted.shape:
        raise InputError(f'{name}{jax.tree_util.keystr(path)} has shape {found.shape}, expected {wanted.shape}; '
                         'is this the file of another network?')


def imported_config(networks: Networks, subject: pathlib.Path, features: pathlib.Path) -> ConfigDict:
  """configs/reference.py for these weights and this subject, locked."""
  config = recipes.load('reference').get_config().unlock()
  config.data.path = str(subject.resolve())
  config.audio.features = str(features.resolve())
  config.field.width = networks.width
  config.train.num_steps = max(config.train.num_steps, networks.step)
  return config.lock()


def convert_speech2lip(src: str, dataset: str | None, out: str) -> None:
  """Writes the workdir OUT of an imported subject; without a data folder OUT/weights.npz alone, for programs of one's own.

  Args:
    src: the authors' model_*.pt.
    dataset: their data folder of the same subject.
    out: a new folder.

  Raises:
    InputError: a file is missing, damaged or does not fit, or OUT is in use.
  """
  workdir, mark = pathlib.Path(out), pathlib.Path(out, '.import')
  in_use = InputError(f'--out={out}: is in use; give a new folder')
  if workdir.is_file() or (workdir / 'config.json').exists() and not mark.exists():
    raise in_use
  networks = load_networks(src)
  if dataset is None:
    weights.save_tree(workdir / 'weights.npz', {'params': networks.params, 'batch_stats': networks.batch_stats})
    return
  source = import_dataset.find_files(dataset)
  if (workdir / 'subject' / 'meta.json').exists() and not mark.exists():
    raise in_use
  workdir.mkdir(parents=True, exist_ok=True)
  with lock(workdir, 'convert'):
    write_text(mark, 'An import that is not finished; the same command finishes it.\n')
    if not config_file.has_checkpoints(workdir):  # written last
      _write_workdir(networks, source, workdir)
    mark.unlink()


def _write_workdir(networks: Networks, source: import_dataset.Source, workdir: pathlib.Path) -> None:
  features = import_dataset.write_subject(source, workdir / 'subject', networks.num_channels, networks.depth)
  config = imported_config(networks, workdir / 'subject', features)
  run = open_run(config)
  optimizer, _ = train_state.make_optimizer(config.train)
  shapes = jax.eval_shape(lambda: workdir_state.create_variables(run.model, run.constants, config, networks.num_channels))
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes['params'])
  params = zeros | networks.params  # D_c's correction stays 0
  state = workdir_state.TrainState(jax.numpy.int32(networks.step), params, networks.batch_stats, optimizer.init(params), params)
  config_file.claim_workdir(workdir, config)
  with checkpoint.Checkpoints(workdir, writes=True) as checkpoints:
    checkpoints.save(state, score=0.0, phase=0)  # not measured: the first validation of a continued training ranks above it
