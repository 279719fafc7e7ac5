"""What is rendered beside the lip field: lips by ridge regression, and a wider opening."""
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.configs import smoke
from speech2lip_jax.data import regression
from speech2lip_jax.metrics.opening import lip_opening
from speech2lip_jax.rendering import articulation
from speech2lip_jax.rendering.predictor import Predictor
from speech2lip_jax.training import linear
from speech2lip_jax.workdir import config_file
from speech2lip_jax.workdir import state as workdir_state
from speech2lip_jax.workdir.run import open_run
from tests.toy_subject import write_toy_subject


def toy_run(folder, **changes):
  config = smoke.get_config().unlock()
  config.data.path = str(folder)
  config.linear.update(num_components=6, **changes)
  config.field.detail_gain = 1.0
  return open_run(config.lock())


def new_variables(run):
  return jax.jit(lambda constants: workdir_state.create_variables(run.model, constants, run.config))(run.constants)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('linear') / 'toy', size=32, clip_frames=(60,))


def painted(run, params, frame_ids):
  """[n, h, w, 3] as rendered."""
  windows = run.features.subject_windows(frame_ids)
  paint = jax.jit(lambda params, windows: run.model.apply(
      {'params': params}, windows, jnp.zeros(len(windows), jnp.int32), run.constants, method='lips'))
  return np.asarray(paint(params, windows))


def test_ridge_finds_an_affine_map_whichever_side_is_longer():
  rng = np.random.default_rng(0)
  for shape in ((200, 8), (30, 40)):
    inputs, kernel = rng.normal(size=shape) + 3, rng.normal(size=(shape[1], 2))
    found, bias = regression.ridge(inputs, inputs @ kernel + 5, np.full(shape[1], 1e-3))
    np.testing.assert_allclose(inputs @ found + bias, inputs @ kernel + 5, atol=1e-2)
  noisy, _ = regression.ridge(inputs, inputs @ kernel, np.full(shape[1], 10.0))
  assert np.abs(noisy).mean() < 0.2 * np.abs(found).mean(), 'what is noisy counts less'


def test_a_share_of_1_paints_the_regressions_lips_and_0_the_fields(folder):
  whole, field, mixed = (toy_run(folder, share=share, amplitude=0.0) for share in (1.0, 0.0, 0.25))
  params = new_variables(whole)['params']
  params['linear_lips'] = linear.fit_lips(whole, whole.features.subject_speech(), linear.lip_components(whole))
  ids = whole.split.train
  true, mean = whole.subject.rgb_lip_canonical[ids] / 255, np.asarray(whole.constants.rgb_lip_mean)
  of_whole, of_field = (painted(run, params, ids) for run in (whole, field))
  assert np.square(of_whole - true).mean() < 0.7 * np.square(mean - true).mean()
  np.testing.assert_allclose(painted(mixed, params, ids), 0.25 * of_whole + 0.75 * of_field, atol=1e-5)
  windows = mixed.features.subject_windows(ids[:4])
  gradients = jax.jit(jax.grad(lambda params: jnp.square(mixed.model.apply(
      {'params': params}, windows, jnp.zeros(4, jnp.int32), mixed.constants, method='lips')).sum()))(params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients['linear_lips'])), 'fitted weights stay'


def test_lips_are_measured_and_opened_along_one_direction(folder):
  run = toy_run(folder, share=0.5, amplitude=1.0)
  landmarks = np.array(run.subject.landmarks)
  landmarks[:, 14, 1] = landmarks[:, 13, 1] + run.subject.rgb_lip_canonical.mean((1, 2, 3))  # open where the toy's lips are light
  run = run._replace(subject=dataclasses.replace(run.subject, landmarks=landmarks))
  variables = new_variables(run)
  variables['params']['lip_opening'] = linear.fit_opening(run, linear.lip_components(run))
  predictor = Predictor(run.model, variables, run.constants, run.subject)
  ids = run.split.train
  true = predictor.true_openings(ids)
  assert np.corrcoef(true, lip_opening(landmarks[ids]))[0, 1] > 0.9 and abs(true.std() - 1) < 0.2
  learned = predictor.audio_embeddings(run.features.subject_windows(ids))
  wider = learned.copy()
  wider[:, -1] = np.linspace(0, 2, len(ids))
  assert not learned[:, -1].any()
  np.testing.assert_allclose(predictor.openings(wider) - predictor.openings(learned), wider[:, -1], atol=1e-3)


def test_a_sound_is_opened_to_the_mean_and_spread_of_the_subjects_own():
  rng = np.random.default_rng(0)
  own, mumbled = 0.5 + rng.normal(size=2000), 0.9 + 0.3 * rng.normal(size=3000)
  known = articulation.Articulation.of(own, own[:100], 0.8 * own[:100], 1.0)
  assert known.learned == pytest.approx(0.8)
  nothing = np.zeros(0)
  of_own = own * 0.8 + known.widening(own * 0.8, nothing)
  assert of_own.std() == pytest.approx(own.std(), rel=0.02), 'what is not learned of the own sound is given back'
  rendered = mumbled + known.widening(mumbled, mumbled)
  assert (rendered.mean(), rendered.std()) == pytest.approx((0.5, 0.75), abs=0.1), 'no more than 2.5 times as far'
  few = mumbled + known.widening(mumbled, mumbled[:5])
  assert few.std() < 0.6 * rendered.std(), 'a word does not tell how a voice is heard'
  assert rendered.min() >= known.low and rendered.max() <= known.high
  still = articulation.Articulation.of(own, own[:100], np.zeros(100), 1.0)
  assert not still.widening(np.zeros(9), nothing).any()


def test_workdirs_of_before_open_as_they_were(tmp_path):
  config = json.loads(smoke.get_config().to_json_best_effort())
  del config['linear'], config['data']['val_blocks'], config['field']['detail_gain'], config['loss']['lip_perceptual_weight']
  (tmp_path / 'config.json').write_text(json.dumps(config))
  opened = config_file.read_config(tmp_path)
  assert (opened.linear.share, opened.linear.amplitude, opened.data.val_blocks) == (0.0, 0.0, 1)
  assert (opened.field.detail_gain, opened.loss.lip_perceptual_weight) == (1.0, 0.0)
