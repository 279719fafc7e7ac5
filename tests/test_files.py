"""Files that appear whole or not at all, and folders that one process at a time writes."""
import os
import subprocess
import sys

import pytest

from speech2lip_jax.common import files
from speech2lip_jax.common.errors import InputError


def test_a_file_appears_when_it_is_whole_and_a_failed_one_leaves_the_old(tmp_path):
  path = tmp_path / 'a.txt'
  files.write_text(path, 'Größe')
  assert path.read_bytes() == 'Größe'.encode()
  with pytest.raises(KeyboardInterrupt), files.open_atomic(path) as file:
    file.write(b'half')
    assert path.read_bytes() == 'Größe'.encode()
    raise KeyboardInterrupt
  assert path.read_bytes() == 'Größe'.encode() and list(tmp_path.iterdir()) == [path]
  with pytest.raises(FileNotFoundError):
    files.write_text(tmp_path / 'none' / 'a.txt', '')


def test_a_new_file_can_be_read_by_those_who_may_read_any_other(tmp_path):
  (tmp_path / 'plain').write_text('')
  files.write_text(tmp_path / 'a', '')
  assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_a_held_folder_is_refused_with_its_holder_and_free_when_that_dies(tmp_path):
  program = f'''
import pathlib, time
from speech2lip_jax.common import files
with files.lock(pathlib.Path({str(tmp_path)!r}), 'training'):
  print('held', flush=True)
  time.sleep(60)
'''
  holder = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
  try:
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(InputError, match=rf'training \(process {holder.pid} on .*\) is at work there') as error:
      with files.lock(tmp_path, 'training'):
        pass
    assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)
  finally:
    holder.kill()
    holder.wait()
  with files.lock(tmp_path, 'training'):
    assert f'{os.getpid()}' in (tmp_path / '.lock.holder').read_text()
    with pytest.raises(InputError, match=f'process {os.getpid()} on'), files.lock(tmp_path, 'training'):
      pass
  assert [path.name for path in tmp_path.iterdir()] == ['.lock']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(InputError, match='cannot be locked for training'), files.lock(tmp_path, 'training'):
    pass
