"""Damage to what this program made is noticed: each kind ends in one clear line, or in the right result; none is a traceback."""
import collections
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech2lip_jax.common import checksums
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, schema
from speech2lip_jax.sync import expert as sync_expert
from speech2lip_jax.sync import lattice
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir.state import TrainState
from tests import damaged
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]
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
  config_file.claim_workdir(folder, config)
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
  config = config_file.read_config(folder)
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


def test_an_array_that_may_be_absent_is_missed_where_it_was_recorded(tmp_path):
  write_toy_subject(tmp_path, size=32, clip_frames=(60, 40))
  (tmp_path / 'is_covered.npy').unlink()
  with pytest.raises(InputError, match='is_covered.npy: missing from the subject folder'):
    dataset.load_subject(tmp_path)
  schema.write_meta(tmp_path, schema.read_meta(tmp_path))
  assert not dataset.load_subject(tmp_path).is_covered.any()


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


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
                    max_leaves=4)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.data())
def test_no_meta_of_any_kind_is_more_than_a_line_even_with_a_checksum_that_fits(old_subject, tmp_path_factory, data):
  record = json.loads((old_subject / 'meta.json').read_text())
  for path in data.draw(st.lists(st.sampled_from(list(damaged.places_in(record))), min_size=1, max_size=2)):
    try:
      record = damaged.replaced(record, path, data.draw(JSON))
    except (TypeError, KeyError, IndexError):
      continue  # what held that place has been replaced
  folder = tmp_path_factory.mktemp('meta')
  (folder / 'meta.json').write_text(json.dumps(checksums.sealed(record)))
  try:
    meta = schema.read_meta(folder)
  except InputError as error:
    assert len(str(error).splitlines()) == 1 and str(folder) in str(error)
  else:
    assert all(isinstance(size, int) for name in schema.array_specs(meta) for size in schema.expected_shape(name, meta))
    assert sum(clip.num_frames for clip in meta.clips) == meta.num_frames and meta.focal_px > 0


HEADERS = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda descr, order, shape: repr({'descr': descr, 'fortran_order': order, 'shape': shape}).encode(),
              st.sampled_from(['<f4', '>f4', 'O', '|V4', '<f8', '<u4', [('a', '<f4')], 'x', 3, None]),
              st.sampled_from([True, False, 0, 'x']),
              st.one_of(st.tuples(st.integers(-2, 10**12), st.integers(-2, 200)), st.integers(), st.just(()), st.just((162, 80)))))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(HEADERS, st.integers(0, 3), st.integers(-1, 200))
def test_no_header_of_an_array_is_more_than_a_line(old_subject, tmp_path_factory, header, version, length):
  folder, meta = tmp_path_factory.mktemp('npy'), schema.read_meta(old_subject)
  true = np.load(old_subject / 'mel.npy')
  size = (len(header) if length < 0 else length).to_bytes(2 if version < 2 else 4, 'little')
  (folder / 'mel.npy').write_bytes(b'\x93NUMPY' + bytes([version, 0]) + size + header + true.tobytes())
  try:
    array = schema.load_array(folder, 'mel', meta)
  except InputError as error:
    assert len(str(error).splitlines()) == 1 and str(folder) in str(error)
  else:
    assert (array.dtype, array.shape) == (np.float32, true.shape)


def test_a_sound_of_another_text_is_told_without_checksums_too(old_subject, tmp_path):
  copy = shutil.copytree(old_subject, tmp_path / 's')
  other = write_toy_subject(tmp_path / 'other', size=32, clip_frames=(30, 20), seed=5)
  shutil.copy(other / 'audio.wav', copy / 'audio.wav')
  with pytest.raises(InputError, match='audio.wav: is not the sound that mel.npy was made of'):
    schema.validate(copy)


def test_values_that_cannot_be_are_told_without_checksums_too(old_subject, tmp_path):
  record = json.loads((old_subject / 'meta.json').read_text())
  for name, value, told in (('focal_px', -48.0, 'focal_px is -48.0'), ('num_frames', 51, 'its clips have 50 frames'),
                            ('canonical_frame', 50, 'canonical_frame is 50'), ('canonical_scale', 0, 'canonical_scale is 0'),
                            ('lip_box', record['lip_box'] | {'left': 30}, 'lies outside of the canonical image')):
    copy = shutil.copytree(old_subject, tmp_path / name)
    (copy / 'meta.json').write_text(json.dumps(record | {name: value}))
    with pytest.raises(InputError, match=told):
      schema.validate(copy)
  for name, change, told in (('observed_from_head', lambda array: array * 1.1, 'the pose of frame 0 is no rotation'),
                             ('observed_from_head', lambda array: array * np.float32([1, 1, -1, 1]), 'the pose of frame 0'),
                             ('depth_canonical', lambda array: array - array.max(), 'a depth is not above 0'),
                             ('mask_face_canonical', lambda array: array * 255, 'must be 0 and 1'),
                             ('mel', lambda array: array * 9, 'must be within')):
    copy = shutil.copytree(old_subject, tmp_path / f'{name}{told[:20]}')
    np.save(copy / f'{name}.npy', change(np.load(copy / f'{name}.npy')))
    with pytest.raises(InputError, match=f'{name}.npy: {told}'):
      schema.validate(copy)


def test_a_flipped_bit_beyond_what_opening_reads_is_found_by_verify(subject, tmp_path, monkeypatch):
  copy = shutil.copytree(subject, tmp_path / 's')
  raw = bytearray((copy / 'frames.npy').read_bytes())
  raw[-1000] ^= 1
  (copy / 'frames.npy').write_bytes(raw)
  monkeypatch.setattr(schema, 'LOOKED_AT', 1000)
  schema.validate(copy)  # as with a subject of minutes, whose frames are gigabytes
  lines, _ = schema.damage(copy)
  assert len(lines) == 1 and 'frames.npy: damaged' in lines[0]


def verify(*arguments):
  return subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'verify', *map(str, arguments)], cwd=ROOT, capture_output=True,
                        text=True)


def test_verify_tells_what_is_whole_and_what_is_damaged_by_its_exit_status(subject, old_subject, workdir, tmp_path):
  whole = verify(workdir, old_subject)
  assert whole.returncode == 0, whole.stdout + whole.stderr
  lines = whole.stdout.splitlines()
  assert [line.split(': ')[1] for line in lines] == ['workdir whole', 'subject whole', 'expert whole', 'subject whole']
  assert 'checkpoints of step 4, 8' in lines[0] and 'no checksums recorded' in lines[3]
  copy, run = shutil.copytree(old_subject, tmp_path / 's'), shutil.copytree(workdir, tmp_path / 'run')
  assert 'no checksums' not in verify('--record', copy).stdout
  for path in (copy / 'mel.npy', max((run / 'checkpoints/4/default').rglob('d/*'), key=lambda path: path.stat().st_size),
               run / 'expert_0/weights.npz'):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
  damaged_ones = verify(copy, run)
  assert damaged_ones.returncode == 1 and damaged_ones.stderr == ''
  told = [line for line in damaged_ones.stdout.splitlines() if 'line(s) above' not in line and ' whole: ' not in line]
  assert len(told) == 3 and 'mel.npy' in told[0] and 'checkpoints/4' in told[1] and 'weights.npz' in told[2], damaged_ones.stdout
  assert verify(tmp_path / 'nothing').returncode == 2 and verify().returncode == 2
