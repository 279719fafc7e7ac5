"""`speech2lip VERB [flags]`: runs one verb's module, imported only when asked for.

A verb's module defines its flags and a `main()`, which takes the words that are no flags where WORDS names them; it imports the
work inside `main`, so that help and mistakes are answered at once. A mistake of the user's, and what the system refuses (a full
disk, no permission), is one line on standard error, or one for each wrong field of a recipe, and exit status 2.
"""
import importlib
import io
import os
import sys
import traceback
import types
from importlib import metadata
from typing import NoReturn

from absl import app, flags, logging

from speech2lip_jax.common import completion, files, recipes, usage
from speech2lip_jax.common.errors import InputError

VERBS = {
    'preprocess': 'video file(s) of one person → subject folder',
    'train': 'subject folder → checkpoints, logs, sample images; resumes by itself',
    'expert': 'subject folder → a sync expert of its lips and speech, and how well it tells them apart',
    'render': 'checkpoint + any audio → mp4',
    'dub': 'a person\'s own video + any sound → the video, at its own size and rate, saying it',
    'app': 'a page in the browser and an HTTP API: drop a video, train, drop a sound, watch',
    'export': 'checkpoint → poses and landmarks as JSON, painted lips as pictures, for other programs',
    'inspect': 'what a picture says of itself: signed manifest, tags, invisible mark',
    'evaluate': 'held-out frames, or two videos → metrics.json, table, report.html',
    'sweep': 'a config\'s trials, trained some at a time and compared: table, plot, the best config',
    'convert': 'LPIPS, Wav2Lip\'s sync expert, the authors\' checkpoints and data (PyTorch files) → ours',
    'verify': 'subject folder, workdir, expert → what is damaged, every byte read',
    'demo': 'a synthetic subject the whole way: video, training, rendering, evaluation; no download, minutes',
    'doctor': 'whether this installation can do its work: devices, versions, codecs, models, optional parts',
}
FILES = {'inspect': 'inspect_file'}  # modules of another name than their verb: a file inspect.py would hide Python's own
HELP = ('-h', '-help', '--help')


