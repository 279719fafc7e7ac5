"""What every field of a recipe may be: the one place where types, ranges, choices and relations are written.

`check` looks at a whole recipe, before anything is written, in every verb and every library call that takes one. The column
"values" of docs/configuration.md comes from here, and a range in a field's comment must be the one that stands here
(tests/test_schema.py).
"""
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError

MOST = 10**9  # of what has no other limit: beyond this a count is a slip of the finger
SPEECH_SOURCES = ('mel', 'whisper', 'mel+whisper')  # config.audio.features that a subject's sound gives by itself


class Rule(NamedTuple):
  """What one field may be. `kind`: the type in words. `words`: its values in words. `fits`: whether a value of that type is one."""
  kind: str
  words: str
  fits: Callable[[Any], bool] = lambda value: True

  def allows(self, value: Any) -> bool:
    """Whether the value has the type, is finite, and fits."""
    types: Any = {'bool': bool, 'int': int, 'float': (float, int), 'str': str}[self.kind]
    if not isinstance(value, types) or (isinstance(value, bool) and self.kind != 'bool'):
      return False
    return (not isinstance(value, float) or math.isfinite(value)) and self.fits(value)


def _ends(low: float, high: float, above: bool, below: bool) -> str:
  if high == MOST:
    return f'{">" if above else "≥"} {low}, at most 1e9'
  return f'{"> " if above else ""}{low} … {"< " if below else ""}{high}'


def whole(low: int, high: int = MOST) -> Rule:
  """A whole number, both ends included."""
  return Rule('int', _ends(low, high, False, False), lambda value: low <= value <= high)


def real(low: float, high: float = MOST, above: bool = False, below: bool = False) -> Rule:
  """A finite number; `above`, `below`: the end itself is left out."""
  def fits(value):
    return (value > low if above else value >= low) and (value < high if below else value <= high)
  return Rule('float', _ends(low, high, above, below), fits)


def choice(*values: Any) -> Rule:
  """One of a few values."""
  return Rule(type(values[0]).__name__, f'one of {", ".join(map(repr, values))}', lambda value: value in values)


def text(words: str, fits: Callable[[str], bool] = lambda value: True) -> Rule:
  """A text; no control character is in it."""
  return Rule('str', words, lambda value: min(value, default=' ') >= ' ' and fits(value))


FLAG = Rule('bool', 'True, False')

_DATA = {
    'data.path': text('a folder, in one line of text'),
    'data.split': choice('auto', 'clips', 'tail'),
    'data.test_every': whole(2),
    'data.test_fraction': real(0, 0.5),
    'data.val_fraction': real(0, 0.5),
    'data.val_blocks': whole(1),
    'data.max_train_seconds': real(0),
    'data.num_val_frames': whole(1),
    'data.prefetch': whole(1, 1000),
}

