"""Damage to what this program made is noticed: each kind ends in one clear line, or in the right result; none is a traceback."""
import collections
import dataclasses
import json
import shutil
import time

import jax
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, schema
from speech2lip_jax.sync import expert as sync_expert
from speech2lip_jax.sync import lattice
from speech2lip_jax.workdir import checkpoint
from speech2lip_jax.workdir.state import TrainState
from tests import damaged
from tests.toy_subject import write_toy_subject

SAMPLE = 12  # every so manieth of the damages is tried by default, all with -m slow
SLOWEST_S = 5
OUTCOMES = ('clear line', 'right result', 'traceback', 'silent')


def write_subject(folder, seed=0):
  """A toy subject of format 2, 50 frames of 32 px."""
  write_toy_subject(folder, size=32, clip_frames=(30, 20), seed=seed)
  meta, rng = schema.read_meta(folder), np.random.default_rng(seed)
  source = schema.Source('a.mp4', 64, 48, 0, 25.0, 0.0, 2.0, 1000, 1.0, 'yuv420p', None, None, None, None)
  np.save(folder / 'crop.npy', np.tile(np.float32([8, 0, 48]), (50, 1)))
  np.save(folder / 'source_picture.npy', np.arange(50, dtype=np.int32))
  np.save(folder / 'source_time.npy', np.arange(50) / 25)
  np.save(folder / 'points_head.npy', rng.normal(size=(468, 3)).astype(np.float32))
  np.save(folder / 'landmarks.npy', rng.uniform(0, 32, (50, 478, 2)).astype(np.float32))
  clips = tuple(dataclasses.replace(clip, source_index=0) for clip in meta.clips)
  schema.write_meta(folder, dataclasses.replace(meta, format_version=2, clips=clips, sources=(source,)))
  return folder


def without_checksums(record):
  return {name: value for name, value in record.items() if name not in ('checksum', 'files')}


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  return write_subject(tmp_path_factory.mktemp('damage') / 'subject')


@pytest.fixture(scope='module')
def old_subject(subject, tmp_path_factory):
  """The same from before there were checksums."""
  folder = shutil.copytree(subject, tmp_path_factory.mktemp('damage') / 'old')
  record = json.loads((folder / 'meta.json').read_text())
  (folder / 'meta.json').write_text(json.dumps(without_checksums(record)))
  return folder


def state_of(seed):
  rng = np.random.default_rng(seed)
  weights = lambda: {'dense': {'kernel': rng.normal(size=(40, 30)).astype(np.float32), 'bias': np.zeros(30, np.float32)}}
  return TrainState(np.int32(4 * (seed + 1)), weights(), {'norm': {'mean': np.ones(3, np.float32)}}, (weights(), ()), weights())


@pytest.fixture(scope='module')
def workdir(subject, tmp_path_factory):
  """A workdir with two checkpoints of a small state, and an expert."""
  folder = tmp_path_factory.mktemp('damage') / 'run'
  config = smoke.get_config().unlock()
  config.data.path = str(subject)
  checkpoint.claim_workdir(folder, config)
  with checkpoint.Checkpoints(folder, keep=2) as checkpoints:
    for seed in range(2):
      checkpoints.save(state_of(seed), 30.0 + seed, 0)
  opened = dataset.load_subject(subject)
  size = opened.rgb_lip_canonical.shape[1:3]
  stride = lattice.lattice_stride(size)
  model = sync_expert.Expert(size, stride, 8, 8, None, None, None).model
  params = model.init(jax.random.key(0), np.zeros((1, 5, *lattice.lattice_size(size, stride))), np.zeros((1, 16, 80)))['params']
  made = sync_expert.Expert(size, stride, 8, 8, jax.tree.map(np.asarray, params), np.zeros(size, np.float32), np.float32(1))
  sync_expert.save_expert(folder / 'expert_0', made, {'subject': 'toy', 'seed': 0})
  return folder


def values_of_subject(folder):
  opened = dataset.load_subject(folder)
  arrays = {name: np.array(getattr(opened, name)) for name in schema.array_specs(opened.meta)}
  report = dataclasses.replace(opened.meta, files=None)
  return arrays | {'sound': np.array(opened.sound), 'meta': np.array(repr(report))}


def values_of_workdir(folder):
  config = checkpoint.read_config(folder)
  with checkpoint.Checkpoints(folder) as checkpoints:
    state = checkpoints.restore(checkpoints.best_step(), jax.tree.map(np.zeros_like, state_of(0)))
  return dict(enumerate(map(np.asarray, jax.tree.leaves(state)))) | {'config': np.array(repr(config))}


def values_of_expert(folder, subject):
  opened = sync_expert.open_expert(folder / 'expert_0', dataset.load_subject(subject))
  return dict(enumerate(map(np.asarray, jax.tree.leaves(opened)))) | {'sizes': np.array(repr(opened.lip_size))}


