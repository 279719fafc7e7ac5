"""Whose face is followed where a video shows several."""
import numpy as np

from speech2lip_jax.preprocess import people

NO_CUT = np.zeros(0, int)


def face(x, size):
  """[478, 3]: a face of this height, pixels, about (x, 100)."""
  return (np.random.default_rng(0).uniform(-0.5, 0.5, (478, 3)) * size + (x, 100, 0)).astype(np.float32)


def middle(landmarks):
  return landmarks[:, :, 0].mean(axis=1)


def test_the_larger_person_is_followed_also_where_the_other_leans_in():
  main = [face(100 + n, 80) for n in range(50)]
  other = [face(300, 60 if n < 30 else 100) for n in range(50)]
  first = [m if n < 30 else o for n, (m, o) in enumerate(zip(main, other))]  # the largest of each frame comes first
  second = [o if n < 30 else m for n, (m, o) in enumerate(zip(main, other))]
  chosen, num_with_others = people.choose_person(np.stack(first), np.stack(second), np.arange(50), NO_CUT)
  np.testing.assert_array_equal(chosen, np.stack(main))


def test_a_lost_face_is_not_replaced_by_somebody_else_and_is_found_again():
  first = np.stack([face(100, 80) if not 20 <= n < 40 else face(300, 70) for n in range(60)])
  chosen, _ = people.choose_person(first, np.stack([face(300, 70)] * 5), np.arange(15, 20), NO_CUT)
  lost = np.isnan(chosen[:, 0, 0])
  assert np.flatnonzero(lost).tolist() == list(range(20, 40))
  assert np.ptp(middle(chosen[~lost])) == 0


def test_each_shot_has_its_own_place():
  first = np.stack([face(100 if n < 30 else 400, 80) for n in range(60)])
  extra = np.stack([face(400 if n < 30 else 100, 50) for n in range(60)])
  chosen, _ = people.choose_person(first, extra, np.arange(60), np.array([30]))
  np.testing.assert_array_equal(chosen, first)
