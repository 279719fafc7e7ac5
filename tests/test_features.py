"""Speech features: mel, files and speech encoders behind one interface."""
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset, features, schema, speech_encoder, whisper_speech
from speech2lip_jax.data import mel as mel_module
from speech2lip_jax.rendering.person import open_person
from speech2lip_jax.synthetic.speech import foreign_sound
from speech2lip_jax.training import loop as training_loop
from speech2lip_jax.training.augment import augmented
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('features') / 'toy', size=32, clip_frames=(50, 25, 30))


@pytest.fixture(scope='module')
def subject(folder):
  return dataset.load_subject(folder)


def audio_config(source, **changes):
  config = smoke.get_config().audio.copy_and_resolve_references().unlock()
  config.update(features=str(source), **changes)
  return config


def open_of(subject, config):
  """All frames count as training frames."""
  return features.open_features(subject, config, np.arange(subject.meta.num_frames))


def save(path, array):
  np.save(path, array)
  return path


def sound_of(subject, seconds=None):
  _, sound = wavfile.read(subject.folder / 'audio.wav')
  return sound[:round(seconds * schema.SAMPLE_RATE)] if seconds else sound


def test_mel_windows_of_the_subject_and_of_its_own_sound_are_the_same(subject):
  mel = open_of(subject, audio_config('mel', normalise=False))
  clip = subject.meta.clips[0]
  windows = mel.sound_windows(sound_of(subject)[:clip.num_frames * schema.SAMPLES_PER_FRAME], clip.num_frames)
  assert windows.shape == (clip.num_frames, mel.num_steps, mel.num_channels)
  ids = np.array([0, 7, clip.num_frames - 1])
  np.testing.assert_allclose(windows[ids], mel.subject_windows(ids), atol=0.01)  # the wav is rounded


def test_mel_of_a_long_sound_is_made_in_pieces_that_fit(monkeypatch):
  sound = np.random.default_rng(0).integers(-9000, 9000, 16_123).astype(np.int16)
  whole = mel_module.log_mel(sound)
  np.testing.assert_array_equal(mel_module.log_mel(sound / np.float32(32768)), whole)
  monkeypatch.setattr(mel_module, '_STEPS_AT_ONCE', 7)
  np.testing.assert_array_equal(mel_module.log_mel(sound), whole)


def test_a_louder_recording_of_the_same_speech_sounds_the_same_and_silence_stays_silence(subject):
  mel = open_of(subject, audio_config('mel'))
  sound, count, ids = sound_of(subject), subject.meta.num_frames, np.arange(8, 24)
  softly = (sound * 0.25).astype(np.int16)
  plain = open_of(subject, audio_config('mel', normalise=False))
  apart = lambda of: np.median(np.abs(of.sound_windows(sound, count)[ids] - of.sound_windows(softly, count)[ids]))
  assert apart(mel) < 0.35 * apart(plain)
  silent = mel.sound_windows(np.zeros_like(sound), count)[ids]
  assert silent.max() < mel.subject_windows(ids).mean() - 1, 'silence is not the average of speech'


# ---- files


def test_windows_from_a_file_are_those_of_their_frame(subject, tmp_path):
  ids = np.arange(subject.meta.num_frames)
  array = np.broadcast_to(ids[:, None, None], (len(ids), 16, 3)).astype(np.float16)
  opened = open_of(subject, audio_config(save(tmp_path / 'x.npy', array)))
  assert (opened.num_steps, opened.num_channels) == (16, 3)
  windows = opened.subject_windows(ids)
  assert windows.dtype == np.float32 and abs(windows.mean()) < 1e-3 and abs(windows.std() - 1) < 1e-3
  assert np.argsort(windows[:, 0, 0]).tolist() == ids.tolist()
  new = opened.sound_windows(sound_of(subject), 42, str(save(tmp_path / 'new.npy', array[:41])))
  np.testing.assert_array_equal(new[np.array([5, 40, 41])], windows[[5, 40, 40]])


