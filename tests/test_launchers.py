"""Where a sweep's trials run: devices of this machine, SLURM, Kubernetes."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.sweeps import hyper, jobset, slurm
from speech2lip_jax.sweeps import run as sweep_run
from speech2lip_jax.sweeps.devices import Devices, find_devices, pinned
from speech2lip_jax.sweeps.launcher import DONE, RUNNING, Job, LocalLauncher
from speech2lip_jax.sweeps.trials import make_trials
from tests.test_sweep import finish


@pytest.fixture
def machine(monkeypatch, tmp_path):
  """No accelerator that anybody sees, and no programs but a shell's."""
  for name in ('JAX_PLATFORMS', 'CUDA_VISIBLE_DEVICES', 'TPU_VISIBLE_CHIPS'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('PATH', f'{tmp_path}:/bin')
  return monkeypatch


def program(folder, name, text):
  (folder / name).write_text(f'#!/bin/sh\n{text}\n')
  (folder / name).chmod(0o755)


# ---- this machine

def test_devices_are_those_that_the_process_may_use(machine, tmp_path):
  assert find_devices(str(tmp_path)) == ('', [])
  (tmp_path / 'dev/vfio').mkdir(parents=True)
  for name in ('0', '1', 'vfio'):
    (tmp_path / 'dev/vfio' / name).touch()
  assert find_devices(str(tmp_path)) == ('tpu', ['0', '1'])
  program(tmp_path, 'nvidia-smi', 'echo 0; echo 1; echo 2')
  assert find_devices(str(tmp_path)) == ('cuda', ['0', '1', '2'])
  machine.setenv('CUDA_VISIBLE_DEVICES', '2,GPU-5')
  assert find_devices(str(tmp_path)) == ('cuda', ['2', 'GPU-5'])
  machine.setenv('CUDA_VISIBLE_DEVICES', '')
  assert find_devices(str(tmp_path)) == ('', [])
  machine.setenv('CUDA_VISIBLE_DEVICES', '2')
  machine.setenv('JAX_PLATFORMS', 'cpu')
  assert find_devices(str(tmp_path)) == ('', [])


def test_each_trial_has_a_device_and_shares_its_memory_evenly():
  gpus = Devices('cuda', ['2', '3'])
  assert [pinned(gpus, slot, 2)['CUDA_VISIBLE_DEVICES'] for slot in range(4)] == ['2', '3', '2', '3']
  assert pinned(gpus, 0, 2)['XLA_PYTHON_CLIENT_MEM_FRACTION'] == '0.450'
  assert pinned(Devices('tpu', ['0', '1']), 1, 1)['TPU_VISIBLE_CHIPS'] == '1'
  assert pinned(Devices('', []), 0, 1) == {}


def test_local_jobs_see_their_own_device_alone(machine, tmp_path):
  machine.setenv('CUDA_VISIBLE_DEVICES', '4,6')
  launcher = LocalLauncher(2)
  handles = [launcher.submit(Job('echo $CUDA_VISIBLE_DEVICES', tmp_path / f'{i}.log')) for i in range(2)]
  while RUNNING in (states := [launcher.poll(handle) for handle in handles]):
    time.sleep(0.01)
  assert states == [DONE, DONE]
  assert [(tmp_path / f'{i}.log').read_text() for i in range(2)] == ['4\n', '6\n']


# ---- Kubernetes

def test_the_manifest_has_a_pod_for_each_trial_that_shares_the_disk():
  jobs = [[['python', '-m', 'x', 'train', f'--config.seed={i}'], ['python', '-m', 'x', 'evaluate']] for i in range(3)]
  made = yaml.safe_load(jobset.manifest('Runs of_a sweep', jobs, 2, 'registry/speech2lip:1', 'disk-1', '/data', 1))
  assert (made['kind'], made['apiVersion'], made['metadata']['name']) == ('JobSet', 'jobset.x-k8s.io/v1alpha2', 'runs-of-a-sweep')
  job = made['spec']['replicatedJobs'][0]['template']['spec']
  assert (job['completionMode'], job['completions'], job['parallelism']) == ('Indexed', 3, 2)
  pod = job['template']['spec']
  container, = pod['containers']
  assert container['image'] == 'registry/speech2lip:1' and container['resources']['limits'] == {'nvidia.com/gpu': 1}
  assert container['volumeMounts'][0]['mountPath'] == '/data'
  assert pod['volumes'][0]['persistentVolumeClaim']['claimName'] == 'disk-1'
  assert '--config.seed=2' in container['command'][2]


def test_a_pod_runs_the_commands_of_its_index_and_hands_sigterm_on(tmp_path):
  log = tmp_path / 'log'
  note = lambda word: [sys.executable, '-c', f'open({str(log)!r}, "a").write({word!r} + "\\n")']
  slow = [sys.executable, '-c', 'import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n'
          f'open({str(log)!r}, "a").write("began\\n")\ntime.sleep(60)']
  script = jobset.script([[note('never')], [note("it's one"), note('two')], [slow, note('never')]])
  start = lambda index: subprocess.Popen(['sh', '-c', script], env=os.environ | {'JOB_COMPLETION_INDEX': str(index)})
  assert start(1).wait() == 0 and log.read_text() == "it's one\ntwo\n"
  log.write_text('')
  process = start(2)
  while not log.read_text():
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 75 and log.read_text() == 'began\n'


# ---- SLURM

@pytest.fixture
def trials(tmp_path):
  made = make_trials(hyper.sweep('seed', range(5)), smoke.get_config(), tmp_path)
  for trial in made:
    trial.workdir.mkdir()
  return made


def test_a_trials_state_comes_from_its_files_and_the_queue(machine, tmp_path, trials):
  finish(trials[0], 30.0, 29.0)
  for i, record in enumerate([{'job': '7_0', 'status': 0}, {'job': '7_1'}, {'job': '7_2'}, {'job': '7_3', 'status': 1}]):
    slurm.record_of(trials[i]).write_text(json.dumps(record))
  program(tmp_path, 'squeue', 'echo "$*" > asked; echo 7_1 RUNNING; echo 7_2 PENDING')
  machine.chdir(tmp_path)
  queue = slurm.Queue.of(trials)
  assert queue.states == {'seed=1': 'RUNNING', 'seed=2': 'PENDING'}
  assert '--jobs 7_0,7_1,7_2,7_3' in (tmp_path / 'asked').read_text()
  assert list(slurm.states_of(trials, queue).values()) == ['finished', 'running', 'waiting', 'failed', 'waiting']
  program(tmp_path, 'squeue', 'echo slurm_load_jobs error: Invalid job id specified >&2; exit 1')
  gone = slurm.states_of(trials, slurm.Queue.of(trials))
  assert list(gone.values()) == ['finished', 'failed', 'failed', 'failed', 'waiting'], 'a job that vanished has failed'
  slurm.record_of(trials[1]).write_text(json.dumps({'job': '7_1', 'status': 75}))
  assert slurm.states_of(trials, slurm.Queue({}))['seed=1'] == 'waiting', 'stopped, and to be gone on with'


def test_a_job_runs_its_commands_until_one_fails_and_writes_its_status(tmp_path):
  log, record = tmp_path / 'log', tmp_path / 'slurm.json'
  record.write_text('{"job": "7_1"}')
  with pytest.raises(RuntimeError, match='exit status 3'):
    slurm.TrialJob()([['sh', '-c', 'echo one; exit 3'], ['echo', 'two']], log, record)
  assert log.read_text() == 'one\n' and json.loads(record.read_text()) == {'job': '7_1', 'status': 3}
  slurm.TrialJob()([['echo', 'three'], ['sh', '-c', 'exit 75']], log, record)
  assert log.read_text() == 'one\nthree\n' and json.loads(record.read_text())['status'] == 75


def test_options_of_sbatch_are_names_and_values():
  assert slurm.parameters(['partition=gpu', 'time=240', 'mem=32GB']) == {'partition': 'gpu', 'time': 240, 'mem': '32GB'}
  with pytest.raises(InputError, match='--slurm gpu: must be NAME=VALUE'):
    slurm.parameters(['gpu'])


def test_what_is_finished_can_be_told_without_starting_anything(tmp_path, trials, capsys):
  sweep_run.tell(trials, slurm.states_of(trials, slurm.Queue({})), tmp_path)
  assert 'no trial is finished yet' in capsys.readouterr().out
  finish(trials[0], 30.0, 29.0)
  sweep_run.tell(trials, slurm.states_of(trials, slurm.Queue({})), tmp_path)
  told = capsys.readouterr()
  assert '30.00' in told.out and '1 finished, 4 waiting' in told.err and (tmp_path / 'table.md').is_file()
