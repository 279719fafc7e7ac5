"""Searches of a space: what Optuna chooses, several processes on one study, and what a killed one leaves.

Shell commands stand in for training.
"""
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import search as search_config
from speech2lip_jax.configs import smoke
from speech2lip_jax.sweeps import claims, hyper, trials
from speech2lip_jax.sweeps import run as sweep_run
from speech2lip_jax.sweeps.launcher import FAILED, LocalLauncher
from speech2lip_jax.sweeps.run import FINISHED
from speech2lip_jax.sweeps.search import Search, run_search
from tests.test_sweep import finish, run_verb
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPACE = hyper.space(hyper.real('train.learning_rate', 1e-4, 1e-2, log=True), hyper.integer('field.width', 8, 64),
                    hyper.choice('audio.window_steps', [16, 32]), hyper.choice('field.kind', ['product', 'decoder']))
SPACE_FILE = '''from configs.smoke import get_config  # noqa: F401


def get_hyper(hyper):
  return hyper.space(hyper.real('train.learning_rate', 1e-4, 1e-2, log=True), hyper.integer('field.width', 8, 32))
'''


@pytest.fixture
def opened(tmp_path):
  """Opens the study of the test's folder, as one command after another does."""
  return lambda space=SPACE, **config: Search(space, configured(**config), tmp_path)


def configured(seed=0):
  config = smoke.get_config().unlock()
  config.seed = seed
  return config.lock()


def values_of(search, count):
  """What a search chooses for that many trials more, each finished before the next is chosen."""
  chosen = []
  for _ in range(count):
    trial = search.take(1000)
    finish(trial, 30.0, 29.0 + trial.overrides['field.width'] / 64)
    search.end(trial)
    chosen.append(trial.overrides)
  search.close()
  return chosen


# ---- the space

def test_a_trials_values_have_the_fields_types_lie_in_the_ranges_and_make_its_config(opened, tmp_path):
  search = opened()
  for trial in [search.take(8) for _ in range(8)]:
    rate, width = trial.overrides['train.learning_rate'], trial.overrides['field.width']
    assert type(rate) is float and 1e-4 <= rate <= 1e-2 and type(width) is int and 8 <= width <= 64
    assert trial.overrides['audio.window_steps'] in (16, 32)
    assert (trial.config.train.learning_rate, trial.config.field.width) == (rate, width)
    assert trial.config.field.kind == trial.overrides['field.kind'] and trial.workdir == tmp_path / trial.name
  assert [trial.name for trial in search.trials] == [f'trial_{number:04}' for number in range(8)]
  assert search.take(8) is None
  search.close()


@pytest.mark.parametrize('make, told', [
    (lambda: hyper.real('train.learning_rate', 1e-2, 1e-4), r"hyper.real\('train.learning_rate', 0.01, 0.0001\): must begin below"),
    (lambda: hyper.real('audio.noise_std', 0, 1, log=True), 'above 0'),
    (lambda: hyper.real('audio.noise_std', 0, float('nan')), 'must begin below its end'),
    (lambda: hyper.integer('field.width', 0.5, 8), 'whole numbers'),
    (lambda: hyper.integer('field.width', 8, float('inf')), 'whole numbers'),
    (lambda: hyper.choice('field.kind', ['product']), 'two values or more'),
    (hyper.space, 'has no parameters'),
    (lambda: hyper.space(hyper.real('seed', 0, 1), hyper.integer('seed', 0, 1)), 'config.seed twice')])
def test_a_space_without_a_choice_is_refused(make, told):
  with pytest.raises(InputError, match=told):
    make()


@pytest.mark.parametrize('parameter, told', [
    (hyper.real('train.lerning_rate', 0.1, 0.2), 'config.train.lerning_rate=0.1.*learning_rate'),
    (hyper.real('train.learning_rate', 0.5, 2), 'train.learning_rate=2.0: must be > 0 … 1'),
    (hyper.real('field.width', 8, 64), 'config.field.width=8.0'),
    (hyper.choice('audio.window_steps', [16, 24]), 'audio.window_steps=24: must be one of 16, 32, 64')])
def test_both_ends_of_a_range_must_fit_the_config(parameter, told, tmp_path):
  with pytest.raises(InputError, match=told):
    trials.make_trials(hyper.ends(hyper.space(parameter)), smoke.get_config(), tmp_path)


