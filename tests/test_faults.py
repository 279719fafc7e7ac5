"""Kills, full disks, refusals of the system, two writers and NaN: nothing finished is lost, and each is told in one line."""
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from speech2lip_jax.common import files, recipes, weights
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import dataset, schema
from speech2lip_jax.metrics import image
from speech2lip_jax.sync import assess
from speech2lip_jax.sync.expert import EXPERT_FILE, WEIGHTS_FILE
from speech2lip_jax.training import loop
from speech2lip_jax.workdir import checkpoint
from speech2lip_jax.workdir import state as workdir_state
from tests.faults.cases import CASES
from tests.faults.laboratory import Laboratory
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]


def python(code, *arguments):
  """Runs a program in the repository's root; its standard output and error."""
  return subprocess.run([sys.executable, '-c', textwrap.dedent(code), *map(str, arguments)], cwd=ROOT, capture_output=True,
                        text=True, check=False)


# ---- kills and full disks at every write

def disturb(home, names, *arguments):
  """`python -m tests.faults`, which fails where a run did not end as an undisturbed one."""
  done = subprocess.run([sys.executable, '-m', 'tests.faults', '--home', str(home), '--verb', ';'.join(names), *arguments],
                        cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, f'{done.stdout}\n{done.stderr}'
  return done.stdout


def test_commands_killed_or_with_a_full_disk_end_as_undisturbed_ones_when_given_again(tmp_path):
  table = disturb(tmp_path, ['convert lpips', 'sweep', 'preprocess'], '--most', '1', '--kind', 'killed,full')
  assert '| all | | 6 | 6 | 6 | 6 |' in table


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  return tmp_path_factory.mktemp('faults')


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_a_verb_survives_every_fault(name, home):
  disturb(home, [name], '--most', '40')


# ---- what the system refuses

def refused(action):
  with pytest.raises(OSError) as caught:
    action()
  line = files.refusal(caught.value)
  assert line is not None and '\n' not in line
  return line


def test_a_full_disk_is_told_with_the_path_and_what_is_free(tmp_path):
  def write(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  (tmp_path / 'a.txt').write_text('old')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, 'replace', write)
    line = refused(lambda: files.write_text(tmp_path / 'a.txt', 'new'))
  assert line.startswith(f'{tmp_path}/a.txt: no space left on device (') and 'are free' in line and 'free some space' in line
  assert [path.name for path in tmp_path.iterdir()] == ['a.txt'] and (tmp_path / 'a.txt').read_text() == 'old'


def test_folders_and_files_in_each_others_place_are_told(tmp_path):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'file').write_text('')
  assert 'folder: is a directory; a file is needed here' in refused(lambda: files.write_text(tmp_path / 'folder', ''))
  assert 'file: file exists; a folder is needed' in refused((tmp_path / 'file').mkdir)
  assert 'a part of this path is a file' in refused(lambda: files.write_text(tmp_path / 'file' / 'a', ''))
  assert files.refusal(OSError('no number')) is None


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_without_permission_is_told(tmp_path):
  tmp_path.chmod(0o500)
  assert 'permission denied; give one that you may read and write' in refused(lambda: files.write_text(tmp_path / 'a', ''))


LIMITED = '''
    import resource, sys
    import numpy as np
    from speech2lip_jax import cli
    from speech2lip_jax.common import film_file

    class verb:
      """A verb."""

      @staticmethod
      def main():
        if sys.argv[2] == 'size':
          resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        noise = np.random.default_rng(0).integers(0, 255, (50, 128, 128, 3)).astype(np.uint8)
        with film_file.Mp4Writer(sys.argv[1], 128, 128, 25, np.zeros((1, 16000), np.int16), 16000) as writer:
          if sys.argv[2] == 'files':
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
          for picture in noise:
            writer.write(picture)
          if sys.argv[2] == 'files':
            open(sys.argv[1])
    cli.run_verb('render', verb, ['speech2lip render'])
'''


@pytest.mark.skipif(sys.platform == 'win32', reason='has no such limits')
@pytest.mark.parametrize('limit, told', [('size', 'a.mp4: file too large; the limit on the size of a file (ulimit -f)'),
                                         ('files', 'a.mp4: too many open files; raise the limit on open files (ulimit -n)')])
def test_a_limit_of_the_system_is_one_line_and_the_video_that_was_there_stays(tmp_path, limit, told):
  (tmp_path / 'a.mp4').write_text('old')
  done = python(LIMITED, tmp_path / 'a.mp4', limit)
  assert done.returncode == 2 and done.stderr.startswith(f'speech2lip render: error: {tmp_path}/{told}'), done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert [path.name for path in tmp_path.iterdir()] == ['a.mp4'] and (tmp_path / 'a.mp4').read_text() == 'old'


