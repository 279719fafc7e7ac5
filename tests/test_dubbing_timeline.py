"""Which picture is shown when, what it says, how far its mouth is ours, and the sound that goes with it."""
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import timeline

RATE = 8000
TIMES = np.arange(50) / 25  # two seconds of video
PLAN = dict(times_s=TIMES, video_s=2.0)


def test_a_looped_video_lasts_as_long_as_the_sound_and_turns_without_a_pause():
  plan = timeline.plan(**PLAN, sound_s=5.0, fit='loop', start_s=0.4, segments=None)
  assert plan.duration_s == 5.0 and len(plan.picture) == 125
  np.testing.assert_array_equal(plan.picture[:43], [*range(10, 50), 48, 47, 46])
  np.testing.assert_array_equal(plan.picture[76:81], [12, 11, 10, 11, 12])
  np.testing.assert_allclose(plan.time_s, np.arange(125) / 25)
  np.testing.assert_array_equal(plan.speech_s, plan.time_s)
  assert (plan.share == 1).all()


def test_pictures_of_a_variable_rate_keep_their_own_lengths_both_ways():
  times_s = np.array([0.0, 0.1, 0.12, 0.3])
  plan = timeline.plan(times_s, 0.4, 0.75, 'loop', 0.0, None)
  np.testing.assert_array_equal(plan.picture, [0, 1, 2, 3, 2, 1, 0, 1, 2])
  np.testing.assert_allclose(plan.time_s, [0, 0.1, 0.12, 0.3, 0.4, 0.58, 0.6, 0.7, 0.72])


def test_a_looped_video_whose_ends_stand_still_lasts_as_long_as_the_sound():
  plan = timeline.plan(np.array([0.0, 1.0, 1.01]), 2.01, 100.0, 'loop', 0.0, None)
  lasts_s = np.array([1.0, 0.01, 1.0])[plan.picture]
  np.testing.assert_allclose(np.diff(plan.time_s), lasts_s[:-1])
  assert plan.time_s[-1] < 100 <= plan.time_s[-1] + lasts_s[-1] + 1e-3


def test_the_videos_own_length_is_kept_with_more_or_less_sound():
  for sound_s in (0.5, 9.0):
    plan = timeline.plan(**PLAN, sound_s=sound_s, fit='video', start_s=0.8, segments=None)
    np.testing.assert_array_equal(plan.picture, np.arange(20, 50))
    assert plan.duration_s == pytest.approx(1.2) and plan.time_s[0] == 0


def test_only_segments_change_with_a_soft_join_outside_of_them():
  plan = timeline.plan(**PLAN, sound_s=2.0, fit='video', start_s=0.0, segments=[(0.4, 0.8), (1.2, 2.0)])
  np.testing.assert_array_equal(plan.picture, np.arange(50))
  inside = (TIMES >= 0.4) & (TIMES <= 0.8) | (TIMES >= 1.2)
  assert (plan.share[inside] == 1).all() and (plan.share[TIMES < 0.25] == 0).all() and plan.share[25] == 0
  assert 0 < plan.share[9] < 1 and (np.diff(plan.share[5:11]) >= 0).all()
  np.testing.assert_array_equal(plan.speech_s, TIMES)  # a sound as long as the video stays in place


def test_a_shorter_sound_fills_the_segments_one_after_another():
  plan = timeline.plan(**PLAN, sound_s=1.2, fit='video', start_s=0.0, segments=[(0.4, 0.8), (1.2, 2.0)])
  np.testing.assert_allclose(plan.speech_s[[10, 15, 20]], [0, 0.2, 0.4])
  np.testing.assert_allclose(plan.speech_s[[30, 40]], [0.4, 0.8])


def test_segments_are_read_in_seconds_minutes_and_hours():
  assert timeline.parse_segments('00:10-00:14.2,20-30', 60) == [(10, 14.2), (20, 30)]
  assert timeline.parse_segments('1:02:03-1:02:05.5', 4000) == [(3723, 3725.5)]
  assert timeline.parse_segments('1-2.05', 2.0) == [(1, 2.0)]


