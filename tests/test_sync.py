"""Sync: the metrics in closed form, the expert learning from a toy subject, and the contrastive loss in the training step."""
import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.common import checksums
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import expert as expert_recipe
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, features, input_pipeline, schema
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.metrics import opening, sync
from speech2lip_jax.models.build import build_model
from speech2lip_jax.models.syncnet import SyncNet
from speech2lip_jax.sync import assess, lattice, scores, syncnet_expert, trust
from speech2lip_jax.sync import expert as sync_expert
from speech2lip_jax.sync import judge as sync_judge
from speech2lip_jax.sync import train_expert as train_expert_module
from speech2lip_jax.sync.loss import sync_loss
from speech2lip_jax.training import augment, losses
from speech2lip_jax.training import loop as training_loop
from speech2lip_jax.training import state as train_state
from speech2lip_jax.training import step as train_step
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('sync') / 'toy', clip_frames=(250, 100))


@pytest.fixture(scope='module')
def subject(folder):
  return dataset.load_subject(folder)


def recipe(num_steps=70):
  config = expert_recipe.get_config().unlock()
  config.train.update(num_steps=num_steps, num_runs=3, run_frames=24, warmup_steps=10)
  config.data.test_fraction = 0.3
  return config.lock()


@pytest.fixture(scope='module')
def expert(subject):
  config = recipe()
  return train_expert_module.train_expert(subject, dataset.split_frames(subject, config.data).train, config, show_progress=False)


def test_an_expert_is_the_same_whatever_the_devices(subject, monkeypatch, capsys):
  config = recipe(2).unlock()
  config.expert.update(width=8, num_features=8)
  frame_ids = dataset.split_frames(subject, config.data).train
  train = lambda: train_expert_module.train_expert(subject, frame_ids, config, show_progress=False)
  on_three, told = train(), capsys.readouterr().err
  assert f'3 of {jax.local_device_count()} devices are used: --recipe.train.num_runs=3 cannot be shared' in told
  one = jax.local_devices()[:1]
  monkeypatch.setattr(jax, 'local_devices', lambda: one)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 1)
  on_one = train()
  assert capsys.readouterr().err == ''
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), on_three.params, on_one.params)


def unit(rng, *shape):
  x = rng.standard_normal(shape).astype(np.float32)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize('shift', [-3, 0, 1, 15])
def test_the_best_offset_is_how_late_the_speech_is(shift):
  rng = np.random.default_rng(0)
  speech = unit(rng, 200, 16)
  mouth = np.roll(speech, -shift, axis=0)  # row i shows what is heard in row i + shift
  distances = sync.offset_distances(mouth, speech)
  assert distances.shape == (150, 31)
  np.testing.assert_array_equal(sync.best_offsets(distances[:100]), shift)
  assert sync.within_one(distances[:100]) == (abs(shift) <= 1)
  if abs(shift) < 15:
    assert abs(sync.best_offset(distances[:100].mean(0)) - shift) < 0.1
  values = sync.confidences(distances[:100])
  assert values['sync_dist'] == pytest.approx(0, abs=1e-6) and values['sync_conf'] > 0.8
  assert (values['sync_conf0'] > 0.8) == (shift == 0)


def test_a_clip_too_short_for_every_offset_has_no_windows():
  embeddings = unit(np.random.default_rng(0), 50, 8)
  assert sync.offset_distances(embeddings, embeddings).shape == (0, 31)
  assert np.isnan(sync.within_one(np.zeros((0, 31))))
  accuracy, count = sync.window_accuracy(embeddings[:4], embeddings[:4])
  assert np.isnan(accuracy) and count == 0


def test_window_accuracy_is_one_for_the_truth_and_half_for_a_still_mouth():
  rng = np.random.default_rng(0)
  speech = unit(rng, 60, 16)
  assert sync.window_accuracy(speech, speech) == (1.0, 60)
  still = np.repeat(unit(rng, 1, 16), 60, 0)
  assert abs(sync.window_accuracy(still, speech)[0] - 0.5) < 0.03