def test_what_a_dead_process_was_writing_is_removed_and_a_living_ones_is_not(tmp_path):
  dead = subprocess.Popen([sys.executable, '-c', ''])
  dead.wait()
  mine = files.temporary_beside(tmp_path / 'a.txt').name
  of = lambda pid: tmp_path / mine.replace(str(os.getpid()), str(pid))
  for name in (of(dead.pid), of(os.getppid()), of(dead.pid).with_suffix('.png')):
    name.write_text('half')
  files.write_text(tmp_path / 'a.txt', 'whole')
  assert {path.name for path in tmp_path.iterdir()} == {'a.txt', of(os.getppid()).name, of(dead.pid).with_suffix('.png').name}


@pytest.mark.skipif(not hasattr(os, 'posix_fallocate'), reason='needs posix_fallocate')
def test_an_array_that_does_not_fit_on_the_disk_is_refused_before_it_is_filled(tmp_path, monkeypatch):
  array = files.create_array(tmp_path / 'a.npy', np.uint8, (1000, 10))
  assert array.shape == (1000, 10) and os.stat(tmp_path / 'a.npy').st_blocks * 512 >= 10_000
  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(InputError, match=r'b.npy: needs 3.0 GB, .* are free'):
    files.create_array(tmp_path / 'b.npy', np.uint8, (1000, 3_000_000))
  assert not (tmp_path / 'b.npy').exists()


def test_what_tensorstore_may_not_write_is_an_error_of_the_system_and_leaves_no_half_checkpoint(tmp_path):
  state = workdir_state.TrainState(np.int32(1), {'a': np.zeros(8, np.float32)}, {}, {}, {})
  with pytest.raises(OSError, match='No space left on device') as caught, checkpoint.Checkpoints(tmp_path, writes=True) as kept:
    (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp').mkdir()

    def full(*_, **__):
      raise ValueError("RESOURCE_EXHAUSTED: Failed to write 537066 bytes: No space left on device [os_error_code='28']")
    kept._manager.save = full
    kept.save(state, 0.0, 0)
  assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / 'checkpoints')
  assert not list((tmp_path / 'checkpoints').iterdir())


def test_too_little_room_for_a_checkpoint_is_told_before_it_is_written(tmp_path, monkeypatch):
  monkeypatch.setattr(files.shutil, 'disk_usage', lambda path: type('Usage', (), {'free': 2e6}))
  state = workdir_state.TrainState(np.int32(1), {'a': np.zeros(500_000, np.float32)}, {}, {}, {})
  with checkpoint.Checkpoints(tmp_path, writes=True) as kept:
    with pytest.raises(InputError, match='a checkpoint needs 3 MB, 2 MB are free'):
      kept.save(state, 0.0, 0)


def test_a_network_that_cannot_be_written_leaves_the_old_one_and_a_mixture_is_none(tmp_path, monkeypatch):
  write = lambda value: weights.save_with_description(tmp_path, WEIGHTS_FILE, {'a': np.full(3, value)}, EXPERT_FILE,
                                                      {'made': value})
  read = lambda: (json.loads((tmp_path / EXPERT_FILE).read_text())['made'], np.load(tmp_path / WEIGHTS_FILE)['a'][0])
  write(1)

  def full(file, **_):
    file.write(b'half')
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space') as caught:
    patch.setattr(np, 'savez', full)
    write(2)
  assert caught.value.filename == str(tmp_path / WEIGHTS_FILE)
  assert read() == (1, 1) and {path.name for path in tmp_path.iterdir()} == {EXPERT_FILE, WEIGHTS_FILE}
  replace = os.replace

  def stop(source, target):
    replace(source, target)
    raise KeyboardInterrupt
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(os, 'replace', stop)
    write(2)
  assert not (tmp_path / EXPERT_FILE).exists()
  write(2)
  assert read() == (2, 2)


# ---- one writer

def test_an_expert_has_one_writer(tmp_path):
  with files.lock(tmp_path, 'expert'), pytest.raises(InputError, match=rf'expert \(process {os.getpid()} on .* is at work there'):
    assess.train_and_judge(recipes.load('expert').get_config(), None, tmp_path, 0)


LOCKED_SWEEP = '''
    import pathlib, sys
    from speech2lip_jax import cli, sweep
    from speech2lip_jax.common import files
    from speech2lip_jax.data import dataset
    dataset.load_subject = lambda path: None
    with files.lock(pathlib.Path(sys.argv[1]), 'sweep'):
      sys.argv[:] = ['speech2lip sweep', '--config=ablation', f'--workdir={sys.argv[1]}', '--config.data.path=x']
      cli.run_verb('sweep', sweep, sys.argv)
'''