@pytest.mark.parametrize('text, told', [
    ('5', 'no span'), ('a-b', 'no span'), ('1-2-3', 'no span'), ('-1-2', 'no span'), ('nan-2', 'no span'), ('1:2:3:4-9', 'no span'),
    ('10.05-10.08', 'lasts 10.00 s'),
    ('4-3', 'ends before'), ('3-3', 'ends before'), ('1-3,2-4', 'begins before'), ('8-11', 'lasts 10.00 s'), ('1-2,', 'no span')])
def test_segments_that_make_no_sense_are_named(text, told):
  with pytest.raises(InputError, match=told):
    timeline.parse_segments(text, 10.0)


def test_a_start_beyond_the_video_is_named():
  with pytest.raises(InputError, match='--start=3: the video lasts 2.00 s'):
    timeline.plan(**PLAN, sound_s=1.0, fit='loop', start_s=3.0, segments=None)


def test_a_start_beside_segments_is_named():
  with pytest.raises(InputError, match='--start=0.8: --segments corrects the whole video'):
    timeline.plan(**PLAN, sound_s=2.0, fit='video', start_s=0.8, segments=[(1.2, 1.6)])


@pytest.mark.parametrize('fit, sound_s, segments, unsaid_s', [
    ('loop', 9.0, None, 0), ('video', 1.0, None, 0), ('video', 2.05, None, 0), ('video', 3.0, None, 1),
    ('video', 0.7, [(0.2, 0.6), (1.0, 1.4)], 0), ('video', 1.3, [(0.2, 0.6), (1.0, 1.4)], 0.5), ('video', 2.0, [(0.2, 0.6)], 0),
    ('video', 3.0, [(0.2, 0.6)], 2.6)])
def test_what_is_cut_of_a_sound_is_known(fit, sound_s, segments, unsaid_s):
  plan = timeline.plan(**PLAN, sound_s=sound_s, fit=fit, start_s=0.0, segments=segments)
  assert timeline.unsaid_s(plan, sound_s, segments) == pytest.approx(unsaid_s)


def test_the_mouth_hears_silence_after_the_sound_as_long_as_it_is_ours():
  mono = np.full(RATE // 2, 9, np.int16)
  lengths = []
  for fit, segments in (('loop', None), ('video', None), ('video', [(0.4, 0.6)]), ('video', [(0.4, 1.4)])):
    plan = timeline.plan(**PLAN, sound_s=0.5, fit=fit, start_s=0.0, segments=segments)
    heard = timeline.followed_by_silence(mono, RATE, plan)
    assert (heard[:len(mono)] == 9).all() and (heard[len(mono):] == 0).all()
    lengths.append(len(heard) / RATE)
  np.testing.assert_allclose(lengths, [0.5, 1.96, 0.5, 1.12], atol=1e-3)


def test_the_sound_is_cut_or_followed_by_silence():
  new = np.full((2, 3 * RATE), 7, np.int16)
  for fit, seconds in (('loop', 3.0), ('video', 2.0)):
    plan = timeline.plan(**PLAN, sound_s=3.0, fit=fit, start_s=0.0, segments=None)
    assert timeline.lay_sound(new, RATE, plan, 2.0, None, None).shape == (2, seconds * RATE)
  plan = timeline.plan(**PLAN, sound_s=0.5, fit='video', start_s=0.0, segments=None)
  sound = timeline.lay_sound(new[:, :RATE // 2], RATE, plan, 2.0, None, None)
  assert sound.shape == (2, 2 * RATE) and (sound[:, RATE // 2:] == 0).all() and (sound[:, :RATE // 2] == 7).all()


def test_the_old_sound_is_heard_beside_segments_and_the_new_one_in_them():
  segments = [(0.5, 1.0)]
  old, new = np.full((1, 2 * RATE), 1000, np.int16), np.full((1, RATE // 2), -500, np.int16)
  plan = timeline.plan(**PLAN, sound_s=0.5, fit='video', start_s=0.0, segments=segments)
  sound = timeline.lay_sound(new, RATE, plan, 2.0, segments, old)[0]
  at = lambda seconds: sound[round(seconds * RATE)]
  assert (at(0.1), at(0.46), at(0.75), at(1.04), at(1.9)) == (1000, 1000, -500, 1000, 1000)
  without = timeline.lay_sound(new, RATE, plan, 2.0, segments, None)[0]
  assert without[RATE // 4] == 0 and without[3 * RATE // 4] == -500