@pytest.mark.parametrize('late', [-2, 0, 3])
def test_opening_agreement_finds_lag_and_amplitude(late):
  time = np.arange(200)
  truth = 0.1 + 0.03 * np.sin(time / 3) + 0.02 * np.sin(time / 7.3)
  mouth = 0.08 + 0.5 * (np.roll(truth, late) - 0.1)
  values = opening.agreement(mouth, truth, [time[20:100], time[100:180]], fps=25)
  assert values['opening_lag_ms'] == pytest.approx(40 * late, abs=4)
  assert values['opening_amplitude'] == pytest.approx(0.5, abs=0.05)
  assert (values['opening_corr'] > 0.999) == (late == 0)


def test_a_still_mouth_has_no_opening_agreement():
  values = opening.agreement(np.full(60, 0.1), np.sin(np.arange(60)), [np.arange(60)], fps=25)
  assert all(np.isnan(value) for value in values.values())


def test_the_sync_loss_is_equation_6():
  one, two = np.eye(4, dtype=np.float32)[:2]
  between = (one + two) / np.sqrt(2)
  speech = np.stack([[one, two], [two, one]])  # own, one other time
  loss = lambda mouth, weight: float(sync_loss(jnp.asarray(mouth), jnp.asarray(speech), weight))
  assert loss([one, two], 1.0) == pytest.approx(0, abs=1e-6)
  assert loss([two, one], 1.0) == pytest.approx(2)  # every positive 1, every negative 1
  assert loss([between, between], 0.0) == pytest.approx(1 - np.sqrt(0.5))
  assert loss([between, between], 1.0) == pytest.approx(1)
  alike = np.stack([[one, one], [one, one]])
  assert float(sync_loss(jnp.asarray([one, one]), jnp.asarray(alike), 1.0)) == pytest.approx(0, abs=1e-6)


def test_edge_distance_minds_blur_more_than_light():
  rng = np.random.default_rng(0)
  sharp = rng.random((1, 32, 32, 3)).astype(np.float32)
  blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2)) / 3
  lighter = sharp + np.sqrt(np.mean((blurred - sharp)**2))  # the same L2
  distance = lambda image: float(losses.edge_distance(jnp.asarray(image), jnp.asarray(sharp))[0])
  assert distance(sharp) == 0
  assert distance(lighter) < 0.01 * distance(blurred)


@pytest.mark.parametrize('lip_size', [(12, 20), (40, 50), (81, 119)])
def test_the_lattice_stays_inside_the_lip_box_at_every_phase(lip_size):
  stride = lattice.lattice_stride(lip_size)
  rows, columns = lattice.lattice_size(lip_size, stride)
  inset = round(lattice.INSET * lip_size[1])
  for phase in (0, stride - 1):
    pixels = np.asarray(lattice.lattice_pixels(lip_size, stride, np.array([phase, phase]))).reshape(rows, columns)
    y, x = np.divmod(pixels, lip_size[1])
    assert (np.diff(y, axis=0) == stride).all() and (np.diff(x, axis=1) == stride).all()
    assert y.min() >= inset and y.max() < lip_size[0] - inset and x.min() >= inset and x.max() < lip_size[1] - inset


def test_an_expert_tells_held_out_speech_in_time_and_no_still_mouth(subject, expert):
  held = dataset.split_frames(subject, recipe().data).test
  lips = np.asarray(subject.rgb_lip_canonical[held])
  activity = np.ones(len(held))
  true = scores.score_lips(expert, subject, held, lips, activity).metrics()
  still = scores.score_lips(expert, subject, held, np.repeat(lips[:1], len(lips), 0), activity).metrics()
  assert true['sync_acc5'] > 0.75 and true['sync_within_one'] > 0.8
  assert abs(still['sync_acc5'] - 0.5) < 0.05 and still['sync_within_one'] < 0.5


def test_a_saved_expert_scores_the_same(subject, expert, tmp_path):
  sync_expert.save_expert(tmp_path, expert, {})
  again = sync_expert.open_expert(tmp_path, subject)
  lips = np.asarray(subject.rgb_lip_canonical[:20])
  np.testing.assert_array_equal(again.embed_lips(lips), expert.embed_lips(lips))
  assert expert.embed_lips(lips).shape == (16, 128)


