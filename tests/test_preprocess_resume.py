"""A run of preprocess that fails or is killed: the finished subject stays, and the same command goes on."""
import concurrent.futures
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from speech2lip_jax.common import files
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import contact, follow, landmarks, parallel, photometric, pipeline
from tests.test_preprocess_tracks import head_track, save
from tests.test_preprocess_video import silence, write_video

NUM_PICTURES = 26


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A video of a rendered head and its tracks."""
  folder = tmp_path_factory.mktemp('source')
  points, images = head_track(NUM_PICTURES, 96)
  video = write_video(folder / 'a.mp4', np.arange(NUM_PICTURES) / 25, images=images, sound=silence(NUM_PICTURES / 25) + 0.01)
  return video, save(folder / 'a.npz', points)


def simplify(patch):
  """preprocess in this process alone, so that a test can stop it anywhere; without the parts that only take time."""
  patch.setattr(parallel, 'make_pool', lambda: concurrent.futures.ThreadPoolExecutor(1))
  patch.setattr(follow, 'refit', lambda *arguments: None)
  patch.setattr(photometric, 'refine', lambda track, *arguments: track)
  patch.setattr(contact, 'write', lambda out, meta: files.write_text(out / 'contact_sheet.png', f'{meta.width}'))


@pytest.fixture
def run(source, monkeypatch):
  """preprocess of that video into a folder."""
  simplify(monkeypatch)
  return lambda out, size=64: pipeline.preprocess([source[0]], out, size, tracks=[source[1]])


@pytest.fixture(scope='module')
def finished(source, tmp_path_factory):
  """The subject of an undisturbed run; not to be written."""
  out = tmp_path_factory.mktemp('finished') / 'o'
  with pytest.MonkeyPatch.context() as patch:
    simplify(patch)
    pipeline.preprocess([source[0]], out, 64, tracks=[source[1]])
  return out


def contents(out):
  """What a subject holds, but for the time that making it took."""
  meta = json.loads((out / 'meta.json').read_text())
  for name in ('seconds', 'seconds_per_frame'):
    del meta['report'][name]
  del meta['checksum']  # of those times too
  return {path.name: path.read_bytes() for path in sorted(out.iterdir())
          if path.suffix in ('.npy', '.wav', '.png')} | {'meta.json': meta}


def test_a_run_that_fails_leaves_the_finished_subject_as_it_was(finished, run, tmp_path, monkeypatch):
  out = shutil.copytree(finished, tmp_path / 'o')
  before = contents(out)
  assert len(before) == len(schema.ARRAYS | schema.SOURCE_ARRAYS) + 3

  def fail(*arguments):
    raise RuntimeError('stopped')

  with monkeypatch.context() as patch:
    patch.setattr(photometric, 'refine', fail)
    with pytest.raises(RuntimeError, match='stopped'):
      run(out, size=72)
  assert contents(out) == before and schema.validate(out).width == 64

  with files.lock(out, 'preprocess'), pytest.raises(InputError, match=f'preprocess .process {os.getpid()} on '):
    run(out, size=72)
  assert contents(out) == before and schema.validate(out).width == 64

  plain = write_video(tmp_path / 'plain.mp4', np.arange(20) / 25, sound=silence(0.8))
  model = tmp_path / 'model'
  model.write_bytes(b'')
  monkeypatch.setattr(landmarks, 'find_model', lambda flag: str(model))
  monkeypatch.setattr(landmarks, 'count_probe_faces', lambda *arguments: 0)
  with pytest.raises(InputError, match='plain.mp4: no face found'):
    pipeline.preprocess([plain], out, 64)
  assert contents(out) == before and schema.validate(out).width == 64
  with pytest.raises(InputError, match='plain.mp4: no face found'):
    pipeline.preprocess([plain], tmp_path / 'new', 64)
  assert not (tmp_path / 'new').exists()

  run(out, size=72)
  assert schema.validate(out).width == 72 and [path.name for path in (out / 'stages').iterdir()] == ['landmarks']


class Killer:
  """Stops the run before or after its n-th rename or removal; counts them."""

  def __init__(self, monkeypatch, stop_at, after):
    self.count, self._stop_at, self._after = 0, stop_at, after
    for owner, name in ((os, 'replace'), (pathlib.Path, 'unlink'), (shutil, 'rmtree')):
      monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name)))

  def _wrap(self, function):

    def counted(*arguments, **options):
      self.count += 1
      if self.count == self._stop_at and not self._after:
        raise KeyboardInterrupt
      result = function(*arguments, **options)
      if self.count == self._stop_at:
        raise KeyboardInterrupt
      return result

    return counted


def kill(run, out, monkeypatch, stop_at, after, size=64):
  """Whether the run was stopped at that write."""
  with monkeypatch.context() as patch:
    Killer(patch, stop_at, after)
    try:
      run(out, size)
    except KeyboardInterrupt:
      return True
  return False


@pytest.mark.parametrize('after', [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(finished, run, tmp_path, monkeypatch, after):
  out, stop_at = tmp_path / 'o', 1
  while kill(run, out, monkeypatch, stop_at, after):
    assert not (out / 'meta.json').is_file() or contents(out) == contents(finished)
    stop_at += 1
  assert stop_at > 10  # each kill comes a write later; what is done is not done again
  run(out)
  assert contents(out) == contents(finished)


@pytest.mark.slow
@pytest.mark.parametrize('after', [False, True])
def test_a_replacement_killed_at_any_write_leaves_the_old_subject_or_none_or_the_new(finished, run, tmp_path, monkeypatch, after):
  made = tmp_path / 'made'
  run(made, size=72)
  old, new = contents(finished), contents(made)
  stop_at, seen = 1, set()
  while True:
    out = shutil.copytree(finished, tmp_path / f'{stop_at}')
    if not kill(run, out, monkeypatch, stop_at, after, size=72):
      break
    if (out / 'meta.json').is_file():
      now = contents(out)
      assert now in (old, new)
      seen.add('old' if now == old else 'new')
    else:
      seen.add('none')
    run(out, size=72)
    assert contents(out) == new
    shutil.rmtree(out)
    stop_at += 1
  assert seen == {'old', 'none', 'new'} and stop_at > 20


def test_a_replacement_stopped_half_way_is_finished_by_another_command_too(finished, run, tmp_path, monkeypatch):
  out = shutil.copytree(finished, tmp_path / 'o')
  with monkeypatch.context() as patch:
    patch.setattr(pipeline, '_replace_subject', lambda out: None)
    run(out, size=72)
  with monkeypatch.context() as patch:
    Killer(patch, 8, after=True)
    with pytest.raises(KeyboardInterrupt):
      pipeline._replace_subject(out)
  assert not (out / 'meta.json').is_file()
  with monkeypatch.context() as patch, pytest.raises(RuntimeError):
    patch.setattr(pipeline._Work, 'run', lambda *arguments: (_ for _ in ()).throw(RuntimeError))
    run(out, size=80)
  assert schema.validate(out).width == 72


def test_work_on_another_size_is_not_taken_for_ones_own(run, finished, tmp_path, monkeypatch):
  out = tmp_path / 'o'
  for size in (64, 72, 64, 72):  # each stopped while it writes or after it has written its frames
    assert kill(run, out, monkeypatch, 5, True, size)
  run(out)
  assert contents(out) == contents(finished)
