"""A page in the browser, and an HTTP API, for people to be trained and to speak.

    speech2lip app --folder people

Drop a video, look at its contact sheet, train, drop a sound or type a text, watch. One job runs at a time, as an ordinary verb in a
process of its own; what waits, and what was stopped, goes on when the command is given again. It listens to this machine alone, at
http://127.0.0.1:7860, unless --share. docs/app.md has the API.
"""
import os
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import LANDMARKER, SIZE

_FOLDER = flags.DEFINE_string('folder', 'people', 'Where people, their videos and what they said are kept.')
_PORT = flags.DEFINE_integer('port', 7860, 'Where it listens.', lower_bound=1, upper_bound=65535)
_SHARE = flags.DEFINE_bool('share', False, 'Listen to the whole network, behind a password: $SPEECH2LIP_PASSWORD, else one that is '
                           'made and printed. Nothing is encrypted; for the internet put a proxy before it that does.')
_MAX_UPLOAD_MB = flags.DEFINE_integer('max_upload_mb', 2000, 'The largest file that is taken, MB.', lower_bound=1)
_RECIPE = flags.DEFINE_string('train_recipe', 'default', 'What people are trained by: a file, or the name of an installed recipe.')
flags.declare_key_flag('size')
flags.declare_key_flag('landmarker')


def main() -> None:
  """The verb."""
  try:
    import gradio  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    raise InputError(f"{error.name} is not installed; pip install 'speech2lip_jax[app]', in a checkout pip install -e '.[app]'"
                     ) from error
  from speech2lip_jax.app.server import Settings, serve
  from speech2lip_jax.common import recipes
  recipe = recipes.find(_RECIPE.value)
  if not os.path.isfile(recipe):
    raise InputError(f'--train_recipe={_RECIPE.value}: no such file; give a file, or one of: {", ".join(recipes.names())}')
  serve(Settings(pathlib.Path(_FOLDER.value).absolute(), _PORT.value, _SHARE.value, _MAX_UPLOAD_MB.value * 10**6,
                 os.path.abspath(recipe), SIZE.value, LANDMARKER.value))


if __name__ == '__main__':
  cli.run_verb('app', sys.modules[__name__], sys.argv)