def test_bad_experts_are_told_in_one_line(subject, expert, tmp_path):
  with pytest.raises(InputError, match='no sync expert'):
    sync_expert.open_expert(tmp_path, subject)
  sync_expert.save_expert(tmp_path, expert, {})
  record = json.loads((tmp_path / 'expert.json').read_text())
  with pytest.raises(InputError, match='expert.json: damaged'):
    (tmp_path / 'expert.json').write_text(json.dumps(record | {'stride': 3}))
    sync_expert.open_expert(tmp_path, subject)
  (tmp_path / 'expert.json').write_text(json.dumps(checksums.unsealed(record) | {'lip_size': [8, 8]}))
  with pytest.raises(InputError, match='lip box of 8 × 8'):
    sync_expert.open_expert(tmp_path, subject)
  (tmp_path / 'expert.json').write_text(json.dumps(record))
  (tmp_path / 'weights.npz').write_bytes((tmp_path / 'weights.npz').read_bytes()[:1000])
  with pytest.raises(InputError, match='weights.npz'):
    sync_expert.open_expert(tmp_path, subject)


def test_halves_of_the_training_frames_share_nothing(subject):
  ids = dataset.split_frames(subject, recipe().data).train
  even, odd = (train_expert_module.part_of(subject, ids, part) for part in ('even', 'odd'))
  assert not set(even) & set(odd) and set(even) | set(odd) == set(ids) and min(len(even), len(odd)) > 0.3 * len(ids)


@pytest.mark.parametrize('within, acc5, conf0, ours, told', [
    (0.597, 0.7, 0.160, 0.338, ['a weak judge: .* 59.7 %.*90 %.*more video.*another judge', 'ours conf0 0.338.*0.160']),
    (0.597, 0.7, 0.160, 0.170, ['a weak judge']),
    (0.955, 0.7, 0.160, 0.338, []),
    (float('nan'), 0.6, float('nan'), float('nan'), ['acc5 is 0.60.*0.75']),
    (float('nan'), 0.9, float('nan'), float('nan'), []),
    (float('nan'), float('nan'), float('nan'), float('nan'), [])])
def test_a_weak_judge_says_so(within, acc5, conf0, ours, told):
  facts = trust.facts({'sync_within_one': within, 'sync_acc5': acc5, 'sync_conf0': conf0}, {'sync_conf0': ours})
  assert facts['truth_within_one'] == (None if np.isnan(within) else within)
  assert len(facts['warnings']) == len(told)
  assert all(re.search(pattern, line) for pattern, line in zip(told, facts['warnings'], strict=True))


def test_the_verb_writes_expert_scores_and_plot(subject, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(trust, 'LEAST_WITHIN_ONE', 1.1)  # of a share: no judge is good enough
  monkeypatch.setattr(trust, 'LEAST_ACC5', 1.1)
  assess.train_and_judge(recipe(4), subject, tmp_path / 'expert', folds=0)
  told = capsys.readouterr()
  assert 'fit best at 0 ± 1 frame' in told.out
  warnings = json.loads((tmp_path / 'expert/scores.json').read_text())['warnings']
  assert 'a weak judge' in warnings[0] and f'warning: {tmp_path}/expert: {warnings[0]}' in told.err
  assert {path.name for path in (tmp_path / 'expert').iterdir()} == {
      'expert.json', 'weights.npz', 'scores.json', 'offsets.png', '.lock'}
  assert isinstance(sync_expert.open_expert(tmp_path / 'expert', subject), sync_expert.Expert)


def sync_config(folder, **changes):
  config = smoke.get_config().unlock()
  config.data.path = str(folder)
  config.train.update(batch_size=16, blend_every=4)
  config.sync.update(expert='given', num_windows=2, start_step=0, num_negatives=3, **changes)
  return config.lock()


@pytest.fixture(scope='module')
def parts(folder, subject, expert):
  config = sync_config(folder)
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config, axis_name=train_step.AXIS)
  optimizer, _ = train_state.make_optimizer(config.train)
  state = train_state.state_creator(model, optimizer, config)(constants)._replace(step=np.int32(5))
  sampler = sync_expert.sync_sampler(expert, subject, split.train, config.sync, seed=0)
  return config, split, constants, model, optimizer, state, sampler


def resident_of(subject):
  ids = np.arange(subject.meta.num_frames)
  return input_pipeline.make_resident(subject, features.OwnFeatures(subject, 'mel', 16, False, ids))


