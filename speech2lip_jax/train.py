"""Trains a subject's model, by a recipe, or the models of many people.

    speech2lip train --workdir runs/anna --config.data.path=subjects/anna
    speech2lip train --config configs/smoke.py --workdir runs/try --config.data.path=subjects/anna --config.train.num_steps=20
    speech2lip train --workdir runs --subjects subjects/anna,subjects/ben

The same command continues a stopped run; the values it logs are those of a run that never stopped. The folder then holds
checkpoints, log.jsonl, TensorBoard's events and sample images. At SIGTERM or SIGUSR1 a checkpoint is written, and the exit status
is 75. With --distributed, several processes train together; one that lost another exits with 76. With --subjects each person has
WORKDIR/NAME, NAME being the subject folder's, as if trained alone, and WORKDIR/people.csv is the table of all (docs/scaling.md).
"""
import pathlib
import re
import signal
import sys
from typing import TYPE_CHECKING

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common import recipes, usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import DISTRIBUTED, DISTRIBUTED_FLAGS, WORKDIR

if TYPE_CHECKING:
  from speech2lip_jax.training.people import Person

_CONFIG = recipes.define_flag('config', 'default', 'The recipe: a file, or the name of an installed one.')
_SUBJECTS = flags.DEFINE_string(
    'subjects', None, 'Many people: their subject folders with commas between, or a file with one a line. They are trained in '
    'turn, with what is compiled for one; on several GPUs or TPU chips, as many at once.')
_PART = flags.DEFINE_string('part', None, 'With --subjects: I/N, the I-th of N parts of them, such as 3/16. Each part may run on '
                            'another machine, with the same --workdir.')
_SHARED = flags.DEFINE_enum('shared', None, ['audio_net'], 'With --subjects: one audio network for all of them, trained in steps '
                            'of each in turn. --config.audio.init=WORKDIR/NAME then begins the training of a new person with it.')
_PER_DEVICE = flags.DEFINE_integer('people_per_device', None, 'With --subjects: how many people of equal shapes take their steps '
                                   'together on a device. By default 8 on a GPU or TPU chip and 1 on a CPU, where more are slower.',
                                   lower_bound=1)
flags.declare_key_flag('workdir')
for _name in DISTRIBUTED_FLAGS:
  flags.declare_key_flag(_name)


def main() -> None:
  """The verb."""
  if not WORKDIR.value:
    raise InputError('--workdir is missing: the folder for checkpoints and logs')
  if _SUBJECTS.value:
    _train_people(_SUBJECTS.value, WORKDIR.value)
    return
  for flag in (_PART, _SHARED, _PER_DEVICE):
    if flag.value:
      raise InputError(f'--{flag.name}: is for many people, which --subjects names')
  from speech2lip_jax.data.dataset import load_subject
  load_subject(_CONFIG.value.data.path)  # a mistake is told before JAX loads
  from speech2lip_jax.common import processes
  with processes.joined(can_stop=True):
    import jax

    from speech2lip_jax.training.loop import train_and_evaluate
    train_and_evaluate(_CONFIG.value, WORKDIR.value)
    is_main = jax.process_index() == 0
  if is_main:
    _tell_what_is_next(WORKDIR.value)


def _tell_what_is_next(workdir: str) -> None:
  print(usage.next_command('evaluate', workdir=workdir, out=f'{workdir}/eval'))
  print(usage.next_command('render', workdir=workdir, audio='SPEECH.wav', out=f'{workdir}/speech.mp4'))


def _part() -> tuple[int, int]:
  """Which part of the people this is, from 0, and how many parts there are."""
  found = re.fullmatch(r'(\d+)/(\d+)', _PART.value or '1/1')
  if not found or not 1 <= int(found[1]) <= int(found[2]):
    raise InputError(f'--part={_PART.value}: must be I/N with I from 1 to N, such as 3/16')
  return int(found[1]) - 1, int(found[2])


def _train_people(subjects: str, runs: str) -> None:
  if DISTRIBUTED.value:
    raise InputError('--subjects with --distributed: people share no gradients; start a command for each part of them, '
                     'with --part I/N')
  if _CONFIG.value.data.path:
    raise InputError('--config.data.path with --subjects: give the one person or the many')
  from speech2lip_jax.training import people
  part, num_parts = _part()
  everybody = people.people_of(people.listed(subjects), _CONFIG.value, runs)
  mine = everybody[part::num_parts]
  if _SHARED.value:
    if _PART.value or _PER_DEVICE.value:
      raise InputError(f'--shared with --{(_PART if _PART.value else _PER_DEVICE).name}: all people train together, in turn')
    people.train_shared(everybody, runs, _SHARED.value)
  elif not _PART.value and _on_devices(everybody, runs):
    return
  else:
    people.train_people(mine, everybody, runs, _PER_DEVICE.value or people.default_at_once())
  if mine:
    _tell_what_is_next(str(mine[0].workdir))


def _on_devices(everybody: list['Person'], runs: str) -> bool:
  """Whether this machine has several accelerators; then each gets a process with a part of the people."""
  from speech2lip_jax.sweeps.devices import find_devices
  count = min(len(find_devices().names), len(everybody))
  if count < 2:
    return False
  from speech2lip_jax.common import processes
  from speech2lip_jax.sweeps.launcher import Job, LocalLauncher
  from speech2lip_jax.sweeps.run import FAILED, run
  from speech2lip_jax.sweeps.trials import shell
  from speech2lip_jax.training import people
  folder, states = pathlib.Path(runs), dict[str, str]()
  folder.mkdir(parents=True, exist_ok=True)
  program = [sys.executable, '-m', 'speech2lip_jax', *sys.argv[1:]]
  parts = [f'{i}/{count}' for i in range(1, count + 1)]
  jobs = {part: Job(shell([[*program, f'--part={part}']]), folder / f'part_{part.partition("/")[0]}.log') for part in parts}
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(processes.STOPPED))  # so that the parts end with this process

  def tell(name):
    if name:
      print(f'part {name}: {states[name]}, see {jobs[name].log}', file=sys.stderr)
  run(jobs, states, LocalLauncher(count), count, tell)
  print(people.write_table(everybody, runs))
  if failed := [f'part {name} failed, see {jobs[name].log}' for name, state in states.items() if state == FAILED]:
    raise InputError(*failed)
  return True


if __name__ == '__main__':
  cli.run_verb('train', sys.modules[__name__], sys.argv)