def test_a_sweep_has_one_writer(tmp_path):
  done = python(LOCKED_SWEEP, tmp_path)
  assert done.returncode == 2 and f'error: {tmp_path}: sweep (process ' in done.stderr and len(done.stderr.splitlines()) == 1
  assert not [path for path in tmp_path.iterdir() if path.is_dir()], 'no trial is begun'


SWEEP = '''
    import pathlib, sys, time
    from speech2lip_jax.sweeps.launcher import Job, LocalLauncher
    launcher = LocalLauncher(2)
    for i in range(2):
      launcher.submit(Job('sleep 60 & echo $! $$; wait', pathlib.Path(sys.argv[1], f'{i}.log')))
    print('runs', flush=True)
    time.sleep(60)
'''


def is_alive(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
  except OSError:
    return False


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='reads /proc')
def test_the_trials_of_a_killed_sweep_end_with_it(tmp_path):
  sweep = subprocess.Popen([sys.executable, '-c', textwrap.dedent(SWEEP), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE,
                           text=True)
  assert sweep.stdout.readline() == 'runs\n'
  pids = []
  while len(pids) < 4:
    time.sleep(0.02)
    pids = [int(word) for path in tmp_path.glob('*.log') for word in path.read_text().split()]
  assert all(map(is_alive, pids))
  os.kill(sweep.pid, signal.SIGKILL)
  sweep.wait()
  deadline = time.monotonic() + 10
  while any(map(is_alive, pids)):
    assert time.monotonic() < deadline, 'orphans'
    time.sleep(0.02)


# ---- NaN

def test_nan_in_the_data_is_told_with_file_and_row(tmp_path):
  write_toy_subject(tmp_path, size=32, clip_frames=(60, 40))
  poses = np.load(tmp_path / 'observed_from_head.npy')
  for value in (np.nan, np.inf):
    poses[2, 0, 3] = value
    np.save(tmp_path / 'observed_from_head.npy', poses)
    schema.write_meta(tmp_path, schema.read_meta(tmp_path))  # with the checksums of these
    with pytest.raises(InputError, match='observed_from_head.npy: row 2 holds NaN or infinity'):
      dataset.load_subject(tmp_path)


def test_nan_in_loss_or_weights_is_told_with_the_step_and_where_training_goes_on(tmp_path):
  from speech2lip_jax.configs import default
  state = workdir_state.TrainState(np.int32(3), {'net': {'kernel': np.zeros(4, np.float32)}}, {}, {}, {})
  with checkpoint.Checkpoints(tmp_path, writes=True) as kept:
    training = loop.Training(default.get_config(), 'run')
    training._checkpoints = kept
    check = lambda values: training._check_finite(values, 5)
    check({'loss/total': 1.0})
    with pytest.raises(InputError, match='run: loss/lip and 1 more: not a finite number at step 5; .*training then begins again'):
      check({'loss/lip': np.nan, 'loss/total': np.inf})
    kept.save(state, 20.0, 0)
    with pytest.raises(InputError, match='params/net/kernel: .* goes on from the checkpoint of step 3'):
      check(checkpoint.leaves_by_name(state._replace(params={'net': {'kernel': np.array([0, np.nan])}})._asdict()))
  with checkpoint.Checkpoints(tmp_path, keep=2, writes=True) as kept:
    kept.save(state._replace(step=np.int32(4), params={'net': {'kernel': np.full(4, np.inf, np.float32)}}), 30.0, 0)
  with checkpoint.Checkpoints(tmp_path, keep=2) as kept:
    assert kept.restore(3, state).step == 3
    with pytest.raises(InputError, match=r'checkpoints/4: params/net/kernel holds numbers that are not finite; delete this folder'):
      kept.restore(4, state)


def test_a_mouth_without_pixels_has_no_metric():
  picture, mask = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool)
  assert np.isnan(image.psnr(picture, picture, mask)) and np.isnan(image.ssim(picture, picture + np.uint8(1), mask)[1])


@pytest.mark.slow
def test_a_training_that_diverges_stops_in_one_line_and_its_remedy_works(home):
  laboratory = Laboratory(home)
  case, out = CASES['train'], home / 'diverged'
  laboratory.make_inputs([case])
  more = lambda *fields: case._replace(arguments=(*case.arguments, *(f'--config.train.{field}' for field in fields)))
  assert laboratory.run(case, out).code == 0
  failed = laboratory.run(more('num_steps=6', 'learning_rate=1e30'), out)
  assert failed.code == 2 and 'Traceback' not in failed.output
  assert 'not a finite number at step' in failed.output and 'goes on from the checkpoint of step 4' in failed.output
  assert sorted(path.name for path in (out / 'checkpoints').iterdir()) == ['2', '4'] or (out / 'checkpoints' / '4').is_dir()
  assert laboratory.run(more('num_steps=6', 'learning_rate=1e-3'), out).code == 0