def batch_of(subject, parts, num_devices, with_frames=False, **kwargs):
  config, split, *_, sampler = parts
  return input_pipeline.TrainBatches(subject, split.train, seed=0, batch_size=16, blend_every=4, sync=sampler,
                                     num_devices=num_devices, **kwargs).batch(5, with_frames=with_frames, with_sync=True)


@pytest.mark.slow
def test_two_devices_take_the_sync_step_of_one(subject, expert, parts):
  config, _, constants, model, optimizer, state, _ = parts
  step = train_step.make_train_step(model, optimizer, config)

  def take(count):
    copies = lambda tree: jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), tree)
    slices = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch_of(subject, parts, count))
    replicated = copies((resident_of(subject), constants, train_step.Frozen(expert)))
    new_state, metrics = step(copies(state), slices, *replicated)
    return jax.tree.map(lambda x: np.asarray(x)[0], (new_state, metrics))

  (_, one), (_, two) = take(1), take(2)
  assert one['loss/lip'] == pytest.approx(two['loss/lip'], rel=1e-5)
  assert one['loss/sync'] > 0 and two['loss/sync'] > 0  # a mouth's negatives are those of its device


def test_the_same_frames_are_composed_on_any_number_of_devices(subject, parts):
  one, two = (batch_of(subject, parts, count, with_frames=True) for count in (1, 2))
  np.testing.assert_array_equal(one.frames.rgb_face_observed, two.frames.rgb_face_observed)
  rows = input_pipeline.composed_rows(26, 10, 4)
  assert len(rows) == 16 // 4
  np.testing.assert_array_equal(one.frames.observed_from_canonical, subject.observed_from_canonical[one.frame_id[rows]])


def test_windows_are_consecutive_frames_of_a_clip_with_their_own_speech(subject, expert, parts):
  batch = batch_of(subject, parts, 2)
  others = input_pipeline.frame_ids_of_step(parts[1].train, 0, 5, 16)
  np.testing.assert_array_equal(batch.frame_id.reshape(2, 13)[:, 5:].reshape(-1), others)  # all frames of the plain batch
  ids = batch.frame_id.reshape(2, 13)[:, :5]
  np.testing.assert_array_equal(np.diff(ids, axis=1), 1)
  assert (np.diff(subject.clip_of_frames(ids.reshape(-1)).reshape(ids.shape), axis=1) == 0).all()
  np.testing.assert_allclose(batch.sync.speech[:, 0], expert.embed_speech(subject, ids[:, 0]), atol=1e-5)
  assert batch.sync.speech.shape == (2, 4, 128)
  whole, halves = batch_of(subject, parts, 2), [batch_of(subject, parts, 2, process=p, num_processes=2) for p in (0, 1)]
  for name in ('sample_id', 'frame_id'):
    np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(half, name) for half in halves]))
  np.testing.assert_array_equal(whole.sync.speech, np.concatenate([half.sync.speech for half in halves]))


@pytest.mark.parametrize('negative_weight', [0.0, 1.0])
def test_the_sync_term_reaches_the_generator(subject, expert, parts, negative_weight):
  config, _, constants, model, _, state, _ = parts
  config = config.copy_and_resolve_references().unlock()
  config.sync.negative_weight = negative_weight
  config.loss.update(lip_weight=0.0, frame_weight=0.0)
  loss = train_step.make_loss(model.clone(axis_name=None), config)
  gradients, _ = jax.jit(jax.grad(loss, has_aux=True))(
      state.params, state.batch_stats, batch_of(subject, parts, 1), resident_of(subject), constants, train_step.Frozen(expert),
      jax.random.key(0))
  for path, gradient in jax.tree.leaves_with_path((gradients['lip_field'], gradients['audio_net'])):
    assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)


@pytest.mark.slow
def test_training_makes_its_own_expert_first(folder, tmp_path, monkeypatch):
  config = sync_config(folder, ).copy_and_resolve_references().unlock()
  config.sync.update(expert='own', num_own=1, num_windows=8, start_step=1)
  config.train.update(batch_size=64, blend_every=8, num_steps=3, eval_every=3)
  config.depth.num_frames, config.data.num_val_frames = 0, 1
  short = recipe(3)
  monkeypatch.setattr(expert_recipe, 'get_config', lambda: short)
  workdir = tmp_path / 'trial,seed=0'  # a sweep's trials have commas in their names, as a list of experts has
  training_loop.train_and_evaluate(config, str(workdir))
  values = [json.loads(line) for line in (workdir / 'log.jsonl').read_text().splitlines()]
  assert [record['step'] for record in values if 'loss/sync' in record] == [2, 3]
  assert (workdir / 'expert_0' / 'weights.npz').is_file()