DEFAULT: dict[str, Rule] = {
    'seed': whole(0, 2**31 - 1),
    **_DATA,
    'audio.features': text(
        f"one of {', '.join(map(repr, SPEECH_SOURCES))}, FILE.npy, 'hf:FOLDER_OR_NAME'",
        lambda value: value in SPEECH_SOURCES or value.endswith('.npy') or (value.startswith('hf:') and value != 'hf:')),
    'audio.features_rate': real(0, 1000),
    'audio.window_steps': choice(16, 32, 64),
    'audio.num_features': whole(1, 4096),
    'audio.noise_std': real(0, 10),
    'audio.normalise': FLAG,
    'audio.network': choice('residual', 'strided'),
    'audio.init': text("a workdir, '', in one line of text"),
    'audio.voice_fraction': real(0, 1),
    'audio.voice_warp': real(0, 1),
    'audio.voice_tilt_std': real(0, 10),
    'audio.voice_gain_std': real(0, 10),
    'audio.smoothing': real(0, 10),
    'silence.close': FLAG,
    'silence.lead': real(0, 5),
    'silence.hold': real(0, 5),
    'silence.ramp': real(0, 5),
    'field.kind': choice('product', 'reference', 'decoder'),
    'field.width': whole(1, 4096),
    'field.depth': whole(1, 64),
    'field.rank': whole(1, 4096),
    'field.skip_after': whole(1, 63),
    'field.use_time': FLAG,
    'field.render_time': choice('middle', 'own'),
    'field.residual': FLAG,
    'field.detail_gain': real(1, 4),
    'field.real_detail': real(0, 1),
    'field.ensemble': FLAG,
    'linear.share': real(0, 1),
    'linear.num_components': whole(1, 1000),
    'linear.amplitude': real(0, 2),
    'compose.sampling': choice('grid', 'direct'),
    'compose.feather': real(0, 0.5),
    'compose.num_inverse_steps': whole(1, 100),
    'compose.jaw': FLAG,
    'blend.width': whole(1, 1024),
    'blend.align_corners': FLAG,
    'blend.residual': FLAG,
    'blend.context': real(0, 1),
    'blend.hole_fraction': real(0, 1),
    'blend.edge': real(0, 0.5),
    'depth.cell': real(0.005, 0.5),
    'depth.num_frames': whole(0),
    'depth.data_weight': real(0),
    'loss.lip_weight': real(0),
    'loss.frame_weight': real(0),
    'loss.lip_perceptual_weight': real(0),
    'loss.perceptual_weight': real(0),
    'loss.lpips': text("one of 'own', FILE.npz, ''", lambda value: value in ('', 'own') or value.endswith('.npz')),
    'loss.sync_weight': real(0),
    'perceptual.start_step': whole(0),
    'perceptual.num_frames': whole(1),
    'perceptual.height': whole(31, 4096),
    'sync.expert': text("folders with commas between, 'own', '', in one line of text"),
    'sync.num_own': whole(1, 100),
    'sync.start_step': whole(0),
    'sync.num_windows': whole(1),
    'sync.num_negatives': whole(0, 1000),
    'sync.max_shift': whole(2, 10_000),
    'sync.negative_weight': real(0),
    'train.num_steps': whole(1),
    'train.batch_size': whole(1),
    'train.lip_pixels': whole(0),
    'train.blend_start_step': whole(0),
    'train.blend_every': whole(1),
    'train.initial_weights': choice('own', 'torch'),
    'train.learning_rate': real(0, 1, above=True),
    'train.schedule': choice('cosine', 'constant'),
    'train.warmup_steps': whole(0),
    'train.weight_decay': real(0, 1),
    'train.clip_norm': real(0, above=True),
    'train.ema_decay': real(0, 1, below=True),
    'train.log_every': whole(1),
    'train.eval_every': whole(1),
    'train.keep_checkpoints': whole(1),
}

# A section that a recipe may have besides: the released program's own, in configs/reference.py.
REFERENCE: dict[str, Rule] = {
    'reference.learning_rate': real(0, 1, above=True),
    'reference.paste_offset_px': whole(-10, 10),
    'reference.expand_divisor': whole(1, 1000),
    'reference.lpips_weight': real(0),
    'reference.depth_weight': real(0),
    'reference.sync_weight': real(0),
    'reference.sync_start_step': whole(0),
}

# Fields that old workdirs have; nothing reads them.
RETIRED: dict[str, Rule] = {'audio.gain_std': real(0), 'linear.opening_gain': real(0), 'loss.depth_weight': real(0)}

EXPERT: dict[str, Rule] = {
    'seed': whole(0, 2**31 - 1),
    **_DATA,
    'data.part': choice('all', 'even', 'odd'),
    'expert.num_features': whole(1, 4096),
    'expert.width': whole(1, 4096),
    'expert.temperature': real(0, 100, above=True),
    'expert.neighbour_weight': real(0, 1),
    'expert.mel_noise_std': real(0, 10),
    'expert.mel_gain_std': real(0, 10),
    'train.num_steps': whole(2),
    'train.num_runs': whole(1),
    'train.run_frames': whole(5),
    'train.learning_rate': real(0, 1, above=True),
    'train.warmup_steps': whole(0),
    'train.weight_decay': real(0, 1),
    'train.log_every': whole(1),
}

