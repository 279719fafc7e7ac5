"""What becomes of two processes that train together when something happens to one of them: seconds, exit statuses, last words.

    python benchmarks/pod_faults.py            # prints the table of docs/scaling.md
    python benchmarks/pod_faults.py --only 'a full disk' --folder /tmp/faults

Needs no accelerator and a few minutes. A full disk is a small tmpfs, which only root may mount; without that the row says so.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LIMIT_S = 120.0
QUICK = ('--config.depth.num_frames=0', '--config.linear.share=0.0', '--config.linear.amplitude=0.0',
         '--config.data.num_val_frames=8', '--config.loss.lip_perceptual_weight=0.0', '--config.train.num_steps=100000',
         '--config.train.blend_start_step=100000')


class Two:
  """Two processes of `train --distributed`, and what they print."""

  def __init__(self, subject: pathlib.Path, workdir: pathlib.Path, which: tuple[int, ...] = (0, 1), eval_every: int = 100000,
               paths: dict[int, pathlib.Path] | None = None):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      address = f'127.0.0.1:{free.getsockname()[1]}'
    self.workdir, self.logs = workdir, {}
    self.processes: dict[int, subprocess.Popen] = {}
    for i in which:
      command = [sys.executable, '-m', 'speech2lip_jax.train', '--config=configs/smoke.py', f'--workdir={workdir}', *QUICK,
                 f'--config.train.eval_every={eval_every}', f'--config.data.path={(paths or {}).get(i, subject)}', '--distributed',
                 f'--coordinator_address={address}', '--num_processes=2', f'--process_id={i}']
      self.logs[i] = subject.parent / f'{workdir.parent.name}.{workdir.name}.{i}.log'
      self.processes[i] = subprocess.Popen(command, cwd=ROOT, stdout=self.logs[i].open('w'), stderr=subprocess.STDOUT)

  def wait_for(self, condition: Callable[[], bool]) -> None:
    """Returns when it holds."""
    while not condition():
      if any(process.poll() is not None for process in self.processes.values()):
        raise RuntimeError(f'ended too early: {[log.read_text() for log in self.logs.values()]}')
      time.sleep(0.002)

  def step(self) -> int:
    """The last step in the log."""
    path = self.workdir / 'log.jsonl'
    lines = path.read_text().splitlines() if path.is_file() else []
    with contextlib.suppress(ValueError, IndexError):
      return json.loads(lines[-1])['step']
    return 0

  def has_printed(self, words: str) -> bool:
    """Whether process 0 has."""
    return words in self.logs[0].read_text()

  def is_saving(self) -> bool:
    """Whether a checkpoint is being written."""
    return any((self.workdir / 'checkpoints').glob('*tmp*'))

  def outcome(self, since: float, of: tuple[int, ...]) -> str:
    """A table's cells of some processes: seconds until they end, exit status, last line."""
    cells = []
    ended: dict[int, float] = {}
    while len(ended) < len(of) and time.monotonic() - since < LIMIT_S:
      for i in of:
        if i not in ended and self.processes[i].poll() is not None:
          ended[i] = time.monotonic() - since
      time.sleep(0.02)
    for i in of:
      code = self.processes[i].poll()
      words = self.logs[i].read_text().strip().splitlines()[-1:] or ['']
      cells.append(f'process {i}: {f"{ended[i]:.1f} s, status {code}" if i in ended else "goes on"} | `{words[0][:230]}`')
    for process in self.processes.values():
      process.kill()
      process.wait()
    return '<br>'.join(cell.split(' | ')[0] for cell in cells) + ' | ' + '<br>'.join(cell.split(' | ', 1)[1] for cell in cells)


def killed(subject: pathlib.Path, workdir: pathlib.Path, victim: int, when: str) -> str:
  """Kills a process in the loop, in evaluation or in saving."""
  two = Two(subject, workdir, eval_every=100000 if when == 'loop' else 5)
  two.wait_for({'loop': lambda: two.step() >= 5, 'evaluation': lambda: two.has_printed('first validation'),
                'saving': two.is_saving}[when])
  two.processes[victim].send_signal(signal.SIGKILL)
  return two.outcome(time.monotonic(), (1 - victim,))


def asked_to_stop(subject: pathlib.Path, workdir: pathlib.Path) -> str:
  """SIGTERM to one of two."""
  two = Two(subject, workdir)
  two.wait_for(lambda: two.step() >= 5)
  two.processes[1].send_signal(signal.SIGTERM)
  return two.outcome(time.monotonic(), (0, 1))


def alone(subject: pathlib.Path, workdir: pathlib.Path, which: int) -> str:
  """Only one of the two is started."""
  return Two(subject, workdir, (which,)).outcome(time.monotonic(), (which,))


def bad_path(subject: pathlib.Path, workdir: pathlib.Path) -> str:
  """One is given a subject that is not there."""
  return Two(subject, workdir, paths={1: subject / 'gone'}).outcome(time.monotonic(), (0, 1))


def full_disk(subject: pathlib.Path, workdir: pathlib.Path) -> str:
  """The disk of the workdir, which process 0 writes, is full at the first checkpoint."""
  with small_disk(workdir):
    two = Two(subject, workdir / 'run', eval_every=5)
    two.wait_for(lambda: two.has_printed('step 5:'))
    return two.outcome(time.monotonic(), (0, 1))


@contextlib.contextmanager
def small_disk(folder: pathlib.Path) -> Iterator[None]:
  """A disk of one MB at `folder`."""
  folder.mkdir(parents=True)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', str(folder)], check=True, capture_output=True)
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=False)


FAULTS: dict[str, Callable[[pathlib.Path, pathlib.Path], str]] = {
    'process 1 killed in the loop': lambda *where: killed(*where, 1, 'loop'),
    'process 0 killed in the loop': lambda *where: killed(*where, 0, 'loop'),
    'process 1 killed in evaluation': lambda *where: killed(*where, 1, 'evaluation'),
    'process 1 killed while a checkpoint is written': lambda *where: killed(*where, 1, 'saving'),
    'process 0 killed while a checkpoint is written': lambda *where: killed(*where, 0, 'saving'),
    'process 0, the coordinator, never starts': lambda *where: alone(*where, 1),
    'process 1 never starts': lambda *where: alone(*where, 0),
    'a wrong path in process 1': bad_path,
    'a full disk in process 0': full_disk,
    'SIGTERM to process 1': asked_to_stop}


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', default='', help='faults whose names hold this')
  parser.add_argument('--folder', default=None, help='for runs and logs; a temporary one if not given')
  arguments = parser.parse_args()
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')  # to begin sooner
  from tests.toy_subject import write_toy_subject
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(arguments.folder or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    subject = write_toy_subject(folder / 'toy')
    print('| what happens | what ends, seconds later | last words |\n|---|---|---|', flush=True)
    for number, (name, fault) in enumerate(FAULTS.items()):
      if arguments.only in name:
        try:
          cells = fault(subject, folder / f'run{number}')
        except subprocess.CalledProcessError as error:
          cells = f'not tried | {error.stderr.decode().strip()}'
        print(f'| {name} | {cells} |', flush=True)


if __name__ == '__main__':
  main()