def test_the_example_is_a_space_that_fits_its_config(tmp_path):
  space = trials.load_hyper(search_config.__file__)
  assert len(trials.make_trials(hyper.ends(space), search_config.get_config(), tmp_path)) == 11


@pytest.mark.parametrize('returned', ["hyper.real('seed', 0, 1)", "[hyper.real('seed', 0, 1)]"])
def test_parameters_outside_of_a_space_are_told(returned, tmp_path):
  (tmp_path / 'bare.py').write_text(f'def get_hyper(hyper):\n  return {returned}\n')
  with pytest.raises(InputError, match=r'bare.py: its get_hyper returns parameters; put them into hyper.space'):
    trials.load_hyper(str(tmp_path / 'bare.py'))


# ---- the study

def test_one_process_chooses_the_same_by_the_same_seed_also_where_it_was_stopped(tmp_path):
  def search(name, seed=0):
    (tmp_path / name).mkdir(exist_ok=True)
    return Search(SPACE, configured(seed), tmp_path / name)
  straight = values_of(search('a'), 14)  # the first ten are drawn at random
  assert straight == values_of(search('b'), 5) + values_of(search('b'), 7) + values_of(search('b'), 2)
  rates = [values['train.learning_rate'] for values in straight]
  assert len(set(rates)) == 14
  assert rates[:3] != [values['train.learning_rate'] for values in values_of(search('c', seed=1), 3)]


def test_it_learns_from_what_trials_have_come_to(opened):
  search, decades = opened(hyper.space(SPACE.parameters[0])), []
  for _ in range(25):
    trial = search.take(25)
    decades.append(math.log10(trial.overrides['train.learning_rate']))
    finish(trial, 30.0, 30.0 + decades[-1])
    search.end(trial)
  assert statistics.mean(decades[15:]) > -2.5 > statistics.mean(decades[:10]) + 0.2, 'the larger the better; at random −3'


def test_a_trial_is_judged_by_its_best_validation_frames_alone(opened, tmp_path):
  search = opened()
  first, second = search.take(2), search.take(2)
  finish(first, 40.0, 28.0)
  finish(second, 20.0, 29.0)
  for trial in (first, second):
    search.end(trial)
  assert '29.00' in search.write_results() and (tmp_path / 'best.py').read_text().startswith('"""trial_0001: the best of 2 trials')
  assert search._study.best_trial.number == 1 and search._study.best_value == 29.0
  search.close()


def test_another_space_in_the_same_folder_is_refused(opened):
  opened().close()
  with pytest.raises(InputError, match='study.log: its trials are of another space, .*high=0.01.*, now .*high=0.02.*give'):
    opened(hyper.space(hyper.real('train.learning_rate', 1e-4, 2e-2, log=True)))


def test_a_folder_of_a_study_that_was_deleted_is_not_taken_for_a_new_trials(opened, tmp_path):
  values_of(opened(), 1)
  (tmp_path / 'study.log').unlink()
  with pytest.raises(InputError, match='trial_0000: is there already, and of no trial in study.log; move it away'):
    opened().take(1)


def test_a_line_that_was_being_written_is_cut_off_and_a_damaged_one_told(opened, tmp_path):
  values_of(opened(), 1)
  with (tmp_path / 'study.log').open('a') as journal:
    journal.write('{"op_code": 4, "wor')
  values_of(opened(), 1)
  assert list(opened().states.values()) == [FINISHED] * 2
  lines = (tmp_path / 'study.log').read_text().splitlines()
  (tmp_path / 'study.log').write_text('\n'.join([*lines[:2], '{"op', *lines[2:]]) + '\n')
  with pytest.raises(InputError, match='study.log: is damaged'):
    opened()


def test_without_optuna_one_line_says_what_to_install(opened, monkeypatch):
  monkeypatch.setitem(sys.modules, 'optuna', None)
  with pytest.raises(InputError, match=r"needs Optuna; pip install 'speech2lip_jax\[search\]'"):
    opened()


# ---- running

