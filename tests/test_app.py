"""The app without a browser: the API, the queue, who may ask, and that nothing is asked of other machines."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import text as text_module
from tests.test_dubbing_film import write_video
from tests.toy_run import write_toy_run

gradio = pytest.importorskip('gradio', reason='the app needs it: pip install .[app]')
from starlette.testclient import TestClient  # noqa: E402

from speech2lip_jax.app import jobs, page, server, sounds  # noqa: E402
from speech2lip_jax.app.people import People  # noqa: E402
from speech2lip_jax.app.state import State  # noqa: E402

LOCAL = 'http://127.0.0.1:7860'


@pytest.fixture
def no_network(monkeypatch):
  """Connections that were tried to anything but this machine."""
  tried, connect = [], socket.socket.connect

  def watched(self, address):
    if isinstance(address, tuple) and address[0] not in ('127.0.0.1', '::1', 'localhost'):
      tried.append(address)
      raise OSError('no network in this test')
    return connect(self, address)
  monkeypatch.setattr(socket.socket, 'connect', watched)
  monkeypatch.setattr(socket, 'getaddrinfo', lambda *names, **_: tried.append(names) or [])
  return tried


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
  return write_toy_run(tmp_path_factory.mktemp('app'))


def opened(folder, monkeypatch=None, kinds=None):
  """A state; with `kinds`, its jobs are these commands of Python instead of verbs."""
  if monkeypatch:
    monkeypatch.setattr(jobs, 'command_line', lambda job, person, verbs: [sys.executable, '-c', kinds[job.kind], job.value])
  return State.open(folder, jobs.Verbs('smoke.py'), 10**6)


def add_toy(folder, toy, name='anna'):
  """The toy subject's run as a person of the app's folder."""
  person = folder / 'people' / name
  (person / 'said').mkdir(parents=True)
  shutil.copytree(toy.parent / 'toy', person / 'subject')
  shutil.copytree(toy, person / 'run')
  config = json.loads((person / 'run' / 'config.json').read_text())
  assert os.path.isabs(config['data']['path'])  # the subject that it was made with stays where it is


def sound_of(tmp_path, seconds=0.4):
  path = tmp_path / 'speech.wav'
  samples = np.random.default_rng(0).integers(-9000, 9000, round(16_000 * seconds)).astype(np.int16)
  wavfile.write(path, 16_000, samples)
  return path.read_bytes()


def wait_for(condition, seconds=60):
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until, 'waited in vain'
    time.sleep(0.02)


# ---- the API

def test_a_sound_that_is_posted_comes_back_said(toy, tmp_path, no_network):
  add_toy(tmp_path, toy)
  state = opened(tmp_path)
  try:
    with TestClient(server.make_app(state), LOCAL) as client:
      assert client.get('/api/people').json() == [{'name': 'anna', 'state': 'trained', 'steps': 2, 'num_steps': 2, 'said': []}]
      answer = client.post('/api/people/anna/say', content=sound_of(tmp_path))
      assert answer.status_code == 200, answer.text
      assert answer.headers['content-type'] == 'video/mp4'
      (tmp_path / 'said.mp4').write_bytes(answer.content)
      with av.open(str(tmp_path / 'said.mp4')) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
      name, = client.get('/api/people').json()[0]['said']
      whole, part = client.get(f'/files/anna/{name}.mp4'), client.get(f'/files/anna/{name}.mp4', headers={'Range': 'bytes=0-99'})
      assert whole.content == answer.content and part.status_code == 206 and len(part.content) == 100
      shown = client.get('/')
      assert shown.status_code == 200 and 'speech2lip' in shown.text
      assert "default-src 'self'" in shown.headers['content-security-policy']
      for theirs in ('fonts.googleapis', 'cdnjs', 'api.gradio.app'):
        assert theirs not in shown.text
  finally:
    state.queue.close()
  assert no_network == []


@pytest.fixture
def client(tmp_path, monkeypatch):
  """A client of a server whose jobs write down a word or wait."""
  commands = {'say': 'print("speech2lip render: error: out of luck"); raise SystemExit(2)',
              'train': 'import time; time.sleep(60)', 'prepare': 'pass', 'dub': 'pass', 'report': 'pass'}
  state = opened(tmp_path, monkeypatch, commands)
  person = state.people.add('anna', _empty_video(tmp_path))
  _pretend_trained(person)
  with TestClient(server.make_app(state), LOCAL) as client:
    client.state = state
    yield client
  state.queue.close()


def _empty_video(folder):
  (folder / 'talk.mp4').write_bytes(b'x')
  return folder / 'talk.mp4'


def _pretend_trained(person):
  (person.run / 'checkpoints' / '2').mkdir(parents=True)
  (person.run / 'config.json').write_text('{"train": {"num_steps": 2}}')
  person.subject.mkdir()
  (person.subject / 'meta.json').write_text('{"report": {"warnings": ["it is dark"]}}')


def test_what_is_wrong_is_answered_in_a_line(client, tmp_path):
  sound = sound_of(tmp_path)
  failed = client.post('/api/people/anna/say', content=sound)
  assert failed.status_code == 400 and failed.json() == {'error': 'out of luck'}
  unknown = client.post('/api/people/bob/say', content=sound)
  assert unknown.status_code == 404 and "nobody called 'bob'" in unknown.json()['error']
  for body in (b'', b'no sound', b'#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n', b'ffconcat version 1.0\nfile /etc/passwd\n'):
    answer = client.post('/api/people/anna/say', content=body)
    assert answer.status_code == 400 and 'error' in answer.json()
  assert client.post('/api/people/anna/say', content=bytes(10**6 + 1)).status_code == 413
  assert client.post('/api/people/anna/say', content=iter([bytes(10**6), b'x'])).status_code == 413
  assert not list((tmp_path / 'people' / 'anna' / 'said').glob('*.mp4'))


@pytest.mark.parametrize('name', ['..', '%2e%2e', '..%2fjobs', 'anna%2f..', '.', 'a b', 'ä', 'anna%00'])
def test_names_from_outside_stay_inside_the_folder(client, tmp_path, name):
  assert client.post(f'/api/people/{name}/say', content=sound_of(tmp_path)).status_code in (404, 405)
  assert client.get(f'/files/{name}/report.html').status_code == 404
  for what in ('..%2f..%2fjobs', 'meta.json', '..', 'video.mp4', '20260101-000000-00000x.mp4'):
    assert client.get(f'/files/anna/{what}').status_code == 404


def test_a_long_job_is_told_and_can_be_cancelled(client, tmp_path):
  job = client.state.queue.add('train', client.state.people.find('anna'))
  wait_for(lambda: job.state == jobs.RUNNING)
  busy = client.post('/api/people/anna/say', content=sound_of(tmp_path))
  assert busy.status_code == 503 and busy.json()['error'] == 'busy: anna: train' and busy.headers['retry-after'] == '60'
  with pytest.raises(InputError, match='already in the queue'):
    client.state.queue.add('train', client.state.people.find('anna'))
  pid = job.pid
  assert client.delete(f'/api/jobs/{job.id}').json()['state'] == 'cancelled'
  wait_for(lambda: not _is_running(pid))
  assert client.get('/api/jobs').json()[-1]['state'] == 'cancelled'
  assert client.delete('/api/jobs/none').status_code == 400


def _is_running(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def test_only_this_machines_own_pages_may_ask(client):
  get = lambda **headers: client.get('/api/people', headers=headers).status_code
  assert get() == 200 and get(origin=LOCAL) == 200
  assert get(host='evil.example') == 403 and get(origin='http://evil.example') == 403 and get(origin='null') == 403


def test_a_shared_server_asks_for_its_password(client):
  with TestClient(server.make_app(client.state, 'sesame'), 'http://studio.lan:7860') as shared:
    for path in ('/', '/api/people', '/files/anna/report.html', '/gradio_api/info'):
      assert shared.get(path).status_code == 401
      assert shared.get(path, auth=('speech2lip', 'wrong')).status_code == 401
    assert shared.get('/api/people', auth=('speech2lip', 'sesame')).status_code == 200


def test_a_text_is_never_taken_for_a_file(client, tmp_path, monkeypatch):
  heard = []

  class Speaker:
    def speak(self, text, speed=1.0):
      heard.append(text)
      return np.zeros(1600, np.int16), 16_000
  monkeypatch.setattr(sounds, 'find_synthesiser', lambda voice: Speaker())
  monkeypatch.setattr(text_module, 'speak', None)
  secret = tmp_path / 'secret.txt'
  secret.write_text('the secret')
  client.post('/api/people/anna/say', content=str(secret), headers={'content-type': 'text/plain'})
  assert heard == [str(secret)]
  none = client.post('/api/people/anna/say', content='…', headers={'content-type': 'text/plain'})
  assert none.status_code == 400 and 'no words' in none.json()['error']


# ---- people and the queue

def test_nobody_is_added_without_consent_or_under_a_name_that_leads_elsewhere(tmp_path, monkeypatch):
  state = opened(tmp_path, monkeypatch, {'prepare': 'pass'})
  video = write_video(tmp_path / 'talk.mp4')
  try:
    for name, file, is_agreed, statement, told in (
        ('anna', video, False, 'she, today', 'has agreed'), ('anna', video, True, ' ', 'has agreed'),
        ('anna', None, True, 'x', 'Drop'),
        ('../anna', video, True, 'x', 'letters'), ('', video, True, 'x', 'letters'), ('a/b', video, True, 'x', 'letters')):
      with pytest.raises(InputError, match=told):
        page._add(state, name, file, is_agreed, statement)
    assert list(state.people) == []
    page._add(state, 'anna', video, True, 'Anna, on 1 May, to a test')
    job, = state.queue.all()
    command = jobs.Verbs('r.py', 96).command(job, state.people.find('anna'))
    assert command[0] == 'preprocess' and '--consent=Anna, on 1 May, to a test' in command and '--size=96' in command
    with pytest.raises(InputError, match='here already'):
      page._add(state, 'anna', write_video(tmp_path / 'talk.mp4'), True, 'x')
  finally:
    state.queue.close()


def test_what_a_stopped_server_left_is_done_by_the_next(tmp_path, monkeypatch):
  done = tmp_path / 'done.txt'
  commands = {'train': f'import time; time.sleep(60 if not open({str(done)!r}, "a").tell() else 0)',
              'say': f'open({str(done)!r}, "a").write("said")'}
  state = opened(tmp_path, monkeypatch, commands)
  person = state.people.add('anna', _empty_video(tmp_path))
  _pretend_trained(person)
  train, say = state.queue.add('train', person), state.queue.add('say', person, 'x')
  wait_for(lambda: train.state == jobs.RUNNING and done.exists())
  state.queue.close()
  records = [json.loads(path.read_text())['state'] for path in sorted((tmp_path / 'jobs').glob('*.json'))]
  assert records == ['running', 'queued']
  done.write_text('begun;')
  state = opened(tmp_path, monkeypatch, commands)
  wait_for(lambda: not state.queue.open())
  assert [(job.id, job.state) for job in state.queue.all()] == [(train.id, 'done'), (say.id, 'done')]
  assert done.read_text() == 'begun;said'
  state.queue.close()


def test_a_verb_is_asked_to_stop_when_its_server_is_killed(tmp_path):
  verb = ('import sys, time; from speech2lip_jax import cli; from speech2lip_jax.app import child; '
          'cli.main = lambda: (print(1, flush=True), time.sleep(60)); child.main()')
  server_code = ('import subprocess, sys, os; '
                 'child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE); '
                 'child.stdout.read(1); print(child.pid, flush=True); child.wait()')
  parent = subprocess.Popen([sys.executable, '-c', server_code, verb], stdout=subprocess.PIPE, text=True)
  pid = int(parent.stdout.readline())
  assert _is_running(pid)
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  wait_for(lambda: not os.path.exists(f'/proc/{pid}') or 'Z' in open(f'/proc/{pid}/stat').read().split()[2], 10)


def test_the_page_shows_what_there_is(tmp_path, monkeypatch):
  state = opened(tmp_path, monkeypatch, {'say': 'pass'})
  try:
    assert 'Nobody is here' in ''.join(page._views(state, None))
    person = state.people.add('anna', _empty_video(tmp_path))
    assert 'not prepared' in page._about(state, person)
    _pretend_trained(person)
    (person.run / 'samples').mkdir()
    (person.run / 'samples' / 'test_000002.png').write_bytes(b'')
    (person.subject / 'contact_sheet.png').write_bytes(b'')
    (person.said / '20260101-000000-000000.mp4').write_bytes(b'')
    (person.said / 'x.mp4').write_bytes(b'')
    about, said = page._about(state, person), page._said(person)
    assert 'it is dark' in about and 'contact_sheet.png' in about and 'sample.png' in about and 'step 2 of 2' in about
    assert said.count('20260101-000000-000000.mp4') == 3 and '/x.mp4' not in said
  finally:
    state.queue.close()


def test_a_log_that_is_being_written_is_read(tmp_path):
  people = People(tmp_path)
  person = people.add('anna', _empty_video(tmp_path))
  person.run.mkdir()
  (person.run / 'log.jsonl').write_text('{"step": 1}\n{"st')
  assert person.log() == [{'step': 1}] and person.state() == 'new'
