"""Trains a config's trials, some at a time, and compares them.

    speech2lip sweep --config configs/ablation.py --workdir runs/ablation --config.data.path=subjects/anna

The config file has a `get_hyper(hyper)` beside its `get_config`, which returns the trials. Each is one
`speech2lip train` and one `speech2lip evaluate --nobaselines` in DIR/NAME, with what they print in DIR/NAME/sweep.log. Given
again, the same command leaves finished trials alone and goes on with the others, those that failed included. With --launcher slurm
they are one array of jobs, which goes on without this command: Ctrl-C or --nowait leaves it, --collect makes the table of what is
finished. --launcher jobset writes a manifest for Kubernetes (docs/scaling.md). DIR then holds
results.csv (a line a trial), table.md and table.csv (a row for trials that differ in their seed alone), plot.svg and best.py.

    speech2lip sweep --config configs/search.py --workdir runs/search --config.data.path=subjects/anna --num_trials 40

Where get_hyper returns a space instead, Optuna chooses the trials one after another, by the best PSNR of the mouth on each one's
validation frames (pip install 'speech2lip_jax[search]'). The same command on other machines that see DIR works on the same
search. Given again, it goes on until that many trials are complete, those first that a killed command left.
"""
import pathlib
import signal
import sys

from absl import flags
from ml_collections import config_flags

from speech2lip_jax import cli
from speech2lip_jax import evaluate as _evaluate  # noqa: F401  its --judge is the sweep's too
from speech2lip_jax import train as _train  # noqa: F401  and this one's --config
from speech2lip_jax.common import usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import lock
from speech2lip_jax.common.flags import WORKDIR
from speech2lip_jax.sweeps.devices import find_devices
from speech2lip_jax.sweeps.launcher import Job, LocalLauncher

_LAUNCHER = flags.DEFINE_enum('launcher', 'local', ['local', 'slurm', 'jobset'],
                              'Where trials run: processes of this machine, an array of SLURM jobs, or pods of Kubernetes.')
_AT_ONCE = flags.DEFINE_integer(
    'trials_at_once', None, 'Trials that run at one time; on one machine they share the cores evenly, and each has a GPU or TPU '
    'chip. By default as many as there are of these, times --trials_per_device, and with slurm and jobset all.', lower_bound=1)
_PER_DEVICE = flags.DEFINE_integer('trials_per_device', 1, 'Trials that share a GPU and its memory.', lower_bound=1)
_SLURM = flags.DEFINE_multi_string('slurm', [], 'An option of sbatch as submitit names it, NAME=VALUE, such as partition=gpu, '
                                   'gpus_per_node=1, cpus_per_task=8, mem=32GB, time=240 (minutes); the flag may repeat.')
_WAIT = flags.DEFINE_bool('wait', True, 'With slurm: wait for the jobs and show them; --nowait: leave them to SLURM.')
_COLLECT = flags.DEFINE_bool('collect', False, 'Start nothing: make the table of the trials that are finished.')
_NUM_TRIALS = flags.DEFINE_integer('num_trials', None, 'Where get_hyper returns a space: trials to complete in all.', lower_bound=1)
_IMAGE = flags.DEFINE_string('image', None, 'With jobset: the image of the containers, which holds this package.')
_CLAIM = flags.DEFINE_string('claim', 'speech2lip', 'With jobset: the PersistentVolumeClaim of the disk with subject and workdir.')
_MOUNT = flags.DEFINE_string('mount', '/data', 'With jobset: where that disk is in the pods.')
_GPUS = flags.DEFINE_integer('gpus', 1, 'With jobset: GPUs of a pod.', lower_bound=0)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands of the trials that are not finished, and do nothing.')
_ONLY = flags.DEFINE_string('only', None, 'Run this one trial, by its name.')
flags.declare_key_flag('config')
flags.declare_key_flag('workdir')
flags.declare_key_flag('judge')