def test_a_search_goes_on_after_failed_trials_and_given_again_completes_its_number(opened, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sweep_run, 'POLL_S', 0.01)

  def left(trial):
    if trial.name in ('trial_0000', 'trial_0002'):
      return [['false']]
    finish(trial, 30.0, 29.0)
    return [['true']]

  first = opened()
  run_search(first, 4, left, LocalLauncher(2), 2)
  assert list(first.states.values()) == [FAILED, FINISHED, FAILED, FINISHED]
  assert [trial.name for trial in first.failed()] == ['trial_0000', 'trial_0002']
  assert '2 finished, 2 failed' in capsys.readouterr().err
  again = opened()
  run_search(again, 4, left, LocalLauncher(2), 2)
  assert list(again.states.values()) == [FAILED, FINISHED] * 2 + [FINISHED] * 2 and again.failed() == []
  assert len((tmp_path / 'results.csv').read_text().splitlines()) == 1 + 4
  once_more = opened()
  run_search(once_more, 4, lambda trial: pytest.fail('nothing is left'), LocalLauncher(1), 1)


def test_a_trial_that_finished_as_its_process_was_killed_is_told_and_not_run_again(opened):
  killed = opened()
  trial = killed.take(2)
  finish(trial, 30.0, 29.0)
  killed.close()
  search = opened()
  ran = []
  run_search(search, 1, lambda trial: [] if trial.metrics_json.is_file() else ran.append(trial) or [['true']], LocalLauncher(1), 1)
  assert ran == [] and list(search.states.values()) == [FINISHED]


def test_what_another_machine_claimed_is_its_own_until_it_gives_no_sign(tmp_path, monkeypatch):
  mine, theirs = claims.Claims(), claims.Claims()
  assert mine.take(tmp_path) and not mine.take(tmp_path) and not theirs.take(tmp_path)
  holder = tmp_path / '.claim' / '.lock.holder'
  record, now = json.loads(holder.read_text()), holder.stat().st_mtime
  os.utime(holder, (now - 1000, now - 1000))
  mine.sign()
  assert holder.stat().st_mtime == now - 1000, 'not at every call'
  monkeypatch.setattr(claims, 'SIGN_S', 0.0)
  mine.sign()
  assert holder.stat().st_mtime >= now - 1
  mine.drop(tmp_path)
  assert not holder.exists()
  holder.write_text(json.dumps(record | {'host': 'elsewhere'}))  # whose lock is not seen here
  assert not theirs.take(tmp_path)
  os.utime(holder, (now - claims.LEASE_S - 60, now - claims.LEASE_S - 60))
  assert theirs.take(tmp_path)
  theirs.close()


# ---- the verb

# The verb, but for the subject and what trials do: each writes its name into a file, waits while there is a file `wait`, and leaves
# what training and evaluation leave, or fails where there is a file of its name.
VERB = '''
import json, sys
from speech2lip_jax import cli, sweep
from speech2lip_jax.data import dataset
from speech2lip_jax.sweeps import run, trials
home = sys.argv.pop(1)

def commands(trial, *_):
  if trial.metrics_json.is_file():
    return []
  log = json.dumps({'step': 3, 'metric/psnr_lip_val': 30 + trial.overrides['field.width'] / 64})
  return [['sh', '-c', f"""
      echo {trial.name} >> {home}/ran
      while [ -e {home}/wait ]; do sleep 0.05; done
      [ -e {home}/{trial.name} ] && exit 3
      mkdir -p {trial.workdir}/eval && echo '{log}' > {trial.workdir}/log.jsonl
      echo '{{"psnr_lip": 30}}' > {trial.metrics_json}"""]]

dataset.load_subject, trials.commands, run.POLL_S = lambda path: None, commands, 0.05
cli.run_verb('sweep', sweep, sys.argv)
'''


def start(home, num_trials):
  (home / 'space.py').write_text(SPACE_FILE)
  return subprocess.Popen([sys.executable, '-c', VERB, str(home), f'--config={home / "space.py"}', f'--workdir={home / "run"}',
                           '--config.data.path=x', f'--num_trials={num_trials}', '--trials_at_once=1'], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)})


def ran(home, count):
  """The trials that ran, as soon as they are so many."""
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    names = (home / 'ran').read_text().split() if (home / 'ran').is_file() else []
    if len(names) >= count:
      return names
    time.sleep(0.02)
  raise AssertionError(f'{count} trials do not begin')


