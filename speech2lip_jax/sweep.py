"""Trains a config's trials, some at a time, and compares them.

    speech2lip sweep --config configs/ablation.py --workdir runs/ablation --config.data.path=subjects/anna

The config file has a `get_hyper(hyper)` beside its `get_config`, which returns the trials. Each is one
`speech2lip train` and one `speech2lip evaluate --nobaselines` in DIR/NAME, with what they print in DIR/NAME/sweep.log. Given
again, the same command leaves finished trials alone and goes on with the others, those that failed included. DIR then holds
results.csv (a line a trial), table.md and table.csv (a row for trials that differ in their seed alone), plot.svg and best.py.
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
from speech2lip_jax.sweeps.launcher import LAUNCHERS, Job

_LAUNCHER = flags.DEFINE_enum('launcher', 'local', sorted(LAUNCHERS), 'Where trials run: processes of this machine.')
_AT_ONCE = flags.DEFINE_integer('trials_at_once', 1, 'Trials that run at one time; they share the cores evenly.', lower_bound=1)
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
  from speech2lip_jax.sweeps.results import write_results
  from speech2lip_jax.sweeps.run import run_trials
  from speech2lip_jax.sweeps.trials import commands, load_hyper, make_trials, shell
  from speech2lip_jax.workdir import checkpoint
  flag, judge = flags.FLAGS['config'], flags.FLAGS['judge'].value
  config_file, given = config_flags.get_config_filename(flag), config_flags.get_override_values(flag)
  workdir = pathlib.Path(WORKDIR.value)
  trials = make_trials(load_hyper(config_file), flags.FLAGS.config, workdir)
  chosen = [trial for trial in trials if _ONLY.value in (None, trial.name)]
  if not chosen:
    raise InputError(f'--only={_ONLY.value}: no such trial; one of: {", ".join(trial.name for trial in trials)}')

  def jobs_left() -> dict[str, str]:
    return {trial.name: shell(argvs) for trial in chosen if (argvs := commands(trial, config_file, given, judge))}

  if _DRY_RUN.value:
    print('\n'.join(jobs_left().values()))
    return
  load_subject(flags.FLAGS.config.data.path)  # a mistake that all trials would share
  workdir.mkdir(parents=True, exist_ok=True)
  with lock(workdir, 'sweep'):
    left = jobs_left()  # another sweep may have gone on since
    for trial in trials:
      checkpoint.claim_workdir(trial.workdir, trial.config, may_change=())  # a folder of another sweep is told before any work
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children end with this process
    jobs = {trial.name: Job(left[trial.name], trial.log) for trial in chosen if trial.name in left}
    failed = run_trials(trials, jobs, workdir, LAUNCHERS[_LAUNCHER.value](_AT_ONCE.value), _AT_ONCE.value)
    print(write_results(trials, workdir))
  print(f'{workdir}: results.csv, table.md, table.csv, plot.svg; best.py is the best trial\'s config')
  for name in failed:
    print(f'failed: {name}; see {workdir / name / "sweep.log"}, and run it alone with --only={name}', file=sys.stderr)
  if failed:
    sys.exit(1)
  print(usage.next_command('train', config=workdir / 'best.py', workdir='RUN'))


if __name__ == '__main__':
  cli.run_verb('sweep', sys.modules[__name__], sys.argv)
