"""The mouth in silence, smoothing over neighbouring frames, and the time that is painted."""
import dataclasses

import jax
import numpy as np
import pytest

from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, features
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.rendering import predictor, real_detail, silence
from speech2lip_jax.rendering import trained as trained_run
from speech2lip_jax.workdir import state as workdir_state
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  """A toy subject, the landmarks of whose inner lips are apart by the loudness of its frames."""
  subject = dataset.load_subject(write_toy_subject(tmp_path_factory.mktemp('silence') / 'toy', clip_frames=(60, 40)))
  landmarks = np.zeros((100, 478, 2), np.float32)
  landmarks[:, 152, 1] = 50
  loudness = np.abs(subject.rgb_lip_canonical.astype(np.float32) - subject.rgb_lip_canonical.max(0)).mean((1, 2, 3))
  landmarks[:, 14, 1] = loudness
  return dataclasses.replace(subject, landmarks=landmarks)


def make_trained(subject, **changes):
  config = smoke.get_config().unlock()
  config.data.path = str(subject.folder)
  for name, value in changes.items():
    section, field = name.split('__')
    config[section][field] = value
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config)
  variables = jax.jit(lambda constants: workdir_state.create_variables(model, constants, config))(constants)
  detail = real_detail.open_detail(subject, split.train, config.field.real_detail) if config.field.real_detail else None
  return trained_run.Trained(config, subject, split, features.open_features(subject, config.audio, split.train),
                         predictor.Predictor(model, variables, constants, subject, batch_size=1, detail=detail), 0)


@pytest.fixture(scope='module')
def trained(subject):
  return make_trained(subject)


def test_pictures_of_25_a_second_and_of_other_rates_say_a_sound_alike(trained):
  sound = (3000 * np.random.default_rng(0).standard_normal(640 * 30)).astype(np.int16)
  mouths = trained.sound_mouths(sound, 30)
  same = trained.sound_mouths_at(sound, np.arange(30) / 25)
  np.testing.assert_allclose(same.audio_embedding, mouths.audio_embedding, atol=1e-4)
  np.testing.assert_allclose(same.rest, mouths.rest, atol=1e-6)
  shifted = trained.sound_mouths_at(np.append(np.zeros(320, np.int16), sound), np.arange(2, 28) / 25 + 0.02)
  np.testing.assert_allclose(shifted.audio_embedding, mouths.audio_embedding[2:28], atol=0.05 * np.ptp(mouths.audio_embedding))


def test_opening_is_relative_to_the_face():
  landmarks = np.zeros((2, 478, 3), np.float32)
  landmarks[:, 152, 1], landmarks[:, 14, 1] = (100, 200), (5, 10)
  np.testing.assert_allclose(silence.lip_opening(landmarks), 0.05)


def test_closed_frames_are_the_most_closed_that_look_alike(subject):
  opening = silence.lip_opening(subject.landmarks)
  ids = silence.closed_frames(subject, np.arange(10, 90))
  assert len(ids) == 8 and ids.min() >= 10 and (np.diff(ids) > 0).all()
  assert opening[ids].max() <= np.sort(opening[10:90])[7]


@pytest.mark.parametrize('share', [0.0, 0.7])
def test_in_silence_the_mouth_is_the_closed_one_and_still(trained, subject, share):
  trained = make_trained(subject, field__real_detail=share) if share else trained
  mouths = trained.sound_mouths(np.zeros(640 * 24, np.int16), 24)
  assert (mouths.rest == 1).all() and np.ptp(mouths.audio_embedding, axis=0).max() == 0
  ids = np.full(24, 5)
  pictures = [prediction.rgb_face for prediction in trained.predictor.from_mouths(ids, mouths)]
  assert all((picture == pictures[0]).all() for picture in pictures)
  closed = silence.closed_frames(subject, trained.split.train)
  lips = subject.rgb_lip_canonical[closed].mean(0, dtype=np.float32) / 255
  wanted = next(trained.predictor.from_lips(ids[:1], lambda rows: np.broadcast_to(lips, (len(rows), *lips.shape))))
  first = silence.Mouths(mouths.audio_embedding[:1], mouths.rest[:1], mouths.residual)
  plain = next(trained.predictor.from_mouths(ids[:1], first, False))
  assert np.abs(plain.rgb_face.astype(int) - wanted.rgb_face).max() <= 1


def test_speech_is_not_touched_and_the_way_into_silence_is_smooth():
  rng = np.random.default_rng(0)
  speech = rng.standard_normal((4, 3)).astype(np.float32)
  resting = silence.RestingMouth(np.ones(3, np.float32), np.full((2, 2, 3), 0.5, np.float32))
  mouths = silence.close_mouth(speech, np.array([1, 0.75, 0.25, 0], np.float32), resting)
  np.testing.assert_array_equal(mouths.audio_embedding[0], speech[0])
  np.testing.assert_allclose(mouths.audio_embedding[1], 0.75 * speech[1] + 0.25)
  np.testing.assert_array_equal(mouths.audio_embedding[3], resting.audio_embedding)
  assert mouths.rest.tolist() == [0, 0.25, 0.75, 1] and mouths.audio_embedding.dtype == np.float32


def test_held_out_frames_and_new_sound_are_treated_alike(trained):
  config = trained.config.copy_and_resolve_references().unlock()
  config.silence.close, config.audio.smoothing = False, 0.0
  plain = trained._replace(config=config)
  ids = trained.split.test
  raw = trained.predictor.audio_embeddings(trained.features.subject_windows(ids))
  mouths = plain.subject_mouths(ids)
  np.testing.assert_array_equal(mouths.audio_embedding, raw)
  assert (mouths.rest == 0).all() and (mouths.residual == 0).all()
  closing = trained.subject_mouths(ids)
  assert closing.audio_embedding.shape == raw.shape and closing.residual.shape == trained.subject.rgb_lip_canonical.shape[1:]


def test_smoothing_does_not_reach_over_the_end_of_a_clip(trained):
  config = trained.config.copy_and_resolve_references().unlock()
  config.silence.close, config.audio.smoothing = False, 2.0
  smooth = trained._replace(config=config)
  both = smooth.subject_mouths(np.arange(50, 70)).audio_embedding  # a clip ends at 60
  np.testing.assert_allclose(both[10:], smooth.subject_mouths(np.arange(60, 70)).audio_embedding, atol=1e-6)
  config.audio.smoothing = 0.0
  rough = trained._replace(config=config).subject_mouths(np.arange(50, 70)).audio_embedding
  jitter = lambda mouths: np.abs(np.diff(mouths[:10], 2, axis=0)).mean()
  assert jitter(both) < 0.5 * jitter(rough)


def test_with_a_time_input_the_frames_painted_on_do_not_matter(subject):
  trained = make_trained(subject, field__use_time=True)
  windows = trained.features.subject_windows(np.arange(3))
  mouths = trained.predictor.mouths_of(trained.predictor.audio_embeddings(windows))
  painted = lambda trained, ids: trained.predictor.painted_lips(np.array(ids), mouths)
  np.testing.assert_array_equal(painted(trained, [7, 7, 7]), painted(trained, [7, 40, 90]))
  own = make_trained(subject, field__use_time=True, field__render_time='own')
  assert (painted(own, [7, 7, 7]) != painted(own, [7, 40, 90])).any(), 'time matters to the field'