def test_a_sync_loss_without_windows_is_told_at_once(folder):
  config = sync_config(folder).copy_and_resolve_references().unlock()
  config.sync.num_windows = 0
  with pytest.raises(InputError, match='config.sync.num_windows'):
    config_schema.check(config)


def test_a_ensembles_cosines_are_the_means_of_its_members(subject, expert, tmp_path):
  other = dataclasses.replace(expert, params=jax.tree.map(lambda x: x * 0.9, expert.params))
  for name, member in (('a', expert), ('b', other)):
    sync_expert.save_expert(tmp_path / name, member, {})
  ensemble = sync_expert.open_experts(sync_expert.listed_folders(f'{tmp_path}/a,{tmp_path}/b'), subject)
  first = np.array([3, 9])
  rgb = np.random.default_rng(0).random((2, 5, *expert.lip_size, 3), np.float32)
  pictures = expert.pictures(rgb)
  cosine = lambda one, views: np.sum(one.embed_mouth(views)[:, 0] * one.embed_speech(subject, first), -1)
  np.testing.assert_allclose(cosine(ensemble, [pictures] * 2), (cosine(expert, pictures) + cosine(other, pictures)) / 2, atol=1e-5)


def test_the_expert_that_a_model_learned_from_cannot_judge_it(subject, expert, tmp_path):
  for name, member in (('own', expert), ('copy', expert), ('other', dataclasses.replace(expert, deviation=expert.deviation * 2))):
    sync_expert.save_expert(tmp_path / name, member, {'config': {}})
  test = np.arange(4)
  with pytest.raises(InputError, match='trained against this very expert'):
    sync_judge.judge_of_subject(tmp_path / 'copy', subject, test, [tmp_path / 'other', tmp_path / 'own'])
  judge, facts = sync_judge.judge_of_subject(tmp_path / 'other', subject, test, [tmp_path / 'own', tmp_path / 'none'])
  assert isinstance(judge, sync_judge.LipJudge) and facts['name'] == 'other'


def test_another_voice_keeps_time_and_changes_the_spectrum():
  config = smoke.get_config().audio
  rng = np.random.default_rng(0)
  mel = np.repeat(rng.random((16, 1)), schema.NUM_MEL_BANDS, 1).astype(np.float32)  # flat spectra, loud and soft
  changed = np.asarray(augment.other_voice(jnp.asarray(mel), jax.random.key(1), config))
  np.testing.assert_allclose(np.diff(changed, axis=0), np.diff(mel, axis=0), atol=1e-5)
  assert np.abs(changed - mel).max() > 0.05


def test_an_expert_that_looks_at_faces_gets_composed_frames(subject, parts):
  config, split, constants, model, _, state, _ = parts
  shapes = jax.eval_shape(SyncNet().init, jax.random.key(0), jnp.zeros((1, 48, 96, 15)), jnp.zeros((1, 16, 80)))
  faces = syncnet_expert.SyncNetExpert(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes))
  runs = [split.train[rows[:-4]] for rows in dataset.runs_of(subject, split.train)]
  sampler = input_pipeline.SyncSampler(np.zeros((subject.meta.num_frames, 512), np.float32), runs, 2, 3, 15, seed=0)
  batch = input_pipeline.TrainBatches(
      subject, split.train, seed=0, batch_size=16, blend_every=4,
      sync=sampler, face_box=syncnet_expert.face_boxes(subject)).batch(5, with_frames=False, with_sync=True)
  assert batch.sync.frames.rgb_face_observed.shape[0] == batch.sync.face_box.shape[0] == 10
  loss = train_step.make_loss(model.clone(axis_name=None), config)
  _, (terms, _) = jax.eval_shape(loss, state.params, state.batch_stats, batch, resident_of(subject), constants,
                                 train_step.Frozen(faces), jax.random.key(0))
  assert {name: term.shape for name, term in terms.items()} == {'lip': (), 'sync': (), 'total': ()}