def main() -> None:
  """The verb."""
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for the trials and their table')
  from speech2lip_jax.data.dataset import load_subject
  from speech2lip_jax.sweeps import hyper
  from speech2lip_jax.sweeps.results import write_results
  from speech2lip_jax.sweeps.run import run_trials, tell
  from speech2lip_jax.sweeps.trials import commands, load_hyper, make_trials, shell
  from speech2lip_jax.workdir import config_file
  flag, judge = flags.FLAGS['config'], flags.FLAGS['judge'].value
  recipe, given = config_flags.get_config_filename(flag), config_flags.get_override_values(flag)
  workdir = pathlib.Path(WORKDIR.value)
  found = load_hyper(recipe)
  if isinstance(found, hyper.Space):
    make_trials(hyper.ends(found), flags.FLAGS.config, workdir)
    _search(found, workdir, lambda trial: commands(trial, recipe, given, judge))
    return
  if _NUM_TRIALS.value:
    raise InputError('--num_trials: is for a get_hyper that returns a space; this one lists its trials')
  trials = make_trials(found, flags.FLAGS.config, workdir)
  chosen = [trial for trial in trials if _ONLY.value in (None, trial.name)]
  if not chosen:
    raise InputError(f'--only={_ONLY.value}: no such trial; one of: {", ".join(trial.name for trial in trials)}')

  def jobs_left() -> dict[str, list[list[str]]]:
    return {trial.name: argvs for trial in chosen if (argvs := commands(trial, recipe, given, judge))}

  if _DRY_RUN.value:
    print('\n'.join(map(shell, jobs_left().values())))
    return
  if _LAUNCHER.value == 'jobset' and not _COLLECT.value:
    _write_jobset(workdir, jobs_left())
    return
  if _COLLECT.value:
    tell(trials, _states(trials), workdir)
    return
  load_subject(flags.FLAGS.config.data.path)  # a mistake that all trials would share
  workdir.mkdir(parents=True, exist_ok=True)
  with lock(workdir, 'sweep'):
    left = jobs_left()  # another sweep may have gone on since
    for trial in trials:
      config_file.claim_workdir(trial.workdir, trial.config, may_change=())  # a folder of another sweep is told before any work
    _end_with_children()
    if _LAUNCHER.value == 'slurm':
      failed = _on_slurm(trials, left, workdir)
    else:
      at_once = _at_once_here()
      jobs = {name: Job(shell(argvs), workdir / name / 'sweep.log') for name, argvs in left.items()}
      failed = run_trials(trials, jobs, workdir, LocalLauncher(at_once, _PER_DEVICE.value), at_once)
    if failed is None:
      return
    print(write_results(trials, workdir))
  print(f'{workdir}: results.csv, table.md, table.csv, plot.svg; best.py is the best trial\'s config')
  for name in failed:
    print(f'failed: {name}; see {workdir / name / "sweep.log"}, and run it alone with --only={name}', file=sys.stderr)
  if failed:
    sys.exit(1)
  print(usage.next_command('train', config=workdir / 'best.py', workdir='RUN'))


def _end_with_children() -> None:
  """At SIGTERM the trials that run here are ended first."""
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _at_once_here() -> int:
  return _AT_ONCE.value or max(1, len(find_devices().names)) * _PER_DEVICE.value


