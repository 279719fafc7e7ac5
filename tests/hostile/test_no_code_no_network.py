"""No code runs from a file that a user gives, and nothing goes out to the network while sound, video and faces are read."""
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests import shared
from tests.hostile.makers import clip

LOADERS = textwrap.dedent('''
    import pathlib, sys
    sys.path.insert(0, '.')
    from speech2lip_jax.common import weights
    from speech2lip_jax.common.errors import InputError
    from speech2lip_jax.data import file_features, schema
    from speech2lip_jax.preprocess import stages, tracks
    from speech2lip_jax.released import import_dataset, torch_file

    folder, seen = pathlib.Path(sys.argv[1]), []
    TELLTALE = ('pickle.', 'marshal.', 'exec', 'compile', 'os.system', 'os.exec', 'os.posix_spawn', 'subprocess.', 'socket.connect',
                'socket.getaddrinfo', 'import')
    def hook(event, arguments):
      if is_on and event.startswith(TELLTALE):
        if event not in ('exec', 'compile', 'marshal.loads', 'import') or 'malice' in repr(arguments):
          seen.append((event, repr(arguments)[:200]))
    is_on = False
    sys.addaudithook(hook)
    refused = 0
    readers = {'array.npy': [lambda path: file_features.open_array(path, ''),
                             lambda path: import_dataset._read_array(pathlib.Path(path))],
               'arrays.npz': [lambda path: weights.load_tree(path, ''), lambda path: tracks._opened(path).__enter__(),
                              lambda path: stages.load(pathlib.Path(path))],
               'weights.pth': [torch_file.load_checkpoint, lambda path: torch_file._foreign_name(path)]}
    for name, functions in readers.items():
      for function in functions:
        is_on = True
        try:
          function(str(folder / name))
        except (InputError, ValueError):
          refused += 1
        is_on = False
    print(refused, seen)
''')


class Malice:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f'touch {self.path} # malice',)


def test_nothing_is_unpickled_and_no_code_of_a_file_runs(tmp_path):
  mark = tmp_path / 'it_ran'
  np.save(tmp_path / 'array.npy', np.array([Malice(mark)], dtype=object), allow_pickle=True)
  np.savez(tmp_path / 'arrays.npz', landmarks=np.array([Malice(mark)], dtype=object), fingerprint=np.array([Malice(mark)]))
  (tmp_path / 'weights.pth').write_bytes(pickle.dumps(Malice(mark)))
  done = subprocess.run([sys.executable, '-c', LOADERS, str(tmp_path)], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  refused, seen = done.stdout.split(' ', 1)
  assert int(refused) >= 6 and seen.strip() == '[]'
  assert not mark.exists()
  os.system(Malice(mark).__reduce__()[1][0])
  assert mark.exists(), 'the malice is none'


def test_no_module_unpickles():
  """numpy.load refuses by itself what it is not told to unpickle."""
  for path in (pathlib.Path(__file__).parents[2] / 'speech2lip_jax').rglob('*.py'):
    text = path.read_text()
    assert 'allow_pickle=True' not in text and not re.search(r'^\s*(import|from) (pickle|marshal|shelve|dill)\b', text, re.M), path


OUTSIDE = re.compile(r'(connect|sendto|sendmsg|sendmmsg)\(.*(AF_INET|AF_INET6)|recvfrom\(.*AF_INET')


def traced(command, log):
  """Calls that leave the machine, or look a name up, of a command and all its children."""
  done = subprocess.run(['strace', '-f', '-qq', '-e', 'trace=network', '-o', str(log), *command], capture_output=True,
                        text=True, check=False)
  return done, [line for line in log.read_text(errors='replace').splitlines() if OUTSIDE.search(line)]


LOOK = textwrap.dedent('''
    import sys, time
    sys.path.insert(0, '.')
    import numpy as np
    from speech2lip_jax.preprocess import landmarks
    if sys.argv[2] == 'as it comes':
      landmarks.cut_off_usage_log = lambda: None
    with landmarks.Detector(sys.argv[1]) as detector:
      detector.faces(np.zeros((64, 64, 3), np.uint8))
    time.sleep(2)
''')


@pytest.mark.slow
@pytest.mark.parametrize('given', ['an exception for all hosts', 'nothing'])
def test_the_landmark_detector_asks_for_no_name_and_sends_nothing(tmp_path, monkeypatch, given):
  if not shutil.which('strace'):
    pytest.skip('needs strace: apt install strace')
  model = shared.landmark_model()
  if given != 'nothing':
    monkeypatch.setenv('NO_PROXY', '*')
  done, outside = traced([sys.executable, '-c', LOOK, str(model), 'cut off'], tmp_path / 'log')
  assert done.returncode == 0, done.stderr
  assert outside == []
  _, outside = traced([sys.executable, '-c', LOOK, str(model), 'as it comes'], tmp_path / 'log')
  if not outside:
    pytest.skip('this MediaPipe calls nobody by itself')


SOUND_AND_VIDEO = textwrap.dedent('''
    import sys
    sys.path.insert(0, '.')
    from speech2lip_jax.common.errors import InputError
    from speech2lip_jax.data.utterance import read_utterance
    from speech2lip_jax.preprocess import video
    folder = sys.argv[1]
    info = video.probe(folder + '/a.mp4')
    assert sum(1 for _ in video.read_frames(info)) == 25
    read_utterance(folder + '/a.mp4')
    for name in ('list.m3u8', 'list.mp4', 'a.sdp'):
      try:
        video.probe(f'{folder}/{name}')
        raise AssertionError(name)
      except InputError:
        pass
''')


def test_reading_sound_and_video_opens_no_connection(tmp_path):
  """Also not where a playlist names something in the network."""
  if not shutil.which('strace'):
    pytest.skip('needs strace: apt install strace')
  clip(tmp_path / 'a.mp4')
  playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n'
  (tmp_path / 'list.m3u8').write_text(playlist)
  (tmp_path / 'list.mp4').write_text(playlist)
  (tmp_path / 'a.sdp').write_text('v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n')
  done, outside = traced([sys.executable, '-c', SOUND_AND_VIDEO, str(tmp_path)], tmp_path / 'log')
  assert done.returncode == 0, done.stderr
  assert outside == []
