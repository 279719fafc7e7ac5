"""WORKDIR/config.json: the recipe and the subject that a workdir was made with, sealed, and what of them may change."""
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from speech2lip_jax.common import checksums, recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.data import schema

# What was so before there was a field for it, where today's default is something else.
BEFORE = {'data.val_blocks': 1, 'linear.share': 0.0, 'linear.amplitude': 0.0, 'loss.lip_perceptual_weight': 0.0,
          'field.detail_gain': 1.0, 'compose.jaw': False}

# What may change in a workdir that has checkpoints: where the subject lies, how long and how fast training goes on, its logging,
# the jaw and the detail of real mouths, which are no part of it.
MAY_CHANGE = ('data.path', 'data.prefetch', 'data.num_val_frames', 'compose.jaw', 'field.real_detail', 'train.num_steps',
              'train.batch_size', 'train.lip_pixels', 'train.learning_rate', 'train.schedule', 'train.warmup_steps',
              'train.blend_start_step', 'train.log_every', 'train.eval_every', 'train.keep_checkpoints', 'sync.start_step',
              'sync.num_windows', 'perceptual.start_step', 'perceptual.num_frames')

PLACES = ('data.path', 'audio.features', 'audio.init', 'loss.lpips')  # fields that may name a file or folder
SUBJECT = 'subject_identity'  # in config.json, beside the fields: `schema.identity` of the subject
_CONFIG_REMEDY = 'copy it back, or delete the workdir and train again'


def claim_workdir(workdir: os.PathLike | str, config: ConfigDict, write: bool = True, may_change: Collection[str] = MAY_CHANGE
                  ) -> list[str]:
  """Writes the resolved config to WORKDIR/config.json: paths made absolute, those inside the workdir relative to it, a checksum.

  A workdir without checkpoints takes any config. One with checkpoints keeps its own but for the fields of `may_change`, and its
  subject, which may lie at another place.

  Args:
    workdir: the folder, made where it is not there.
    config: what is to be trained now.
    write: False only checks, for all processes but the first.
    may_change: the fields that may differ from those of the checkpoints.

  Returns:
    A line for each field that has changed.

  Raises:
    InputError: the workdir was made with another config or subject; the message names each field that differs.
  """
  path, changes, refused = pathlib.Path(workdir, 'config.json'), [], []
  values = json.loads(config.to_json_best_effort())
  here = {name: _placed(name, value, pathlib.Path.cwd()) for name, value in config_schema.fields(ConfigDict(values))}
  subject = _identity(here['data.path'])
  if path.is_file() and has_checkpoints(workdir):
    there = dict(config_schema.fields(read_config(workdir)))
    for name in sorted(there.keys() | here.keys()):
      if there.get(name) == here.get(name) or _is_same_place(name, there.get(name), here.get(name)):
        continue
      if name not in may_change:
        refused.append(f'{path}: this workdir was made with config.{name}={there.get(name)!r}, now {here.get(name)!r}; '
                       'give the same config to resume, or another --workdir')
      changes.append(f'{workdir}: goes on with config.{name}={here.get(name)!r}, before {there.get(name)!r}')
    if refused:
      raise InputError(*refused)
    if subject:
      check_subject(workdir, here['data.path'])
  if write:
    path.parent.mkdir(parents=True, exist_ok=True)
    home = path.parent.resolve()
    for name, value in here.items():
      section, _, field = name.rpartition('.')
      (values[section] if section else values)[field] = _kept(value, home) if name in PLACES else value
    text = json.dumps(checksums.sealed(values | {SUBJECT: subject}), indent=1, sort_keys=True) + '\n'
    if not (path.is_file() and path.read_bytes() == text.encode()):
      write_text(path, text)
  return changes


def _placed(name: str, value: Any, base: pathlib.Path) -> Any:
  """A field's value; of one that names a place, the absolute path where that is seen from `base`."""
  if name not in PLACES or not value:
    return value
  path = os.path.abspath(base / value)
  return path if name == 'data.path' or os.path.exists(path) else value


def _kept(value: str, home: pathlib.Path) -> str:
  """A place as config.json has it: relative to the workdir `home` where it lies inside, so that both move together."""
  real = pathlib.Path(os.path.realpath(value)) if value else home
  return str(real.relative_to(home)) if value and os.path.isabs(value) and real != home and real.is_relative_to(home) else value


def _is_same_place(name: str, there: Any, here: Any) -> bool:
  return name in PLACES and bool(there and here) and os.path.realpath(there) == os.path.realpath(here)


def _identity(subject: str) -> str | None:
  return schema.identity(schema.read_meta(subject)) if subject and pathlib.Path(subject, 'meta.json').is_file() else None


def check_subject(workdir: os.PathLike | str, subject: str) -> None:
  """Looks whether a subject folder is the one that a workdir was trained on, where both say.

  Raises:
    InputError: it is not there, or another.
  """
  if not pathlib.Path(subject, 'meta.json').is_file():
    raise InputError(f'{subject}: the subject of {workdir} is not there; if it has been moved, move it back or make a link at this '
                     'place (ln -s); else make it again by the same speech2lip preprocess command')
  trained, found = _read(workdir)[1], _identity(subject)
  if trained and found and trained != found:
    raise InputError(f'{subject}: is not the subject that {workdir} was trained on, or has been made anew with another result; '
                     'give that one, or train in another --workdir')


def has_checkpoints(workdir: os.PathLike | str) -> bool:
  """Whether a checkpoint of the workdir is complete."""
  folder = pathlib.Path(workdir, 'checkpoints')
  return folder.is_dir() and any(step.name.isdigit() for step in folder.iterdir())


def read_config(workdir: os.PathLike | str) -> ConfigDict:
  """The config that a workdir was made with, paths absolute; fields that were added since then are as they were before (`BEFORE`).

  Raises:
    InputError: the folder is no workdir, or its config.json is damaged or of values that this program does not know.
  """
  return _read(workdir)[0]


def _read(workdir: os.PathLike | str) -> tuple[ConfigDict, str | None]:
  """`read_config`, and the identity of the subject."""
  path = pathlib.Path(workdir, 'config.json')
  if not path.is_file():
    raise InputError(f'{workdir}: not a training workdir (no config.json); make one with: speech2lip train --workdir {workdir}')
  values = checksums.read_record(path, _CONFIG_REMEDY)
  subject = values.pop(SUBJECT, None)
  config = ConfigDict(values)
  for name, value in config_schema.fields(recipes.load('default').get_config()):
    section, _, field = name.rpartition('.')
    if section and section not in config:
      config[section] = ConfigDict()
    place = config[section] if section else config
    if isinstance(place, ConfigDict) and field not in place:
      place[field] = BEFORE.get(name, value)
  config_schema.check(config, where=f'{path}: ', known=config_schema.RETIRED)
  for name in PLACES:
    section, _, field = name.rpartition('.')
    config[section][field] = _placed(name, config[section][field], path.parent.absolute())
  return config.lock(), subject
