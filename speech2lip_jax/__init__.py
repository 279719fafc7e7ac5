"""A few minutes of video of one person in, that person saying anything out: Speech2Lip (ICCV 2023) in JAX/Flax."""
import importlib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from speech2lip_jax.common.errors import InputError as InputError
  from speech2lip_jax.rendering.person import Person as Person
  from speech2lip_jax.rendering.person import open_person as open_person

# `configs/` is installed as `speech2lip_jax.configs`; in a checkout it stands beside the package.
if not pathlib.Path(__file__).with_name('configs').is_dir():
  __path__.append(str(pathlib.Path(__file__).resolve().parents[1]))

_PLACES = {'InputError': 'common.errors', 'Person': 'rendering.person', 'open_person': 'rendering.person'}


def __getattr__(name: str) -> Any:
  """What programs call (docs/python.md), imported when it is first asked for: JAX takes seconds."""
  if name not in _PLACES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_PLACES[name]}'), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_PLACES])