def outcome(values, folder, truth):
  """What becomes of opening a damaged folder: 'clear line', 'right result', 'silent' or the exception."""
  try:
    found = values(folder)
  except InputError as error:
    line = str(error)
    return 'clear line' if len(line.splitlines()) == 1 and str(folder) in line else f'unclear: {line[:200]}'
  except Exception as error:
    return f'traceback: {type(error).__name__}: {error}'[:200]
  same = found.keys() == truth.keys() and all(np.array_equal(found[name], truth[name]) for name in truth)
  return 'right result' if same else 'silent'


def files_of(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def try_all(values, source, damages, tmp_path):
  """Counts of outcomes by kind of damage, the slowest, and those that are not well."""
  truth = values(source)
  copy, counts, bad, slowest = tmp_path / 'copy', collections.defaultdict(collections.Counter), [], 0.0
  for one in damages:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    one.apply(copy)
    started = time.monotonic()
    found = outcome(values, copy, truth)
    slowest = max(slowest, time.monotonic() - started)
    counts[one.kind][found.split(':')[0]] += 1
    if found not in ('clear line', 'right result'):
      bad.append(f'{one.kind}: {one.what}: {found}')
  return counts, bad, slowest


def subject_damages(folder):
  arrays = [name for name in files_of(folder) if name.endswith('.npy')]
  yield from damaged.of_bytes(folder, files_of(folder), seed=0, flips=8)
  yield from damaged.of_arrays(folder, arrays)
  yield from damaged.of_json(folder, 'meta.json')


def old_subject_damages(folder):
  """What can be seen without checksums: another number in range cannot."""
  seen = ('cut short', 'missing', 'a folder in its place', *(f'array: {word}' for word in (
      'a NaN', 'all NaN', 'a infinity', 'all infinity', 'below 0', 'huge', 'one frame less', 'one axis more', 'empty',
      'other byte order', 'columns first', 'float16', 'complex', 'pickled objects', 'odd header')))
  free = {'below 0': ('landmarks.npy', 'points_head.npy', 'mel.npy'),
          'huge': ('points_head.npy', 'source_time.npy', 'depth_canonical.npy', 'crop.npy')}
  arrays = [name for name in files_of(folder) if name.endswith('.npy')]
  for one in [*damaged.of_bytes(folder, files_of(folder), seed=1, flips=0), *damaged.of_arrays(folder, arrays)]:
    if one.kind in seen and one.what not in free.get(one.kind.removeprefix('array: '), ()):
      yield one


def workdir_damages(folder):
  names = [name for name in files_of(folder) if name.split('/')[0] in ('checkpoints', 'config.json')]
  yield from damaged.of_bytes(folder, names, seed=2, flips=4)
  yield from damaged.of_json(folder, 'config.json')
  yield from damaged.of_json(folder, 'checkpoints/8/_CHECKPOINT_METADATA')
  yield from damaged.of_json(folder, 'checkpoints/8/metrics/metrics')


def expert_damages(folder):
  yield from damaged.of_bytes(folder, ['expert_0/expert.json', 'expert_0/weights.npz'], seed=3, flips=40)
  yield from damaged.of_json(folder, 'expert_0/expert.json')


@pytest.fixture
def targets(subject, old_subject, workdir):
  return {'subject': (values_of_subject, subject, subject_damages),
          'old subject': (values_of_subject, old_subject, old_subject_damages),
          'workdir': (values_of_workdir, workdir, workdir_damages),
          'expert': (lambda folder: values_of_expert(folder, subject), workdir, expert_damages)}


TARGETS = ('subject', 'old subject', 'workdir', 'expert')


@pytest.mark.parametrize('target', TARGETS)
def test_a_sample_of_all_damage_is_told_or_does_no_harm(targets, target, tmp_path):
  values, source, damages = targets[target]
  every = {'workdir': 4 * SAMPLE, 'expert': 2 * SAMPLE}.get(target, SAMPLE)
  counts, bad, _ = try_all(values, source, list(damages(source))[target.count('e')::every], tmp_path)
  assert bad == [] and sum(count['clear line'] for count in counts.values()) > 10


@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
def test_all_damage_is_told_or_does_no_harm(targets, target, tmp_path, capsys):
  values, source, damages = targets[target]
  counts, bad, slowest = try_all(values, source, damages(source), tmp_path)
  with capsys.disabled():
    print(f'\n| {target} | tried | clear line | right result | traceback | silent |\n|---|---|---|---|---|---|')
    for kind, count in sorted(counts.items()):
      print('|', ' | '.join([kind, str(count.total()), *(str(count[name]) for name in OUTCOMES)]), '|')
    print(f'slowest {slowest:.1f} s; all {sum(count.total() for count in counts.values())}')
    print('\n'.join(bad[:60]))
  assert bad == [] and slowest < SLOWEST_S
