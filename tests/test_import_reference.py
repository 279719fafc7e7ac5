"""The authors' checkpoint and data folder → workdir: D_c from C2O, the rendered mouth, and bad input in one line."""
import json
import shutil

import cv2
import jax
import numpy as np
import pytest

from speech2lip_jax.common import devices, weights
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import reference as reference_config
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.gamem import mapping
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.metrics import image as image_metrics
from speech2lip_jax.models.build import build_model
from speech2lip_jax.ops import boxes, sampling
from speech2lip_jax.released import coords_depth, import_dataset, import_workdir
from speech2lip_jax.released import step as released_step
from speech2lip_jax.released import warp as released_warp
from speech2lip_jax.rendering import trained as trained_run
from speech2lip_jax.rendering.person import open_person
from speech2lip_jax.training import loop as training_loop
from speech2lip_jax.training import state as train_state
from speech2lip_jax.workdir import checkpoint as checkpoint_module
from speech2lip_jax.workdir import config_file
from tests import goldens
from tests.toy_subject import write_toy_subject

torch = pytest.importorskip('torch')

SIZE, NUM_FRAMES = 96, 24
BOX = boxes.LipBox(54, 34, 20, 28)


def euler_of(rotation):
  """The head tracker's angles [N, 3] of our rotations [N, 3, 3]."""
  x = np.arctan2(-rotation[:, 1, 2], rotation[:, 2, 2])
  y = np.arcsin(rotation[:, 0, 2])
  z = np.arctan2(rotation[:, 0, 1], rotation[:, 0, 0])
  return np.stack([x, -y, -z], -1)


def lip_mask():
  """[H, W] uint8, 1 in the lip box."""
  mask = np.zeros((SIZE, SIZE), np.uint8)
  mask[BOX.top:BOX.top + BOX.height, BOX.left:BOX.left + BOX.width] = 1
  return mask


def speech_features(num_frames):
  """[N, 16, 29] float32 like DeepSpeech's: far from mean 0 and standard deviation 1."""
  return (2 * np.random.default_rng(0).normal(size=(num_frames, 16, 29)) - 3).astype(np.float32)


def write_dataset(folder, subject, by_edges=True):
  """The data folder of a subject with a known depth, in the layout that the importer documents."""
  poses, meta = np.asarray(subject.observed_from_head), subject.meta
  (folder / 'ori_imgs').mkdir(parents=True)
  (folder / 'coords').mkdir()
  y, x = np.mgrid[:meta.height, :meta.width].astype(np.float32)
  points = np.stack([x, y], -1)
  face = np.asarray(subject.mask_face_canonical) > 0
  solve = jax.jit(lambda pose: mapping.canonical_coords(points, subject.depth_canonical, pose, meta.focal_px, num_steps=12))
  look_up = jax.jit(lambda coords: sampling.sample_image(face[..., None].astype(np.float32), coords)[..., 0])
  for i, frame in enumerate(subject.frames):
    cv2.imwrite(str(folder / f'ori_imgs/{i:05d}.png'), frame[..., ::-1])
    coords = np.asarray(solve(subject.observed_from_canonical[i]))
    inside = np.asarray(look_up(coords)) > 0.5
    coords = np.where(inside[..., None], coords, coords[0, 0])  # as the program has it: depth 0 goes to one point
    grid = (2 * coords + 1) / meta.width - 1 if by_edges else 2 * coords / (meta.width - 1) - 1
    np.save(folder / f'coords/{i}.npy', grid.astype(np.float32))
  flip = np.array([1, -1, -1])
  torch.save({'euler': torch.tensor(euler_of(poses[:, :3, :3])), 'trans': torch.tensor(poses[:, :3, 3] * flip),
              'focal': torch.tensor([meta.focal_px])}, folder / 'track_params.pt')
  np.save(folder / 'aud.npy', speech_features(meta.num_frames + 1))
  shutil.copy(subject.folder / 'audio.wav', folder / 'aud.wav')
  cv2.imwrite(str(folder / 'mask_lip_canonical.png'), 255 * lip_mask())
  cv2.imwrite(str(folder / 'mask_face_canonical.png'), 255 * face.astype(np.uint8))
  return folder


