"""Sweeps: what get_hyper builds, trials run some at a time by shell commands that stand in for training, and their table."""
import csv
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
import xml.etree.ElementTree

import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import ablation, smoke
from speech2lip_jax.sweeps import hyper
from speech2lip_jax.sweeps import launcher as launcher_module
from speech2lip_jax.sweeps import results as sweep_results
from speech2lip_jax.sweeps import run as sweep_run
from speech2lip_jax.sweeps import trials as trials_module
from speech2lip_jax.sweeps.launcher import DONE, FAILED, RUNNING, Job, LocalLauncher
from speech2lip_jax.workdir import config_file
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]
RATES = hyper.named('slow', {'train.learning_rate': 1e-4}) + hyper.named('fast', {'train.learning_rate': 1e-2})
TWO_BY_TWO = hyper.product(RATES, hyper.sweep('seed', range(2)))


@pytest.fixture
def trials(tmp_path):
  return trials_module.make_trials(TWO_BY_TWO, smoke.get_config(), tmp_path)


def finish(trial, psnr_lip, psnr_lip_val):
  """Leaves what a trial's two commands leave."""
  trial.metrics_json.parent.mkdir(parents=True)
  log = [{'step': 0, 'metric/num_parameters': 1200}, {'step': 1, 'loss/lip': 1.0, 'time/step_s': 9.0},
         {'step': 2, 'loss/lip': 1.0, 'loss/frame': 1.0, 'time/step_s': 5.0},
         {'step': 3, 'loss/lip': 1.0, 'loss/frame': 1.0, 'time/step_s': 0.5}, {'step': 3, 'metric/psnr_lip_val': psnr_lip_val}]
  (trial.workdir / 'log.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in log) + '{"step": 4, "lo')
  trial.metrics_json.write_text(json.dumps({'psnr_lip': psnr_lip, 'ssim_lip': 0.9, 'psnr_img': 40.0, 'sync_conf0': None}))


# ---- get_hyper

def test_a_product_has_every_combination_and_a_name_for_each():
  both = hyper.product(hyper.sweep('field.width', [32, 64]), hyper.sweep('seed', [0, 1]))
  assert [(trial['field.width'], trial['seed']) for trial in both] == [(32, 0), (32, 1), (64, 0), (64, 1)]
  assert both[1][hyper.NAME] == 'field.width=32,seed=1'


def test_zipped_sweeps_go_side_by_side_and_must_be_as_long():
  pairs = hyper.zipit(hyper.sweep('field.width', [32, 64]), hyper.sweep('field.depth', [2, 4]))
  assert [(trial['field.width'], trial['field.depth']) for trial in pairs] == [(32, 2), (64, 4)]
  with pytest.raises(InputError, match='zipit of sweeps of 2, 1 trials'):
    hyper.zipit(hyper.sweep('field.width', [32, 64]), hyper.sweep('seed', [0]))


def test_a_field_set_twice_is_told():
  with pytest.raises(InputError, match='sets config.seed twice'):
    hyper.product(hyper.sweep('seed', [0]), hyper.sweep('seed', [1]))


def test_trials_have_folders_rows_without_the_seed_and_whole_configs(trials, tmp_path):
  assert [trial.name for trial in trials] == ['slow,seed=0', 'slow,seed=1', 'fast,seed=0', 'fast,seed=1']
  assert [trial.row for trial in trials] == ['slow', 'slow', 'fast', 'fast']
  assert trials[3].config.train.learning_rate == 1e-2 and trials[3].config.seed == 1
  assert trials[3].config.train.num_steps == smoke.get_config().train.num_steps
  odd = trials_module.make_trials(hyper.named('L_w + L_d / 2'), smoke.get_config(), tmp_path)
  assert odd[0].workdir == tmp_path / 'L_w_+_L_d_2'


@pytest.mark.parametrize('overrides, told', [({'train.lerning_rate': 1.0}, 'config.train.lerning_rate=1.0.*learning_rate'),
                                             ({'trian.num_steps': 3}, 'config.trian.num_steps=3'),
                                             ({'train.num_steps': 'many'}, "config.train.num_steps='many'")])
def test_an_override_that_does_not_fit_the_config_is_told_by_its_field(overrides, told, tmp_path):
  with pytest.raises(InputError, match=told):
    trials_module.make_trials([overrides], smoke.get_config(), tmp_path)


def test_two_trials_of_one_name_are_told(tmp_path):
  with pytest.raises(InputError, match='two trials of the name seed=0'):
    trials_module.make_trials(hyper.sweep('seed', [0, 0]), smoke.get_config(), tmp_path)


def test_a_config_without_trials_is_told(tmp_path):
  with pytest.raises(InputError, match='configs/smoke.py: has no get_hyper'):
    trials_module.load_hyper('configs/smoke.py')
  (tmp_path / 'none.py').write_text('def get_hyper(hyper):\n  return hyper.product(hyper.sweep("seed", []))\n')
  with pytest.raises(InputError, match='none.py: its get_hyper returns no trials'):
    trials_module.load_hyper(str(tmp_path / 'none.py'))
  with pytest.raises(InputError, match='gone.py: no such file'):
    trials_module.load_hyper(str(tmp_path / 'gone.py'))


def test_every_trial_of_the_ablation_fits_the_config_and_has_two_seeds(tmp_path):
  found = trials_module.make_trials(trials_module.load_hyper(ablation.__file__), ablation.get_config(), tmp_path)
  rows = [trial.row for trial in found]
  assert len(rows) == 2 * len(set(rows)) and rows[:len(rows) // 2] == rows[len(rows) // 2:]


# ---- running

@pytest.fixture
def launcher():
  return LocalLauncher(2)


def wait(launcher, handle):
  while launcher.poll(handle) == RUNNING:
    time.sleep(0.01)
  return launcher.poll(handle)


def test_a_job_is_done_or_failed_by_its_exit_status_and_its_words_are_kept(launcher, tmp_path):
  assert wait(launcher, launcher.submit(Job('echo well', tmp_path / 'a.log'))) == DONE
  assert wait(launcher, launcher.submit(Job('echo no >&2; false && echo never', tmp_path / 'b.log'))) == FAILED
  assert [(tmp_path / name).read_text() for name in ('a.log', 'b.log')] == ['well\n', 'no\n']


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity') or len(os.sched_getaffinity(0)) < 2, reason='needs two cores to share')
def test_jobs_at_once_have_cores_of_their_own(launcher, tmp_path):
  mine = os.sched_getaffinity(0)
  told = f'{sys.executable} -c "import os; print(*os.sched_getaffinity(0))"; sleep 0.2'
  handles = [launcher.submit(Job(told, tmp_path / f'{i}.log')) for i in range(2)]
  assert [wait(launcher, handle) for handle in handles] == [DONE, DONE]
  shares = [set(map(int, (tmp_path / f'{i}.log').read_text().split())) for i in range(2)]
  assert shares[0] | shares[1] == mine and not shares[0] & shares[1]
  assert os.sched_getaffinity(0) == mine


def test_a_cancelled_job_may_write_what_it_has(launcher, tmp_path):
  (tmp_path / 'job.py').write_text("""
import signal, sys, time
def stop(*_):
  time.sleep(0.3)
  open('saved', 'w').close()
  sys.exit(75)
signal.signal(signal.SIGTERM, stop)
open('ready', 'w').close()
time.sleep(60)
""")
  handle = launcher.submit(Job(f'cd {tmp_path} && {sys.executable} job.py && touch next', tmp_path / 'job.log'))
  while not (tmp_path / 'ready').exists():
    time.sleep(0.01)
  launcher.cancel([handle])
  assert (tmp_path / 'saved').exists() and not (tmp_path / 'next').exists()


def test_cancelled_jobs_leave_no_process_behind(launcher, tmp_path):
  handle = launcher.submit(Job('sleep 60 & echo $!; wait', tmp_path / 'log'))
  while not (tmp_path / 'log').read_text():
    time.sleep(0.01)
  launcher.cancel([handle])
  child, deadline = int((tmp_path / 'log').read_text()), time.monotonic() + 5

  def is_alive():
    try:
      return 'Z' != pathlib.Path(f'/proc/{child}/stat').read_text().split()[2]
    except OSError:
      return False
  while is_alive():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def jobs_of(trials, command):
  for trial in trials:
    trial.workdir.mkdir(exist_ok=True)
  return {trial.name: Job(command(trial), trial.log) for trial in trials}


def test_a_sweep_goes_on_after_a_failed_trial_and_says_where_its_log_is(trials, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sweep_run, 'POLL_S', 0.02)

  def command(trial):
    if trial.name == 'slow,seed=1':
      return 'echo out of memory; false'
    return f'mkdir -p {trial.metrics_json.parent} && echo \'{{"psnr_lip": 30.0}}\' > {trial.metrics_json}'
  assert sweep_run.run_trials(trials, jobs_of(trials, command), tmp_path, LocalLauncher(2), 2) == ['slow,seed=1']
  told = capsys.readouterr().err
  assert str(trials[1].log) in told and '3 finished, 1 failed' in told
  assert trials[1].log.read_text() == 'out of memory\n'
  assert len((tmp_path / 'results.csv').read_text().splitlines()) == 1 + 3
  left = {trial.name: trials_module.commands(trial, 'configs/smoke.py', {}, None) for trial in trials}
  assert [name for name, argvs in left.items() if argvs] == ['slow,seed=1']


def test_in_a_terminal_the_table_is_drawn_over_itself_and_fits_its_height(trials, monkeypatch):
  monkeypatch.setenv('LINES', '5')
  monkeypatch.setenv('COLUMNS', '70')

  class Terminal(io.StringIO):
    def isatty(self):
      return True

  terminal = Terminal()
  finish(trials[3], 33.0, 32.0)
  board = sweep_run.Board(trials, terminal)
  states = dict(zip((trial.name for trial in trials), (sweep_run.WAITING, FAILED, sweep_run.WAITING, RUNNING), strict=True))
  board.show(states)
  first = terminal.getvalue().splitlines()
  assert first[0].startswith('\x1b[Jfast,seed=1') and 'step      3/12' in first[0] and '32.00 dB' in first[0]
  assert first[1].startswith('slow,seed=1') and first[2] == '2 more; 1 running, 1 failed, 2 waiting'
  board.show(states)
  assert terminal.getvalue().count('\x1b[3F\x1b[J') == 1 and all(len(line) < 80 for line in first)


def test_no_more_trials_run_at_once_than_wanted(trials, tmp_path, monkeypatch):
  monkeypatch.setattr(sweep_run, 'POLL_S', 0.02)
  running = []

  class Counting(LocalLauncher):
    def submit(self, job):
      running.append(sum(state == RUNNING for state in states.values()))
      return super().submit(job)

  states = dict.fromkeys((trial.name for trial in trials), sweep_run.WAITING)
  sweep_run.run(jobs_of(trials, lambda trial: 'sleep 0.1'), states, Counting(2), 2, lambda name: None)
  assert running[0] == 0 and max(running) == 1 and set(states.values()) == {sweep_run.FINISHED}


def test_on_windows_jobs_are_asked_by_a_break_and_killed_as_a_tree(monkeypatch):
  sent, ran = [], []
  process = types.SimpleNamespace(pid=7, send_signal=sent.append)
  monkeypatch.setattr(launcher_module, 'sys', types.SimpleNamespace(platform='win32'))
  monkeypatch.setattr(signal, 'CTRL_BREAK_EVENT', 1, raising=False)
  monkeypatch.setattr(subprocess, 'run', lambda words, **_: ran.append(words))
  monkeypatch.delattr(os, 'killpg')  # it is not there
  launcher_module._end_group(process, at_once=False)
  launcher_module._end_group(process, at_once=True)
  assert (sent, ran) == ([1], [['taskkill', '/F', '/T', '/PID', '7']])


@pytest.mark.parametrize('is_begun', [False, True])
def test_ctrl_c_ends_the_trials_first(trials, tmp_path, is_begun):
  launcher = LocalLauncher(2)
  handles = []
  submit = launcher.submit
  launcher.submit = lambda job: handles.append(submit(job)) or handles[-1]

  def changed(name):
    if len(handles) == 2 and (not is_begun or all(pathlib.Path(f'{trial.workdir}.begun').exists() for trial in trials[:2])):
      raise KeyboardInterrupt
  states = dict.fromkeys((trial.name for trial in trials), sweep_run.WAITING)
  jobs = jobs_of(trials, lambda trial: f'touch "{trial.workdir}.begun"; sleep 60; touch "{trial.workdir}.after"')
  began = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    sweep_run.run(jobs, states, launcher, 2, changed)
  # Nothing had to be killed, whether SIGTERM came before the shell (-15) or after it (143), and no command was begun after it.
  assert all(handle.process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM) for handle in handles)
  assert time.monotonic() - began < launcher_module.GRACE_S and not list(tmp_path.rglob('*.after'))


def test_what_is_left_of_a_trained_trial_is_its_evaluation(trials):
  given = {'data.path': 'a folder', 'seed': 7}
  train, score = trials_module.commands(trials[1], 'configs/smoke.py', given, 'judge')
  assert train[3] == 'train' and '--config.data.path=a folder' in train and '--config.train.learning_rate=0.0001' in train
  assert '--config.seed=1' in train and '--config.seed=7' not in train  # a trial's own value wins
  assert score[3] == 'evaluate' and '--judge=judge' in score and '--nobaselines' in score
  (trials[1].workdir / 'checkpoints' / str(trials[1].config.train.num_steps)).mkdir(parents=True)
  assert trials_module.commands(trials[1], 'configs/smoke.py', given, 'judge') == [score]
  assert "'--config.data.path=a folder'" in trials_module.shell([train, score]) and ' && ' in trials_module.shell([train, score])


# ---- results

def test_the_table_has_mean_and_spread_of_the_seeds_and_the_csv_every_trial(trials, tmp_path):
  for trial, psnr, val in zip(trials, (30.0, 31.0, 33.0, 33.5), (29.0, 30.0, 28.0, 28.5), strict=True):
    finish(trial, psnr, val)
  table = sweep_results.write_results(trials, tmp_path)
  assert '| slow | 30.50 ± 0.71 | 0.9000 ± 0.0000 |' in table and '| 1,200 | 2 |' in table
  assert 'conf0' not in table  # nobody has it
  assert '| 0.500 ± 0.000 |' in table  # seconds of a step with every loss, without its compilation
  rows = list(csv.DictReader((tmp_path / 'results.csv').open()))
  assert [row['trial'] for row in rows] == [trial.name for trial in trials]
  assert (rows[3]['psnr_lip'], rows[3]['train.learning_rate'], rows[3]['seed']) == ('33.5', '0.01', '1')
  summary = list(csv.DictReader((tmp_path / 'table.csv').open()))
  assert float(summary[1]['psnr_lip']) == 33.25 and summary[1]['seeds'] == '2'


def test_the_plot_is_a_picture_with_a_dot_for_each_trial(trials, tmp_path):
  for trial in trials[:3]:
    finish(trial, 30.0, 29.0)
  sweep_results.write_results(trials, tmp_path)
  assert xml.etree.ElementTree.parse(tmp_path / 'plot.svg').getroot().tag.endswith('svg')
  rows = {}
  for trial in trials[:3]:
    rows.setdefault(trial.row, []).append(sweep_results.result(trial))
  panels = sweep_results.plot(rows).axes
  assert [axes.get_title() for axes in panels] == ['psnr_lip dB ↑', 'ssim_lip ↑']
  for axes in panels:
    means, dots = (collection.get_offsets() for collection in axes.collections)
    assert (len(means), len(dots)) == (2, 3)  # rows, trials
  assert [label.get_text() for label in panels[0].get_yticklabels()] == list(rows)


def test_the_best_config_is_chosen_on_validation_frames_and_can_be_trained(trials, tmp_path):
  for trial, psnr, val in zip(trials, (30.0, 30.0, 35.0, 35.0), (29.0, 30.0, 28.0, 31.0), strict=True):
    finish(trial, psnr, val)
  sweep_results.write_results(trials[:3], tmp_path)
  scope = {}
  exec((tmp_path / 'best.py').read_text(), scope)
  best = scope['get_config']()
  assert best.is_locked and (best.train.learning_rate, best.seed) == (1e-4, 1)
  config_file.claim_workdir(trials[1].workdir, trials[1].config)
  config_file.claim_workdir(trials[1].workdir, best)  # the same config, field by field


def test_a_folder_of_another_sweep_is_told_by_the_field(trials, tmp_path):
  config_file.claim_workdir(trials[0].workdir, trials[0].config)
  (trials[0].workdir / 'checkpoints' / '4').mkdir(parents=True)
  other = trials_module.make_trials(hyper.product(hyper.named('slow', {'train.learning_rate': 2e-4}), hyper.sweep('seed', [0])),
                            smoke.get_config(), tmp_path)
  with pytest.raises(InputError, match='train.learning_rate=0.0001, now 0.0002'):
    config_file.claim_workdir(other[0].workdir, other[0].config, may_change=())


def test_progress_is_read_from_a_log_that_is_being_written(trials):
  assert sweep_results.progress(trials[0]) == (0, None, None)
  finish(trials[0], 30.0, 29.25)
  assert sweep_results.progress(trials[0]) == (3, None, 29.25)


# ---- the verb

def run_verb(*arguments):
  return subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'sweep', *map(str, arguments)], cwd=ROOT, capture_output=True,
                        text=True, env=os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0'})


def test_a_dry_run_prints_a_line_for_each_trial_and_touches_nothing(tmp_path):
  done = run_verb('--config=configs/ablation.py', f'--workdir={tmp_path / "run"}', '--config.data.path=x', '--dry_run')
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert len(lines) == len(ablation.get_hyper(hyper))
  assert all(' train ' in line and '--config.data.path=x' in line and ' evaluate ' in line for line in lines)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_two_trials_are_trained_scored_and_left_alone_when_given_again(tmp_path):
  folder = write_toy_subject(tmp_path / 'toy')
  (tmp_path / 'tiny.py').write_text('from configs.smoke import get_config  # noqa: F401\n\n\n'
                                    'def get_hyper(hyper):\n  return hyper.sweep("field.width", [16, 32])\n')
  arguments = (f'--config={tmp_path / "tiny.py"}', f'--workdir={tmp_path / "run"}', f'--config.data.path={folder}',
               '--trials_at_once=2')
  first = run_verb(*arguments)
  assert first.returncode == 0, first.stderr
  assert '| field.width=16 |' in first.stdout and '2 finished' in first.stderr
  times = {path: path.stat().st_mtime_ns for path in (tmp_path / 'run').glob('field*/**/*')}
  again = run_verb(*arguments)
  assert again.returncode == 0 and again.stdout == first.stdout
  assert times == {path: path.stat().st_mtime_ns for path in times}