RULES = {'default': DEFAULT, 'expert': EXPERT}


def fields(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Every field's whole name and value: ('train.num_steps', 1500), …"""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from fields(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def nearest(name: str, known: Mapping[str, Any]) -> str:
  """The known field that a name was most likely meant to be, or ''. A field's own name counts before its section's."""
  same = [field for field in known if field.rpartition('.')[2] == name.rpartition('.')[2]]
  close = difflib.get_close_matches(name, same or known, 1, 0.0 if same else 0.6)
  return close[0] if close else ''


def _relations(values: Mapping[str, Any]) -> Iterator[str]:
  """Lines on values that each are allowed and do not go together. values: of the whole default recipe, each in its range."""
  batch, every = values['train.batch_size'], values['train.blend_every']
  if values['train.blend_start_step'] < values['train.num_steps'] and batch % every:
    yield f'train.batch_size={batch}: must be a multiple of train.blend_every={every}; give {-(-batch // every) * every}'
  source, rate = values['audio.features'], values['audio.features_rate']
  if rate and not source.endswith('.npy'):
    yield f'audio.features_rate={rate}: is for a .npy file of steps, not for audio.features={source!r}; leave it 0'
  kind, depth, skip = values['field.kind'], values['field.depth'], values['field.skip_after']
  if kind == 'decoder':  # paints whole pixels of one lip image, and has no time input
    for name, wanted in (('compose.sampling', 'grid'), ('field.ensemble', False), ('field.use_time', False)):
      if values[name] != wanted:
        yield f"{name}={values[name]!r}: must be {wanted!r} with field.kind='decoder', which paints pixels alone"
  if kind == 'reference' and skip >= depth:
    yield (f"field.skip_after={skip}: must be below field.depth={depth} with field.kind='reference'; "
           f'give a depth of {skip + 1}, or skip_after={max(1, depth - 1)}')
  if not any(values[f'loss.{name}_weight'] for name in ('lip', 'frame', 'lip_perceptual', 'perceptual')):
    yield ('loss.lip_weight=0: must be above 0, or one of loss.frame_weight, lip_perceptual_weight, perceptual_weight: '
           'else nothing is learned')


def problems(config: Any, recipe: str = 'default', known: Mapping[str, Rule] | None = None) -> list[str]:
  """What is wrong with a recipe: a line for each field, without the flag before its name; none where all is well.

  Args:
    config: a whole recipe.
    recipe: which rules hold, a key of RULES.
    known: rules of fields that may be there besides.
  """
  if not isinstance(config, ConfigDict):
    return [f': is {type(config).__name__}, must be an ml_collections.ConfigDict']
  required = RULES[recipe]
  rules = {**required, **(REFERENCE if recipe == 'default' else {}), **(known or {})}
  sections = {name.partition('.')[0] for name in rules if '.' in name}
  values, lines = dict(fields(config)), []
  for name, value in values.items():
    if name not in rules:
      likely = nearest(name, rules)
      what = 'is a section, with fields of its own' if name in sections else 'no such field'
      lines.append(f'{name}={value!r}: {what}' + (f'; did you mean {likely}?' if likely and name not in sections else ''))
    elif not rules[name].allows(value):
      lines.append(f'{name}={value!r}: must be {rules[name].words}')
  lines += [f'{name}: is missing; must be {rule.words}' for name, rule in required.items() if name not in values]
  if not lines and recipe == 'default':
    lines += _relations(values)
  return lines


def check(config: Any, recipe: str = 'default', where: str = '', known: Mapping[str, Rule] | None = None) -> None:
  """Checks a whole recipe.

  Args:
    config, recipe, known: as `problems` takes them.
    where: begins each line, such as a file that the recipe was read from.

  Raises:
    InputError: a line for each field that is unknown, missing, of another type, out of range, or does not go with another.
  """
  flag = 'config' if recipe == 'default' else 'recipe'
  lines = [f'{where}{flag}{"" if line.startswith(":") else "."}{line}' for line in problems(config, recipe, known)]
  if lines:
    raise InputError(*lines)
