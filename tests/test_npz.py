"""Archives of arrays that are not what they say."""
import zipfile

import numpy as np
import pytest

from speech2lip_jax.common import npz


def test_an_npz_is_read_within_what_it_says_and_may_hold(tmp_path):
  rows = np.arange(60.0).reshape(20, 3)
  np.savez(tmp_path / 'a.npz', rows=rows, columns=np.asfortranarray(rows))
  np.savez_compressed(tmp_path / 'bomb.npz', rows=np.zeros(2_000_000))
  with npz.opened(tmp_path / 'a.npz') as arrays:
    for array in arrays.values():
      np.testing.assert_array_equal(array.rows(4, 9), rows[4:9])
      np.testing.assert_array_equal(array.read(), rows)
  assert npz.load(tmp_path / 'a.npz').keys() == {'rows', 'columns'}
  with pytest.raises(ValueError, match='its arrays take 0.0 GB, more than'):
    npz.load(tmp_path / 'bomb.npz', 1_000_000)


def test_an_npz_of_objects_or_of_another_size_than_it_says_is_refused(tmp_path):
  np.savez(tmp_path / 'objects.npz', a=np.array([{}]))
  with zipfile.ZipFile(tmp_path / 'large.npz', 'w') as archive:
    with archive.open('a.npy', 'w') as member:
      np.lib.format.write_array_header_1_0(member, {'descr': '<f4', 'fortran_order': False, 'shape': (10**12,)})
  for name, message in (('objects.npz', 'Python objects'), ('large.npz', 'holds 0 bytes'), ('none.npz', 'No such file')):
    with pytest.raises(ValueError, match=message):
      npz.load(tmp_path / name)