def write_checkpoint(path, **changes):
  """The golden networks as the program saves them, its lips made smooth and 0 … 1."""
  state = goldens.weights('field_params')
  state |= {f'post_fusion_unet.{name}': array for name, array in goldens.weights('blendnet_params').items()}
  for name in ('fc_uv.weight', 'fc_uv_skip.weight'):
    state[name] = np.where(np.arange(42) < 14, state[name], 0)  # three octaves: what two kernels read alike
  state['output_linear.weight'], state['output_linear.bias'] = 0.03 * state['output_linear.weight'], np.full(3, 0.5)
  state['canonical_depth_head'] = np.full((SIZE, SIZE), -1.0)
  state |= changes
  tensors = {f'module.{name}': torch.tensor(np.asarray(array, np.float32)) for name, array in state.items()}
  torch.save({'global_step': 1234, 'network_fn_state_dict': tensors, 'optimizer_state_dict': {'state': {}}}, path)
  return path


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  return load_subject(write_toy_subject(tmp_path_factory.mktemp('toy') / 'toy', size=SIZE, clip_frames=(NUM_FRAMES,),
                                        lip_size=(BOX.height, BOX.width)))


@pytest.fixture(scope='module')
def dataset(subject, tmp_path_factory):
  return write_dataset(tmp_path_factory.mktemp('dataset') / 'person', subject)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  return write_checkpoint(tmp_path_factory.mktemp('checkpoint') / 'model_1234.pt')


@pytest.fixture(scope='module')
def workdir(dataset, checkpoint, tmp_path_factory):
  out = tmp_path_factory.mktemp('out') / 'run'
  import_workdir.convert_speech2lip(str(checkpoint), str(dataset), str(out))
  return out


def test_depth_is_recovered_from_coords_within_a_thousandth(subject, workdir):
  imported = load_subject(workdir / 'subject')
  assert imported.meta.canonical_frame == 0 and imported.meta.lip_box == BOX
  assert imported.meta.focal_px == pytest.approx(subject.meta.focal_px)
  np.testing.assert_allclose(imported.observed_from_head, subject.observed_from_head, atol=1e-5)
  face = np.asarray(subject.mask_face_canonical) > 0
  inner = face & (imported.depth_canonical != 0)
  error = np.abs(imported.depth_canonical / subject.depth_canonical - 1)[inner]
  assert np.percentile(error, 95) < 1e-3 and error.max() < 5e-3, (np.percentile(error, 95), error.max())
  outside = imported.depth_canonical[~face]
  assert outside.min() > 2.9 and outside.max() < 5, 'the depth goes on smoothly past the face'


def test_the_lips_of_the_frames_are_read_as_preprocessing_reads_them(subject, workdir):
  imported = load_subject(workdir / 'subject')
  np.testing.assert_array_equal(imported.frames, subject.frames)
  rows, columns = slice(BOX.top - subject.meta.lip_box.top, None), slice(BOX.left - subject.meta.lip_box.left, None)
  assert subject.meta.lip_box.height >= 8
  ours = imported.rgb_lip_canonical[:, max(0, -rows.start):, max(0, -columns.start):]
  truth = subject.rgb_lip_canonical[:, max(0, rows.start):, max(0, columns.start):]
  height, width = (min(ours.shape[axis], truth.shape[axis]) for axis in (1, 2))
  difference = ours[:, :height, :width].astype(float) - truth[:, :height, :width]
  assert 10 * np.log10(255**2 / np.mean(difference**2)) > 35


def test_an_imported_network_hears_the_features_as_they_are(dataset, workdir):
  trained = trained_run.load_trained(str(workdir), batch_size=1)
  np.testing.assert_array_equal(trained.features.subject_windows(np.array([3, 7])), np.load(dataset / 'aud.npy')[[3, 7]])


