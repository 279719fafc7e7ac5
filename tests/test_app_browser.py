"""The app as somebody uses it, in a headless Chromium: upload, prepare, train, kill the server, go on, say, watch, report.

SPEECH2LIP_SCREENSHOTS names a folder that pictures of each state are kept in.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from scipy.io import wavfile

from speech2lip_jax.synthetic import speech
from speech2lip_jax.synthetic.subject import make_clip
from tests import shared

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPE = '''
from speech2lip_jax.configs import smoke

def get_config():
  config = smoke.get_config().unlock()
  config.train.update(num_steps=160, eval_every=20, log_every=5, blend_start_step=150)
  config.perceptual.start_step = 145
  return config.lock()
'''


@pytest.fixture
def browser():
  sync_api = pytest.importorskip('playwright.sync_api', reason='drives the browser: pip install playwright')
  program = shutil.which('chromium') or shutil.which('google-chrome')
  if not program:
    pytest.skip('needs a browser: apt install chromium')
  with sync_api.sync_playwright() as playwright:
    running = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
    yield running
    running.close()


def free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


@contextlib.contextmanager
def server(folder, port, *flags):
  command = [sys.executable, '-m', 'speech2lip_jax', 'app', f'--folder={folder}', f'--port={port}', '--size=96', *flags]
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  try:
    assert str(port) in process.stdout.readline()
    yield process
  finally:
    process.send_signal(signal.SIGINT)
    process.wait(90)


class Visitor:
  """A browser's page, which notes every request to another machine."""

  def __init__(self, browser, port):
    self.page, self._port, self.elsewhere, self.errors = browser.new_page(viewport={'width': 1200, 'height': 900}), port, [], []
    self.page.on('request', self._note)
    self.page.on('pageerror', lambda error: self.errors.append(str(error)))

  def _note(self, request):
    if not request.url.startswith((f'http://127.0.0.1:{self._port}/', 'data:', 'blob:')):
      self.elsewhere.append(request.url)

  def open(self):
    self.page.goto(f'http://127.0.0.1:{self._port}/')
    self.page.locator('#work').wait_for()

  def tab(self, name):
    self.page.get_by_role('tab', name=name).click()

  def wait(self, place, text, seconds=300):
    self.page.locator(place).get_by_text(text).first.wait_for(timeout=1000 * seconds)

  def shoot(self, name):
    if folder := os.environ.get('SPEECH2LIP_SCREENSHOTS'):
      self.page.wait_for_timeout(700)
      self.page.screenshot(path=os.path.join(folder, f'{name}.png'), full_page=True)


def checkpoints(folder):
  found = folder / 'people' / 'anna' / 'run' / 'checkpoints'
  return max((int(path.name) for path in found.glob('[0-9]*') if path.name.isdigit()), default=0) if found.is_dir() else 0


def logged_steps(folder):
  lines = (folder / 'people' / 'anna' / 'run' / 'log.jsonl').read_text().splitlines()
  return [json.loads(line)['step'] for line in lines]


def test_a_visitor_trains_a_person_and_hears_them(browser, tmp_path):
  shared.landmark_model()
  video, sound, recipe, folder, port = (tmp_path / 'talk.mp4', tmp_path / 'speech.wav', tmp_path / 'recipe.py', tmp_path / 'app',
                                        free_port())
  make_clip(video, size=192, seconds=14.0)
  wavfile.write(sound, 16_000, speech.foreign_sound()[:32_000])
  recipe.write_text(RECIPE)
  visitor = Visitor(browser, port)
  with server(folder, port, f'--train_recipe={recipe}') as process:
    visitor.open()
    visitor.shoot('1_empty')
    page = visitor.page
    page.locator('#name textarea, #name input').fill('anna')
    page.locator('#video input[type=file]').set_input_files(str(video))
    page.locator('#video').get_by_text('talk').first.wait_for()
    page.locator('#prepare').click()
    page.get_by_text('Tick that the person has agreed').first.wait_for()
    visitor.shoot('2_no_consent')
    page.locator('#agreed input').check()
    page.locator('#consent textarea').fill('Anna, on 1 May, to this test')
    page.locator('#prepare').click()
    visitor.wait('#work', 'anna: prepare the video', 20)
    visitor.shoot('3_preparing')
    page.locator('#about img').first.wait_for(timeout=300_000)
    assert 'Anna, on 1 May' in (folder / 'people' / 'anna' / 'subject' / 'consent.json').read_text()
    visitor.shoot('4_prepared')
    page.locator('#train').click()
    visitor.wait('#work', 'step', 300)
    deadline = time.monotonic() + 300
    while checkpoints(folder) < 40:
      assert time.monotonic() < deadline
      time.sleep(0.2)
    page.locator('#about img[alt="true frames above ours"]').wait_for(timeout=60_000)
    visitor.shoot('5_training')
    process.send_signal(signal.SIGKILL)
    process.wait()
  reached = checkpoints(folder)
  assert 40 <= reached < 160
  with server(folder, port, f'--train_recipe={recipe}'):
    visitor.open()
    visitor.wait('#about', 'step 160 of 160', 600)
    steps = logged_steps(folder)
    assert sum(step == 5 for step in steps) == 1, 'it did not begin again'
    visitor.shoot('6_trained')
    visitor.tab('Say')
    page = visitor.page
    page.locator('#sound input[type=file]').set_input_files(str(sound))
    page.locator('#sound').get_by_text('speech').first.wait_for()
    page.locator('#preview').click()
    player = page.locator('#said video')
    player.wait_for(timeout=300_000)
    playing = 'video => video.readyState >= 2 && video.videoWidth > 0 && video.duration > 1.5'
    page.wait_for_function(f'() => {{ const video = document.querySelector("#said video"); return video && ({playing})(video); }}')
    assert player.evaluate('async video => { video.muted = true; await video.play(); await new Promise(r => setTimeout(r, 500)); '
                           'return video.currentTime; }') > 0.1
    visitor.shoot('7_said')
    page.locator('#full').click()
    page.wait_for_function('() => (document.querySelector("#said video") || {}).videoWidth == 192', timeout=300_000)
    visitor.shoot('8_full_frame')
    visitor.tab('Report')
    page.locator('#make').click()
    page.locator('#report iframe').wait_for(timeout=600_000)
    page.frame_locator('#report iframe').get_by_text('Numbers').first.wait_for()
    visitor.shoot('9_report')
  assert visitor.elsewhere == [], 'the page asks other machines'
  assert visitor.errors == []
