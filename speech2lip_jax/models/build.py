"""The model for a subject, built on its geometry."""
from ml_collections import ConfigDict, FrozenConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.subject import subject_geometry
from speech2lip_jax.models.initial_weights import RULES
from speech2lip_jax.models.speech2lip import AUDIO_NETS, FIELDS, SAMPLINGS, Speech2Lip


def build_model(subject: Subject, config: ConfigDict, axis_name: str | None = None) -> Speech2Lip:
  """The model for this subject.

  Raises:
    InputError: a config value does not fit the model.
  """
  if config.audio.window_steps not in (16, 32, 64):
    raise InputError(f'config.audio.window_steps={config.audio.window_steps}: must be 16, 32 or 64')
  if config.audio.network not in AUDIO_NETS:
    raise InputError(f'config.audio.network={config.audio.network!r} is not known; one of {", ".join(map(repr, AUDIO_NETS))}')
  for part, name, low, high in (('linear', 'share', 0, 1), ('linear', 'num_components', 1, 1000), ('linear', 'amplitude', 0, 2),
                                ('field', 'detail_gain', 1, 4)):
    if not low <= config[part][name] <= high:
      raise InputError(f'config.{part}.{name}={config[part][name]}: must be {low} … {high}')
  for name, value, known in (('field.kind', config.field.kind, FIELDS), ('compose.sampling', config.compose.sampling, SAMPLINGS),
                             ('train.initial_weights', config.train.initial_weights, RULES)):
    if value not in known:
      raise InputError(f'config.{name}={value!r} is not known; one of {", ".join(map(repr, known))}')
  if config.field.kind == 'decoder':  # paints whole pixels of one lip image, and has no time input
    for name, value, wanted in (('compose.sampling', config.compose.sampling, 'grid'),
                                ('field.ensemble', config.field.ensemble, False), ('field.use_time', config.field.use_time, False)):
      if value != wanted:
        raise InputError(f"config.{name}={value!r}: must be {wanted!r} with config.field.kind='decoder', which paints pixels alone")
  return Speech2Lip(FrozenConfigDict(config), subject_geometry(subject, config), axis_name)