def keep_compilations() -> None:
  """Lets JAX, imported later, keep what it compiles in the user's cache folder; JAX's own variables may name another place."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.join(cache, 'speech2lip', 'compiled'))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')  # the many small ones add up to seconds


def _with_recipes(args: list[str]) -> list[str]:
  """The arguments with a file for the value of each config flag: a recipe may be given by name from any folder, or be the default.

  Raises:
    InputError: there is no such file.
  """
  known, found, given = recipes.flags_defined(), [], set()
  for before, arg in zip(['', *args], args):
    name, equals, value = arg.lstrip('-').partition('=')
    if arg.startswith('-') and equals and name in known:
      arg = f'--{name}={_recipe_file(name, value)}'
      given.add(name)
    elif before.startswith('-') and before.lstrip('-') in known:
      given.add(before.lstrip('-'))
      arg = _recipe_file(before.lstrip('-'), arg)
    found.append(arg)
  return [*found[:1], *(f'--{name}={file}' for name, file in known.items() if name not in given), *found[1:]]


def _recipe_file(name: str, value: str) -> str:
  found = recipes.find(value)
  if not os.path.isfile(found.partition(':')[0]):
    raise InputError(f'--{name}={value}: no such file; give a file, or one of: {", ".join(recipes.names())}')
  return found


def _is_about_a_field(error: Exception) -> bool:
  """Whether ml_collections raised it by itself, from a field on the command line: no code of a recipe was running."""
  running = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(error.__traceback__)]
  return all(name.split('.')[0] in ('absl', 'ml_collections') for name in running[1:])  # the first is our own


def _parse(args: list[str]) -> list[str]:
  """Sets absl's flags; returns the arguments that are none.

  Raises:
    InputError: a flag, a value, or a config field that does not exist.
  """
  args = _with_recipes(args)
  try:
    return flags.FLAGS(args)
  except flags.Error as error:
    if 'Error whilst parsing config file' in str(error):  # a fault of the recipe's code: where it lies is in its traceback
      raise
    raise InputError(' '.join(str(error).split())) from error
  except (AttributeError, KeyError) as error:
    if not _is_about_a_field(error):
      raise
    text = ' '.join(str(error).replace('\\n', ' ').replace('\\', '').replace("'", '').strip('"').split())
    raise InputError(f'no such config field: {text} (--help names the file that has all)') from error


def run_verb(verb: str, module: types.ModuleType, argv: list[str]) -> None:
  """Runs a verb's `main` on the flags in argv[1:]; exits 2 with one line on bad input, 0 with its help where that is asked for."""
  def fail(message) -> NoReturn:
    for line in str(message).splitlines() or ['']:
      print(f'speech2lip {verb}: error: {line}', file=sys.stderr)
    sys.exit(2)

  def parse(args):
    try:
      return _parse(args)
    except InputError as error:
      fail(error)

  def main(args):
    words = (args[1:],) if hasattr(module, 'WORDS') else ()
    if len(args) > 1 and not words:
      fail(f'unexpected argument {args[1]!r}; flags start with --, and several files go into one flag: --video a.mp4,b.mp4, '
           'patterns in quotes')
    keep_compilations()
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(errors='backslashreplace')  # names of files may be in any encoding
    if 'distributed' in flags.FLAGS and flags.FLAGS['distributed'].value:
      os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # else JAX tells a dead peer in ten lines, beside our one
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # Orbax tells twenty lines a checkpoint, and hundreds where one fails
      logging.get_absl_logger().addFilter(lambda record: 'orbax' not in record.pathname)
    try:
      recipes.check_flags({flag.name for flag in usage.key_flags(module)})
      module.main(*words)
      sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
    except InputError as error:
      fail(error)
    except OSError as error:
      if (line := files.refusal(error)) is None:
        raise
      fail(line)
    except KeyboardInterrupt:
      print(f'speech2lip {verb}: interrupted; the same command continues where it stopped', file=sys.stderr)
      sys.exit(130)

  if any(arg in HELP for arg in argv[1:]):
    print(usage.help_text(verb, module))
    sys.exit(0)
  app.run(main, argv=argv, flags_parser=parse)


def load_verb(verb: str) -> types.ModuleType:
  """The verb's module; its flags are then defined."""
  return importlib.import_module(f'speech2lip_jax.{FILES.get(verb, verb)}')


def overview() -> str:
  """What `speech2lip --help` prints."""
  lines = ['usage: speech2lip VERB [flags]', *(f'  {verb:<11} {what}' for verb, what in VERBS.items()),
           "speech2lip VERB --help lists a verb's flags, speech2lip --version the versions;",
           f'speech2lip completion {"|".join(completion.SHELLS)} prints what completes verbs and flags in that shell.']
  return '\n'.join(lines)


def version() -> str:
  """Which version of this project, JAX and Python this is."""
  def of(name):
    try:
      return metadata.version(name)
    except metadata.PackageNotFoundError:
      return 'not installed'
  return f'speech2lip {of("speech2lip_jax")} (jax {of("jax")}, Python {sys.version.split()[0]})'


def main() -> None:
  """Entry of the console command."""
  def fail(message: str) -> NoReturn:
    print(f'speech2lip: error: {message}', file=sys.stderr)
    sys.exit(2)

  verb, *rest = sys.argv[1:] or ['']
  if verb in (*HELP, 'help', ''):
    print(overview())
    sys.exit(0 if verb else 2)
  if verb == '--version':
    print(version())
  elif verb == 'completion':
    if len(rest) != 1 or rest[0] not in completion.SHELLS:
      fail(f'completion {" ".join(rest)}: give one of {", ".join(completion.SHELLS)}'.replace(' :', ':'))
    print(completion.script(rest[0], {name: (what, usage.key_flags(load_verb(name))) for name, what in VERBS.items()}))
  elif verb in VERBS:
    run_verb(verb, load_verb(verb), [f'speech2lip {verb}', *rest])
  else:
    fail(f'no verb {verb!r}; one of: {", ".join(VERBS)}')