def test_the_rendered_mouth_is_the_released_composition(subject, dataset, checkpoint, workdir):
  trained = trained_run.load_trained(str(workdir), batch_size=1)
  networks = import_workdir.load_networks(checkpoint)
  assert trained.step == networks.step == 1234 and trained.config.field.width == networks.width
  config = reference_config.get_config().unlock()
  config.field.update(width=networks.width, ensemble=False)  # the program renders by one evaluation
  ids = np.array([5, 11, 17])
  windows = np.load(dataset / 'aud.npy')[ids]
  lips = np.stack([released_step.lips(networks.params, window, frame, 0.5, (BOX.height, BOX.width), config)
                   for frame, window in zip(ids, windows, strict=True)])
  assert 0.05 < lips.std() < 0.3 and 0.2 < lips.mean() < 0.8, 'the lips are a picture'
  model = trained.predictor._model
  variables, constants = devices.unreplicate((trained.predictor._variables, trained.predictor._constants))
  np.testing.assert_allclose(model.apply(variables, windows, ids, constants, method='lips'), lips, atol=2e-5)

  rendered = trained.predictor.from_lips(ids, lambda rows: lips[rows])
  for frame, rgb_lip, picture in zip(ids, lips, rendered, strict=True):
    _, merged = released_warp.merge(rgb_lip, subject.frames[0] / 255.0, subject.frames[frame] / 255.0,
                                        lip_mask()[..., None], np.load(dataset / f'coords/{frame}.npy'), (BOX.top, BOX.left),
                                        0, None)
    expected = np.round(np.clip(np.asarray(merged), 0, 1) * 255).astype(np.uint8)
    # Not equal: the program reads the pasted lips bilinearly, and mixes them with the face at the box's rim.
    inner = cv2.erode(picture.mask_mouth.astype(np.uint8), np.ones((5, 5))) > 0
    assert image_metrics.psnr(picture.rgb_face, expected, inner) > 50
    assert image_metrics.psnr(picture.rgb_face, expected, picture.mask_mouth) > 28


def test_an_imported_workdir_renders_a_new_sound_with_its_features(dataset, workdir, tmp_path):
  features = tmp_path / 'new.npy'
  np.save(features, np.load(dataset / 'aud.npy')[:NUM_FRAMES])
  said = open_person(workdir, batch_size=2).say(dataset / 'aud.wav', features=str(features))
  said.write(tmp_path / 'out.mp4')
  assert len(said) == NUM_FRAMES and (tmp_path / 'out.mp4').stat().st_size > 1000


def test_training_can_go_on_from_an_imported_checkpoint(workdir):
  config = config_file.read_config(workdir)
  subject = load_subject(config.data.path)
  constants = subject_constants(subject, np.arange(NUM_FRAMES))
  optimizer, _ = train_state.make_optimizer(config.train)
  fresh = train_state.state_creator(build_model(subject, config), optimizer, config, 29)(constants)
  with checkpoint_module.Checkpoints(workdir) as saved:
    state = saved.restore(saved.latest_step(), fresh)
  assert state.step == 1234
  np.testing.assert_array_equal(state.params['lip_field']['rgb']['bias'], np.full(3, 0.5, np.float32))


@pytest.mark.parametrize('by_edges', [True, False])
def test_the_canonical_frame_and_the_counting_of_coords_are_found(subject, tmp_path, by_edges):
  folder = write_dataset(tmp_path / 'person', subject, by_edges)
  coords = {int(path.stem): path for path in (folder / 'coords').iterdir()}
  frame, pixels, shift = import_dataset._identity_frame(coords, (SIZE, SIZE), sorted(coords))
  assert frame == 0 and shift < 1e-3
  assert pixels is (coords_depth.pixels_by_edges if by_edges else coords_depth.pixels_by_centres)


def test_without_coords_the_learned_depth_is_taken_if_positive(dataset, tmp_path):
  folder = shutil.copytree(dataset, tmp_path / 'person', ignore=shutil.ignore_patterns('coords'))
  out = str(tmp_path / 'run')
  with pytest.raises(InputError, match='canonical_frame'):
    import_workdir.convert_speech2lip(str(write_checkpoint(tmp_path / 'model.pt')), str(folder), out)
  (folder / 'dataset.json').write_text(json.dumps({'canonical_frame': 0}))
  with pytest.raises(InputError, match=r'no coords, and canonical_depth_head .* down to -1'):
    import_workdir.convert_speech2lip(str(tmp_path / 'model.pt'), str(folder), out)
  depth = np.full((1, SIZE, SIZE), 3.2, np.float32)
  write_checkpoint(tmp_path / 'model.pt', canonical_depth_head=depth)
  networks = import_workdir.load_networks(tmp_path / 'model.pt')
  import_dataset.write_subject(import_dataset.find_files(folder), tmp_path / 'subject', 29, networks.depth)
  imported = load_subject(tmp_path / 'subject')
  np.testing.assert_array_equal(imported.depth_canonical, depth[0])
  assert imported.meta.report['depth'].startswith('canonical_depth_head')