def test_steps_from_a_file_are_cut_by_time_and_stay_in_their_clip(subject, tmp_path):
  num_frames, rate = subject.meta.num_frames, 50.0
  seconds = (np.arange(round(num_frames / 25 * rate)) + 0.5) / rate
  array = np.stack([seconds, 0 * seconds + 7], 1)  # float64; a constant channel
  opened = open_of(subject, audio_config(save(tmp_path / 'x.npy', array), features_rate=rate))
  unscale = lambda windows: windows[..., 0] * seconds.std() + seconds.mean()
  times = unscale(opened.subject_windows(np.arange(num_frames)))
  assert (opened.subject_windows([3])[..., 1] == 0).all()
  for clip in subject.meta.clips:
    rows = times[clip.start:clip.start + clip.num_frames]
    assert rows.min() >= clip.start / 25 and rows.max() <= (clip.start + clip.num_frames) / 25
    middle = rows[clip.num_frames // 2].mean()
    assert abs(middle - (clip.start + clip.num_frames // 2 + 0.5) / 25) <= 0.5 / rate + 1e-4
  new = opened.sound_windows(sound_of(subject), 30, str(save(tmp_path / 'new.npy', array[:60])))
  assert new.shape == (30, 16, 2)
  np.testing.assert_array_equal(new[np.arange(8)], opened.subject_windows(np.arange(8)))


@pytest.mark.parametrize('shape, options, message', [
    ((105, 20, 3), {}, 'windows have 20 steps; must be 16, 32 or 64'),
    ((105, 32, 3), {}, 'give --config.audio.window_steps=32'),
    ((104, 16, 3), {}, 'of 104 frames, .* has 105'),
    ((105, 16, 3), {'features_rate': 50.0}, 'leave config.audio.features_rate=0'),
    ((210, 3), {}, 'give their number a second as --config.audio.features_rate'),
    ((210, 3), {'features_rate': 100.0}, 'are 2.10 s, the sound lasts 4.20 s; at that length the rate would be 50.00'),
    ((210,), {}, 'has 1 dimensions'),
    ((0, 16, 3), {}, 'is empty'),
])
def test_a_file_that_does_not_fit_is_told_in_one_line(subject, tmp_path, shape, options, message):
  path = save(tmp_path / 'x.npy', np.zeros(shape, np.float32))
  with pytest.raises(InputError, match=message) as error:
    open_of(subject, audio_config(path, **options))
  assert '\n' not in str(error.value)


def test_what_is_in_a_file_is_checked(subject, tmp_path):
  array = np.zeros((105, 16, 3), np.float32)
  array[77, 3, 1] = np.nan
  with pytest.raises(InputError, match='row 77 holds NaN'):
    open_of(subject, audio_config(save(tmp_path / 'nan.npy', array)))
  with pytest.raises(InputError, match='holds int64; must be one array of floats'):
    open_of(subject, audio_config(save(tmp_path / 'int.npy', np.zeros((105, 16, 3), np.int64))))
  with pytest.raises(InputError, match='cannot be read as .npy'):
    open_of(subject, audio_config(save(tmp_path / 'objects.npy', np.array([{}, {}]))))
  (tmp_path / 'text.npy').write_text('no array')
  with pytest.raises(InputError, match='cannot be read as .npy'):
    open_of(subject, audio_config(tmp_path / 'text.npy'))
  with pytest.raises(InputError, match='no such file'):
    open_of(subject, audio_config(tmp_path / 'nowhere.npy'))


def test_the_features_of_a_new_sound_are_asked_for_and_checked(subject, tmp_path):
  windows = save(tmp_path / 'x.npy', np.random.default_rng(0).random((105, 16, 3), np.float32))
  opened = open_of(subject, audio_config(windows))
  sound = sound_of(subject)
  with pytest.raises(InputError, match=r'--features FILE.npy, \[N, 16, 3\]'):
    opened.sound_windows(sound, 105)
  with pytest.raises(InputError, match='of 105 frames, the sound lasts 90'):
    opened.sound_windows(sound, 90, str(windows))
  with pytest.raises(InputError, match=r'holds \(105, 16, 4\); the model was trained on \[N, 16, 3\]'):
    opened.sound_windows(sound, 105, str(save(tmp_path / 'wide.npy', np.zeros((105, 16, 4), np.float32))))
  with pytest.raises(InputError, match='leave it out'):
    open_of(subject, audio_config('mel')).sound_windows(sound, 105, str(windows))


@pytest.mark.slow
def test_a_model_trains_and_renders_on_features_from_a_file(tmp_path):
  folder = write_toy_subject(tmp_path / 'toy', clip_frames=(40, 24))
  path = save(tmp_path / 'deepspeech.npy', np.random.default_rng(0).standard_normal((64, 16, 29)).astype(np.float32))
  config = smoke.get_config().unlock()
  config.data.path, config.audio.features = str(folder), str(path)
  config.train.update(batch_size=16, blend_every=2, num_steps=2, blend_start_step=2, eval_every=2)
  config.data.num_val_frames, config.depth.num_frames = 2, 0
  training_loop.train_and_evaluate(config.lock(), str(tmp_path / 'run'))
  person = open_person(tmp_path / 'run', batch_size=1)
  with pytest.raises(InputError, match='--features FILE.npy'):
    person.say(folder / 'audio.wav')
  assert len(list(person.say(folder / 'audio.wav', features=str(path)))) == 64


# ---- speech encoders


def tiny_encoder(folder, family, norm='group'):
  """A randomly initialised encoder, attention sharpened so that context matters, saved to disk; returns the model."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  if family == 'whisper':
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, decoder_layers=1, decoder_attention_heads=2,
        decoder_ffn_dim=64, vocab_size=60, max_source_positions=200, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1)
    model = transformers.WhisperModel(config).eval()
  else:
    kind = {'wav2vec2': (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
            'hubert': (transformers.HubertConfig, transformers.HubertModel)}[family]
    model = kind[1](kind[0](
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm=norm,
        do_stable_layer_norm=norm == 'layer')).eval()
  with torch.no_grad():
    for name, weight in model.named_parameters():
      if 'q_proj.weight' in name or 'k_proj.weight' in name:
        weight.mul_(30)
  model.save_pretrained(folder)
  return model


@pytest.fixture
def speech():
  """12 s of noise whose loudness and colour change, [n] float32."""
  rng = np.random.default_rng(1)
  loudness = np.repeat(rng.uniform(0.01, 0.5, 60), 3200)
  return (loudness * np.sin(np.cumsum(np.repeat(rng.uniform(0.05, 0.8, 240), 800))) + 0.01 * rng.standard_normal(
      192_000)).astype(np.float32)


@pytest.mark.parametrize('family, norm', [('wav2vec2', 'group'), ('wav2vec2', 'layer'), ('hubert', 'group')])
def test_chunks_of_long_sound_give_what_one_pass_gives(tmp_path, monkeypatch, speech, family, norm):
  model = tiny_encoder(tmp_path, family, norm)
  import torch
  sound = (speech * 32767).astype(np.int16)
  speech = sound / np.float32(32768)
  with torch.inference_mode():
    whole = (speech - speech.mean()) / np.sqrt(speech.var() + 1e-7)
    one_pass = model(torch.from_numpy(whole)[None]).last_hidden_state[0].numpy()
  monkeypatch.setattr(speech_encoder, 'CONVOLUTION_S', 0.7)
  encoder = speech_encoder.open_encoder(str(tmp_path))
  assert (encoder.rate, encoder.first_step, encoder.num_channels) == (50.0, 0.625, 32)
  chunked = encoder(sound, 1.0)
  assert chunked.shape == one_pass.shape == (599, 32)
  assert np.abs(chunked - one_pass).max() < 2e-5 * np.abs(one_pass).max() + 2e-5
  # A transformer with a window shorter than the sound is another function; with enough context it is a near one.
  monkeypatch.setattr(speech_encoder, 'ATTENTION_S', 6.0)
  monkeypatch.setattr(speech_encoder, 'ATTENTION_CONTEXT_S', 1.5)
  windowed = encoder(sound, 1.0)
  correlation = np.corrcoef(windowed.ravel(), one_pass.ravel())[0, 1]
  assert windowed.shape == one_pass.shape and correlation > 0.999, correlation


def test_a_whisper_of_a_folder_gives_what_transformers_gives(tmp_path, speech):
  model = tiny_encoder(tmp_path, 'whisper')
  import torch
  encoder = speech_encoder.open_encoder(str(tmp_path))
  assert isinstance(encoder, whisper_speech.WhisperSpeech)
  assert (encoder.rate, encoder.first_step, encoder.num_channels) == (50.0, 0.0, 32)
  sound = (speech[:2 * 16_000] * 20000).astype(np.int16)
  level = whisper_speech.speech_level(sound)
  padded = np.zeros(whisper_speech.HOP * 400 + 240, np.float32)  # its window is 4 s, of which 1 s goes ahead of the sound
  padded[16_000 + 200:][:len(sound)] = sound / np.float32(32768 * level)
  with torch.inference_mode():
    one_pass = model.encoder(torch.from_numpy(whisper_speech.whisper_mel(padded).T[None])).last_hidden_state[0, 50:150].numpy()
  np.testing.assert_allclose(encoder(sound, level), one_pass, atol=1e-4)
  (tmp_path / 'model.safetensors').write_bytes(b'nothing')
  with pytest.raises(InputError, match='download the folder again'):
    speech_encoder.open_encoder(str(tmp_path))


# ---- the package's own encoder


def test_the_place_in_a_window_and_the_loudness_matter_little():
  sound = foreign_sound()[:9 * schema.SAMPLE_RATE]
  encoder, level = whisper_speech.own_encoder(), whisper_speech.speech_level(sound)
  states = encoder(sound, level)
  assert states.shape == (450, 384) and np.isfinite(states).all()
  same = lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1]
  other = encoder(sound, level, rendition=1)
  assert 0.7 < same(states - states.mean(0), other - states.mean(0)) < 0.99
  quiet = (sound // 8).astype(np.int16)
  assert same(states, encoder(quiet, whisper_speech.speech_level(quiet))) > 0.999, 'loudness is levelled'
  late = encoder(np.concatenate([np.zeros(6400, np.int16), sound]), level)[20:]
  assert same(late[:430], states[:430]) > 0.85, 'what is said counts for more than its place'
  assert np.isfinite(encoder(np.zeros(3, np.int16), whisper_speech.speech_level(np.zeros(3, np.int16)))).all()


def test_own_features_hold_mel_and_main_components_on_mels_steps(subject):
  ids = np.arange(40)
  whisper, both, mel = (open_of(subject, audio_config(source)) for source in ('whisper', 'mel+whisper', 'mel'))
  assert (whisper.num_channels, both.num_channels) == (80, 160)
  np.testing.assert_array_equal(both.subject_windows(ids)[..., :80], mel.subject_windows(ids))
  speech = both.subject_speech()
  assert len(speech.steps) == 2
  np.testing.assert_array_equal(speech.steps[0][speech.first[ids][:, None] + np.arange(16)], both.subject_windows(ids))
  spread = speech.steps[0][:, 80:].std(0)
  assert spread[0] > 2 * spread[30] > 0, 'the main components come first and are not whitened'
  clip = subject.meta.clips[0]
  new = both.sound_windows(sound_of(subject)[:clip.num_frames * schema.SAMPLES_PER_FRAME], clip.num_frames)
  assert np.corrcoef(new[ids][..., 80:].ravel(), both.subject_windows(ids)[..., 80:].ravel())[0, 1] > 0.9


def test_other_voices_change_mel_alone(subject):
  config = audio_config('mel+whisper', noise_std=0.0, voice_fraction=1.0)
  windows = open_of(subject, config).subject_windows(np.arange(4))
  changed = np.asarray(augmented(windows, jax.random.split(jax.random.key(0), 4), config))
  np.testing.assert_array_equal(changed[..., 80:], windows[..., 80:])
  assert np.abs(changed[..., :80] - windows[..., :80]).mean() > 0.05


def test_windows_take_over_from_each_other_smoothly_and_completely():
  for length in (1, 39, 40, 41, 77, 100, 163):
    seen = []
    encode = lambda start, stop, seen=seen: seen.append(stop - start) or np.arange(start, stop + 5, dtype=np.float32)[:, None]
    np.testing.assert_allclose(speech_encoder.in_windows(length, 40, 8, encode)[:, 0], np.arange(length), rtol=1e-5)
    assert max(seen) <= 40
  constant = iter((0.0, 1.0))
  fade = speech_encoder.in_windows(60, 40, 8, lambda start, stop: np.full((stop - start, 1), next(constant), np.float32))[:, 0]
  assert (fade[:28] == 0).all() and (fade[36:] == 1).all() and (np.diff(fade) <= 0.2).all()


def test_features_of_an_encoder_are_made_once_and_again_when_something_changes(tmp_path, folder, monkeypatch):
  tiny_encoder(tmp_path / 'tiny', 'wav2vec2')
  shutil.copytree(folder, tmp_path / 'toy', ignore=shutil.ignore_patterns('features'))  # other tests' states are there
  subject = dataset.load_subject(tmp_path / 'toy')
  made = []
  load = features.open_encoder
  monkeypatch.setattr(features, 'open_encoder', lambda name: made.append(1) or load(name))
  config = audio_config(f'hf:{tmp_path}/tiny')
  first = open_of(subject, config)
  ids = np.arange(subject.meta.num_frames)
  windows = first.subject_windows(ids)
  assert windows.shape == (105, 16, 32) and abs(windows.mean()) < 0.1 and 0.5 < windows.std() < 1.5
  array, record = sorted((tmp_path / 'toy/features').iterdir(), key=lambda path: path.suffix, reverse=True)
  told = json.loads(record.read_text())
  assert told['source'] == 'tiny' and told['rate'] == 50 and told['shape'] == list(np.load(array).shape)
  assert 'transformers' in told['library'] and len(told['encoder_sha256']) == 64

  again = open_of(subject, config)
  np.testing.assert_array_equal(again.subject_windows(ids), windows)
  assert made == [1], 'kept'
  sound = sound_of(subject)
  clip = subject.meta.clips[0]
  new = again.sound_windows(sound[:clip.num_frames * schema.SAMPLES_PER_FRAME], clip.num_frames)
  np.testing.assert_allclose(new[ids[:clip.num_frames]], windows[:clip.num_frames], atol=3e-3)  # what is kept is float16

  array.write_bytes(array.read_bytes()[:200])
  np.testing.assert_array_equal(open_of(subject, config).subject_windows(ids), windows)
  tiny_encoder(tmp_path / 'tiny', 'wav2vec2', 'layer')
  assert np.abs(open_of(subject, config).subject_windows(ids) - windows).max() > 0.1
  wavfile.write(subject.folder / 'audio.wav', schema.SAMPLE_RATE, sound[::-1])
  open_of(subject, config)
  assert made == [1] * 5, 'loaded for the new sound too, for a damaged array, other weights and another sound'
  assert not [path for path in (tmp_path / 'toy/features').iterdir() if path.suffix == '.part']


def test_a_folder_that_is_no_encoder_is_told_in_one_line(tmp_path, subject):
  tiny_encoder(tmp_path / 'tiny', 'wav2vec2')
  import transformers

  def message(change):
    copy = pathlib.Path(shutil.copytree(tmp_path / 'tiny', tmp_path / 'copy', dirs_exist_ok=True))
    change(copy)
    with pytest.raises(InputError) as error:
      open_of(subject, audio_config(f'hf:{copy}'))
    shutil.rmtree(copy)
    assert '\n' not in str(error.value)
    return str(error.value)

  def other_family(copy):
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(config | {'model_type': 'bert'}))

  def other_weights(copy):
    shutil.rmtree(copy)
    transformers.BertModel(transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=50,
                                                   intermediate_size=32)).save_pretrained(copy)
    shutil.copy(tmp_path / 'tiny/config.json', copy)

  assert 'no config.json' in message(lambda copy: (copy / 'config.json').unlink())
  assert 'has no weights' in message(lambda copy: (copy / 'model.safetensors').unlink())
  assert 'one of: wav2vec2, hubert, whisper' in message(other_family)
  assert 'are incomplete' in message(other_weights)
  assert 'cannot be loaded' in message(lambda copy: (copy / 'model.safetensors').write_bytes(b'nothing'))
  assert 'cannot be loaded' in message(lambda copy: (copy / 'config.json').write_text('{'))
  with pytest.raises(InputError, match='give an existing folder'):
    open_of(subject, audio_config('hf:/nowhere/at/all'))


def test_without_transformers_the_command_to_install_it_is_told(tmp_path, subject, monkeypatch):
  (tmp_path / 'config.json').write_text('{}')
  (tmp_path / 'model.safetensors').write_bytes(b'')
  monkeypatch.setattr(speech_encoder.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r"pip install -e '\.\[speech\]'"):
    open_of(subject, audio_config(f'hf:{tmp_path}'))
