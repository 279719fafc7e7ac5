"""The subject folder, its split, mel windows and batches."""
import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import dataset, input_pipeline, schema
from speech2lip_jax.ops import boxes
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('data') / 'toy', size=32, clip_frames=(8,) * 13)


def data_config(**changes):
  base = {'split': 'auto', 'test_every': 6, 'test_fraction': 0.1, 'val_fraction': 0.1, 'val_blocks': 1, 'max_train_seconds': 0.0}
  return ConfigDict(base | changes)


def test_split_by_clip_takes_every_sixth_clip_whole_and_leaves_no_frame_out(folder):
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, data_config())
  assert set(subject.clip_of_frames(split.test)) == {5, 11}
  assert len(split.test) == 16
  assert set(subject.clip_of_frames(split.val)).isdisjoint(subject.clip_of_frames(split.train))
  np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(subject.meta.num_frames))


def test_split_by_time_takes_the_tail(folder):
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, data_config(split='tail'))
  assert split.test[-1] == subject.meta.num_frames - 1
  assert split.train[-1] < split.val[0] <= split.val[-1] < split.test[0]
  assert len(split.test) == round(0.1 * subject.meta.num_frames)


def test_mel_window_is_centred_on_its_frame():
  mel = np.tile(np.arange(400, dtype=np.float32)[:, None], (1, 80))
  windows = dataset.mel_windows(mel, np.array([50]), 16)
  assert abs(windows[0].mean() / 80 - 50.5 / 25) < 0.5 / 80


def test_mel_windows_read_silence_beyond_their_clip(folder):
  subject = dataset.load_subject(folder)
  clip = subject.meta.clips[3]
  first, last = dataset.subject_mel_windows(subject, np.array([clip.start, clip.start + clip.num_frames - 1]), 32)
  assert (first[0] == dataset.SILENCE_MEL).all() and (last[-1] == dataset.SILENCE_MEL).all()
  inside = subject.mel[clip.mel_start:clip.mel_start + clip.num_mel]
  assert all((row == dataset.SILENCE_MEL).all() or (row == inside).all(-1).any() for row in np.concatenate([first, last]))


def test_every_pass_shows_each_frame_once():
  ids = np.arange(100, 120)
  steps = [input_pipeline.frame_ids_of_step(ids, 0, step, 8) for step in range(5)]
  np.testing.assert_array_equal(np.sort(np.concatenate(steps)), np.repeat(ids, 2))
  again = input_pipeline.frame_ids_of_step(ids, 0, 3, 8)
  np.testing.assert_array_equal(again, steps[3])


def test_processes_share_one_global_batch(folder):
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, data_config())
  make = lambda process, count: input_pipeline.TrainBatches(
      subject, split.train, seed=1, batch_size=16, blend_every=4, process=process,
      num_processes=count).batch(7, with_frames=True)
  whole, halves = make(0, 1), [make(0, 2), make(1, 2)]
  for name in ('sample_id', 'frame_id'):
    np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(half, name) for half in halves]))
  np.testing.assert_array_equal(whole.frames.rgb_face_observed,
                                np.concatenate([half.frames.rgb_face_observed for half in halves]))


def test_prefetch_keeps_order_and_raises_what_its_thread_raised():
  assert list(input_pipeline.prefetch(lambda i: i * i, range(5), 2)) == [0, 1, 4, 9, 16]

  def broken(i):
    raise OSError(f'frame {i}')
  with pytest.raises(OSError, match='frame 0'):
    list(input_pipeline.prefetch(broken, range(3), 2))


def damaged(folder, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  return copy


def test_a_missing_file_is_named(folder, tmp_path):
  copy = damaged(folder, tmp_path)
  (copy / 'mel.npy').unlink()
  with pytest.raises(InputError, match='mel.npy: missing'):
    dataset.load_subject(copy)


def test_a_truncated_array_is_named(folder, tmp_path):
  copy = damaged(folder, tmp_path)
  (copy / 'frames.npy').write_bytes((copy / 'frames.npy').read_bytes()[:5000])
  with pytest.raises(InputError, match='frames.npy: cannot be read'):
    dataset.load_subject(copy)


def test_an_array_of_another_subject_is_named(folder, tmp_path):
  copy = damaged(folder, tmp_path)
  np.save(copy / 'depth_canonical.npy', np.ones((8, 8), np.float32))
  with pytest.raises(InputError, match=r'depth_canonical.npy: holds float32 \(8, 8\)'):
    dataset.load_subject(copy)


def test_another_format_version_is_refused(folder, tmp_path):
  copy = damaged(folder, tmp_path)
  record = json.loads((copy / 'meta.json').read_text()) | {'format_version': 99}
  (copy / 'meta.json').write_text(json.dumps(record))
  with pytest.raises(InputError, match='format version 99'):
    dataset.load_subject(copy)


def test_meta_survives_writing(folder):
  meta = schema.read_meta(folder)
  assert meta.lip_box == boxes.LipBox(*meta.lip_box) and meta.clips[1].start == 8