def test_processes_share_a_search_and_one_that_is_killed_leaves_its_trial_to_the_next(tmp_path):
  (tmp_path / 'wait').touch()
  first, second = start(tmp_path, 6), start(tmp_path, 6)
  names = ran(tmp_path, 2)
  assert sorted(names) == ['trial_0000', 'trial_0001']
  first.send_signal(signal.SIGKILL)
  first.communicate()
  (tmp_path / 'wait').unlink()
  out, told = second.communicate(timeout=120)
  assert second.returncode == 0, told
  assert '6 of 6 trials are complete' in out and 'best.py' in out and 'trial_0005: train.learning_rate=' in out
  names = ran(tmp_path, 7)
  assert sorted(set(names)) == [f'trial_{number:04}' for number in range(6)] and len(names) == 7, 'one ran twice: it was cut short'
  assert len((tmp_path / 'run' / 'results.csv').read_text().splitlines()) == 1 + 6
  third = start(tmp_path, 6)
  assert third.communicate()[0] == out and third.returncode == 0 and ran(tmp_path, 7) == names


def test_ctrl_c_leaves_the_trial_to_the_next_command(tmp_path):
  (tmp_path / 'wait').touch()
  first = start(tmp_path, 1)
  ran(tmp_path, 1)
  first.send_signal(signal.SIGTERM)
  first.communicate()
  assert first.returncode == 143
  (tmp_path / 'wait').unlink()
  again = start(tmp_path, 1)
  out, _ = again.communicate(timeout=60)
  assert '1 of 1 trials are complete' in out and ran(tmp_path, 2) == ['trial_0000'] * 2


def test_a_search_with_too_few_complete_trials_ends_with_status_one_and_goes_on_when_given_again(tmp_path):
  (tmp_path / 'trial_0000').touch()
  first = start(tmp_path, 1)
  out, told = first.communicate(timeout=60)
  assert first.returncode == 1 and out == f'{tmp_path / "run"}: 0 of 1 trials are complete; the same command goes on\n'
  assert told.endswith(f'failed: trial_0000; see {tmp_path / "run" / "trial_0000" / "sweep.log"}\n')
  again = start(tmp_path, 1)
  out, _ = again.communicate(timeout=60)
  assert again.returncode == 0 and '1 of 1 trials are complete' in out and ran(tmp_path, 2) == ['trial_0000', 'trial_0001']


FORKS = '''
import json, os, sys
from speech2lip_jax import cli, sweep
for arguments in json.loads(sys.argv[1]):
  if not os.fork():
    sys.argv[1:] = arguments
    cli.run_verb('sweep', sweep, sys.argv)
    os._exit(0)
  print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
'''


def test_flags_that_do_not_go_with_a_space_are_told_in_one_line(tmp_path):
  (tmp_path / 'space.py').write_text(SPACE_FILE)
  space = [f'--config={tmp_path / "space.py"}', f'--workdir={tmp_path / "run"}', '--config.data.path=x']
  listed = ['--config=configs/ablation.py', *space[1:]]
  told = {
      '--launcher slurm: get_hyper returns a space, whose trials are chosen one after another; start this command without '
      '--launcher in several jobs': [*space, '--launcher=slurm', '--num_trials=3'],
      '--launcher jobset: get_hyper returns': [*space, '--launcher=jobset', '--num_trials=3'],
      '--num_trials is missing': space,
      '--only: is for': [*space, '--only=trial_0001'],
      '--dry_run: is for': [*space, '--dry_run'],
      f'{tmp_path / "run"}: has no study.log': [*space, '--collect'],
      '--num_trials: is for': [*listed, '--num_trials=3']}
  done = subprocess.run([sys.executable, '-c', FORKS, json.dumps(list(told.values()))], cwd=ROOT, capture_output=True, text=True,
                        env=os.environ | {'PYTHONPATH': str(ROOT)})
  assert done.stdout.split() == ['2'] * len(told)
  for line, words in zip(done.stderr.splitlines(), told, strict=True):
    assert words in line
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_three_trials_are_chosen_trained_and_compared(tmp_path):
  folder = write_toy_subject(tmp_path / 'toy')
  (tmp_path / 'space.py').write_text(SPACE_FILE)
  done = run_verb(f'--config={tmp_path / "space.py"}', f'--workdir={tmp_path / "run"}', f'--config.data.path={folder}',
                  '--num_trials=3')
  assert done.returncode == 0, done.stderr
  assert '3 of 3 trials are complete' in done.stdout and (tmp_path / 'run' / 'best.py').is_file()
