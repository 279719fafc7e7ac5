"""`speech2lip VERB [flags]`: runs one verb's module, imported only when asked for.

A mistake of the user's is one line on standard error and exit status 2.
"""
import importlib
import os
import sys
import types
from typing import NoReturn

from absl import app, flags, logging
from ml_collections.config_flags import config_flags

from speech2lip_jax.common import recipes
from speech2lip_jax.common.errors import InputError

VERBS = {
    'preprocess': 'video file(s) of one person → subject folder',
    'train': 'subject folder → checkpoints, logs, sample images; resumes by itself',
    'expert': 'subject folder → a sync expert of its lips and speech, and how well it tells them apart',
    'render': 'checkpoint + any audio → mp4',
    'evaluate': 'held-out frames, or two videos → metrics.json, table, report.html',
    'sweep': 'a config\'s trials, trained some at a time and compared: table, plot, the best config',
    'convert': 'LPIPS, Wav2Lip\'s sync expert, the authors\' checkpoints and data (PyTorch files) → ours',
    'demo': 'a synthetic subject the whole way: video, training, rendering, evaluation; no download, minutes',
}


def keep_compilations() -> None:
  """Lets JAX keep what it compiles in the user's cache folder, for the next start; $JAX_COMPILATION_CACHE_DIR names another."""
  if 'jax' not in sys.modules:  # a verb without JAX need not wait for it
    return
  config = sys.modules['jax'].config
  config.update('jax_persistent_cache_min_compile_time_secs', 0.0)  # the many small ones add up to seconds
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    config.update('jax_compilation_cache_dir', os.path.join(cache, 'speech2lip', 'compiled'))


def _with_recipes_found(args: list[str]) -> list[str]:
  """The arguments with the values of config flags turned into files, so that recipes can be given by name from any folder."""
  known, found = {name for name in flags.FLAGS if config_flags.is_config_flag(flags.FLAGS[name])}, []
  for before, arg in zip(['', *args], args):
    name, equals, value = arg.lstrip('-').partition('=')
    if arg.startswith('-') and equals and name in known:
      arg = f'--{name}={recipes.find(value)}'
    elif before.startswith('-') and before.lstrip('-') in known:
      arg = recipes.find(arg)
    found.append(arg)
  return found


def run_verb(verb: str, module: types.ModuleType, argv: list[str]) -> None:
  """Runs a verb's `main(argv)` (argv[0] is the program's name) under absl; exits 2 with one line on bad input."""
  def fail(message) -> NoReturn:
    print(f'speech2lip {verb}: error: {message}', file=sys.stderr)
    sys.exit(2)

  def parse(args):
    try:
      return flags.FLAGS(_with_recipes_found(args))
    except (flags.Error, AttributeError, KeyError, OSError, ValueError, TypeError) as error:
      text = str(error)
      if isinstance(error, AttributeError | KeyError):  # a misspelt config field: the text of an error in an error's
        text = text.replace('\\n', ' ').replace('\\', '').replace("'", '').strip('"')
        text = f'no such config field: {text} (configs/default.py has all)'
      fail(' '.join(text.split()))

  def main(args):
    keep_compilations()
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # Orbax tells twenty lines a checkpoint
    try:
      module.main(args)
    except InputError as error:
      fail(error)
    except KeyboardInterrupt:
      print(f'speech2lip {verb}: interrupted; the same command continues where it stopped', file=sys.stderr)
      sys.exit(130)

  app.run(main, argv=argv, flags_parser=parse)


def main() -> None:
  """Entry of the console command."""
  usage = 'usage: speech2lip VERB [flags]\n' + '\n'.join(f'  {verb:<11} {what}' for verb, what in VERBS.items())
  usage += '\nspeech2lip VERB --help lists a verb\'s flags.'
  if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help', 'help'):
    print(usage)
    sys.exit(0 if len(sys.argv) > 1 else 2)
  verb = sys.argv[1]
  if verb not in VERBS:
    print(f'speech2lip: error: no verb {verb!r}; one of: {", ".join(VERBS)}', file=sys.stderr)
    sys.exit(2)
  run_verb(verb, importlib.import_module(f'speech2lip_jax.{verb}'), [f'speech2lip {verb}', *sys.argv[2:]])