def _search(space, workdir: pathlib.Path, left) -> None:
  """The verb where Optuna chooses. left: gives the commands that a trial still needs."""
  from speech2lip_jax.data.dataset import load_subject
  from speech2lip_jax.sweeps.run import FINISHED, RUNNING, tell
  from speech2lip_jax.sweeps.search import JOURNAL, Search, run_search
  from speech2lip_jax.workdir import config_file
  config, wanted = flags.FLAGS.config, _NUM_TRIALS.value
  if _LAUNCHER.value != 'local':
    raise InputError(f'--launcher {_LAUNCHER.value}: get_hyper returns a space, whose trials are chosen one after another; start '
                     'this command without --launcher in several jobs, with the same --workdir')
  for name, value in (('dry_run', _DRY_RUN.value), ('only', _ONLY.value)):
    if value:
      raise InputError(f'--{name}: is for a get_hyper that lists its trials; this one returns a space')
  if _COLLECT.value:
    if not (workdir / JOURNAL).is_file():
      raise InputError(f'{workdir}: has no {JOURNAL}; no search has begun there')
    search = Search(space, config, workdir)
    tell(search.trials, search.states, workdir)
    return
  if not wanted:
    raise InputError('--num_trials is missing: get_hyper returns a space; give how many trials are to be chosen from it')
  load_subject(config.data.path)  # a mistake that all trials would share
  search = Search(space, config, workdir)
  for trial in search.trials:
    config_file.claim_workdir(trial.workdir, trial.config, write=False, may_change=())
  _end_with_children()
  run_search(search, wanted, left, LocalLauncher(_at_once_here(), _PER_DEVICE.value), _at_once_here())
  print(search.write_results(), end='')
  states = list(search.states.values())
  for trial in search.failed():
    print(f'failed: {trial.name}; see {trial.log}', file=sys.stderr)
  complete, elsewhere = states.count(FINISHED), states.count(RUNNING)
  print(f'{workdir}: {complete} of {wanted} trials are complete' + (f', {elsewhere} at work elsewhere' if elsewhere else '') + (
      '' if complete >= wanted else '; the same command goes on'))
  if complete < wanted and not elsewhere:
    sys.exit(1)
  if complete:
    print(usage.next_command('train', config=workdir / 'best.py', workdir='RUN'))


def _states(trials) -> dict[str, str]:
  from speech2lip_jax.sweeps import slurm
  on_slurm = any(slurm.record_of(trial).is_file() for trial in trials)
  return slurm.states_of(trials, slurm.Queue.of(trials) if on_slurm else slurm.Queue({}))


def _on_slurm(trials, left, workdir: pathlib.Path) -> list[str] | None:
  """Submits what is not in the queue already; returns the trials that failed, or None where it does not wait."""
  from speech2lip_jax.sweeps import slurm
  from speech2lip_jax.sweeps.run import board_of
  queued = slurm.Queue.of(trials).states
  jobs = {name: argvs for name, argvs in left.items() if name not in queued}
  if jobs:
    array = slurm.submit(jobs, {trial.name: trial for trial in trials}, workdir / 'slurm', _AT_ONCE.value or len(jobs),
                         slurm.parameters(_SLURM.value))
    print(f'{workdir}: {len(jobs)} trials are job {array}; scancel {array} ends them')
  if not _WAIT.value:
    return None
  try:
    states = slurm.follow(trials, board_of(trials, workdir))
  except (KeyboardInterrupt, SystemExit):
    print(f'{workdir}: the trials go on without this command; given again it follows them, with --collect it makes the table',
          file=sys.stderr)
    return None
  return [name for name, state in states.items() if state == slurm.FAILED]


def _write_jobset(workdir: pathlib.Path, left) -> None:
  from speech2lip_jax.common.files import write_text
  from speech2lip_jax.sweeps import jobset
  if not _IMAGE.value:
    raise InputError('--launcher jobset: --image is missing, the image of the containers, which holds this package')
  if not left:
    print(f'{workdir}: all trials are finished')
    return
  jobs = [[['python', *argv[1:]] for argv in argvs] for argvs in left.values()]
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / 'jobset.yaml'
  at_once = _AT_ONCE.value or len(jobs)
  write_text(path, jobset.manifest(workdir.resolve().name, jobs, at_once, _IMAGE.value, _CLAIM.value, _MOUNT.value, _GPUS.value))
  print(f'{path}: {len(jobs)} trials; kubectl apply -f {path}, and at the end this command with --collect')


if __name__ == '__main__':
  cli.run_verb('sweep', sys.modules[__name__], sys.argv)