def _remove(name):
  return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def _describe(**record):
  return lambda folder: (folder / 'dataset.json').write_text(json.dumps(record))


@pytest.mark.parametrize('damage, message', [
    (_remove('track_params.pt'), 'has no track_params.pt .poses.'),
    (_remove('ori_imgs'), r'has no ori_imgs/\* or com_imgs/\*'),
    (_remove('aud.npy'), 'has no aud.npy'),
    (_remove('mask_lip_canonical.png'), 'lip_box'),
    (lambda folder: (folder / 'ori_imgs/00003.png').unlink(), 'there are 23 frames'),
    (lambda folder: (folder / 'ori_imgs/00003.png').write_text('no picture'), '00003.png: its pictures are 0×0 pixels'),
    (lambda folder: np.save(folder / 'aud.npy', speech_features(5)), 'windows of 5 frames, there are 24'),
    (lambda folder: np.save(folder / 'aud.npy', np.zeros((24, 8, 29), np.float32)), r'take \[N, 16, 29\]'),
    (lambda folder: np.save(folder / 'coords/4.npy', np.zeros((3, 3, 2), np.float32)), '4.npy: holds .3, 3, 2.'),
    (lambda folder: (folder / 'coords/4.npy').write_text('no array'), '4.npy: cannot be read'),
    (_describe(canonical_frame=11), 'frame 11.* moves by'),
    (_describe(canonical_frame=99), 'canonical_frame 99'),
    (_describe(frames='nowhere/*.png'), 'has no nowhere'),
    (_describe(pictures='x'), "'pictures' is not known"),
    (_describe(lip_box={'top': 90, 'left': 0, 'height': 20, 'width': 20}), 'lip box'),
    (lambda folder: torch.save({'euler': torch.zeros(24, 3)}, folder / 'track_params.pt'), 'track_params.pt: has no'),
])
def test_a_damaged_data_folder_is_told_in_one_line(dataset, tmp_path, damage, message):
  folder = shutil.copytree(dataset, tmp_path / 'person')
  damage(folder)
  with pytest.raises(InputError, match=message) as error:
    import_dataset.write_subject(import_dataset.find_files(folder), tmp_path / 'subject', 29, None)
  assert '\n' not in str(error.value) and str(folder) in str(error.value)
  assert not (tmp_path / 'subject/meta.json').exists()


@pytest.mark.parametrize('changes, message', [
    ({'fc_uv.weight': np.zeros((32, 42))}, 'lip_field.* has shape'),
    ({'stranger.weight': np.zeros(3)}, 'stranger.weight: unexpected'),
    ({'post_fusion_unet.outc.conv.weight': np.zeros((3, 32, 1, 1))}, 'blend_net.* has shape'),
    ({'canonical_depth_head': np.zeros(7)}, 'canonical_depth_head has shape'),
])
def test_a_checkpoint_of_another_network_is_told_in_one_line(tmp_path, changes, message):
  path = write_checkpoint(tmp_path / 'model.pt', **changes)
  with pytest.raises(InputError, match=message) as error:
    import_workdir.load_networks(path)
  assert '\n' not in str(error.value) and str(path) in str(error.value)


def test_a_checkpoint_alone_gives_its_weights_and_a_used_folder_is_refused(checkpoint, workdir, tmp_path):
  import_workdir.convert_speech2lip(str(checkpoint), None, str(tmp_path / 'out'))
  tree = weights.load_tree(tmp_path / 'out/weights.npz', '')
  assert set(tree['params']) == {'audio_net', 'lip_field', 'blend_net'}
  with pytest.raises(InputError, match='in use'):
    import_workdir.convert_speech2lip(str(checkpoint), None, str(workdir))


@pytest.mark.slow
def test_the_released_recipe_trains(subject, tmp_path):
  config = reference_config.get_config().unlock()
  config.data.path, config.field.width = str(subject.folder), 32
  config.data.num_val_frames = 2
  config.train.update(num_steps=4, eval_every=2, log_every=1, batch_size=jax.device_count())
  training_loop.train_and_evaluate(config.lock(), str(tmp_path))
  records = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
  assert all(np.isfinite(record['loss/total']) for record in records if 'loss/total' in record)
  assert trained_run.load_trained(str(tmp_path)).step in (2, 4)
