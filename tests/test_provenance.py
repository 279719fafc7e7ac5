"""Pictures say what they are: manifest, tags, mark and words, and what `speech2lip inspect` finds of them."""
import json
import multiprocessing
import stat

import av
import cv2
import numpy as np
import pytest

from speech2lip_jax import inspect_file
from speech2lip_jax.common import film_file
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.preprocess import consent
from speech2lip_jax.provenance import code, identity, inspection, manifest, mark, reading
from speech2lip_jax.provenance.label import Label
from speech2lip_jax.provenance.origin import Disclosure

HEIGHT, WIDTH, COUNT, WINDOW, DIGEST = 176, 192, 75, (40, 24, 128, 144), '9a3f' * 16
NUMBER = code.number_of(DIGEST)


def scene(seed=0, count=COUNT):
  """A textured picture with a part in the middle that moves, and noise: [n, H, W, 3] uint8."""
  rng = np.random.default_rng(seed)
  still = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 3) * 3 - 255
  pictures = []
  for number in range(count):
    picture = still.copy()
    cv2.ellipse(picture, (96, 110), (28, 4 + int(9 * abs(np.sin(number / 4)))), 0, 0, 360, (60, 20, 20), -1)
    pictures.append(np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8))
  return np.stack(pictures)


def marked(pictures, number=NUMBER):
  one = mark.Mark(number)
  return np.stack([one.add(picture, WINDOW, n / 25) for n, picture in enumerate(pictures)])


def read(pictures):
  return reading.read([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures], np.arange(len(pictures)) / 25)


def write(path, pictures, crf=17, origin=None):
  sound = np.zeros((1, 640 * len(pictures)), np.int16)
  with film_file.Mp4Writer(path, *pictures[0].shape[:2], 25, sound, 16_000, crf, origin=origin) as writer:
    for picture in pictures:
      writer.write(picture)
  return str(path)


@pytest.fixture(autouse=True)
def config_folder(tmp_path, monkeypatch):
  """No test touches the user's own identity."""
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config'))
  for name in (identity.CERTIFICATE_VARIABLE, identity.KEY_VARIABLE):
    monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope='module')
def pictures():
  return scene()


def test_every_word_of_the_code_differs_from_every_other_in_four_bits():
  words = code.words()
  agreement = words @ words.T
  assert (np.diag(agreement) == 16).all()
  assert (agreement - np.diag(np.diag(agreement))).max() == 16 - 2 * 4
  assert code.number_of('ffe0') == 2047 and code.number_of('0010') == 0 and code.number_of('0020') == 1


def test_each_part_of_the_pattern_has_every_bit_once():
  assert all(sorted(mark.BITS[row:row + 4, column:column + 8].ravel()) == list(range(32))
             for row in range(0, 32, 4) for column in range(0, 32, 8))


def test_the_mark_changes_the_window_alone_and_by_two_levels_at_most(pictures):
  changed = marked(pictures).astype(int) - pictures
  assert np.abs(changed).max() == 2
  top, left, height, width = WINDOW
  inside = changed[:, top:top + height, left:left + width].copy()
  changed[:, top:top + height, left:left + width] = 0
  assert not changed.any()
  assert np.abs(inside).mean() > 0.9
  np.testing.assert_array_equal(np.sign(inside[0]), -np.sign(inside[5]))  # 0.2 s later


def test_smooth_skin_is_changed_by_one_level(pictures):
  flat = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
  assert np.abs(mark.Mark(1).add(flat, WINDOW, 0.0).astype(int) - 150).max() == 1


def test_a_part_of_a_picture_is_marked_as_in_the_whole(pictures):
  whole = mark.Mark(7).add(pictures[0], (40, 24, 80, 136), 0.3)
  part = mark.Mark(7).add(np.ascontiguousarray(pictures[0][40:120, 24:160]), (0, 0, 80, 136), 0.3, (40, 24))
  np.testing.assert_array_equal(part, whole[40:120, 24:160])
  picture = pictures[0]
  assert mark.Mark(7).add(picture, (500, 0, 10, 10), 0.0) is picture


def test_the_mark_is_read_after_h264_and_the_number_with_it(pictures, tmp_path):
  path = write(tmp_path / 'a.mp4', marked(pictures), crf=28)
  found = inspection.inspect(path)
  assert found.told is None and not found.tags
  assert found.mark.is_marked and found.mark.number == NUMBER and found.mark.is_whole
  assert (found.mark.bits == code.bits_of(NUMBER)).mean() >= 0.9


@pytest.mark.parametrize('scale', [0.5, 1.5])
def test_the_mark_is_read_after_a_change_of_size(pictures, scale):
  resized = [cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
             for picture in marked(pictures)]
  found = read(resized)
  assert found.is_marked and found.number == NUMBER and found.scale == pytest.approx(scale, rel=0.03)


def test_the_mark_is_read_where_edges_and_beginning_were_cut(pictures):
  cut = [cv2.cvtColor(picture[5:, 11:], cv2.COLOR_RGB2GRAY) for picture in marked(pictures)[4:]]
  found = reading.search(reading.beat(cut, np.arange(len(cut)) / 25), is_whole=False)
  assert found.is_marked and found.number == NUMBER and found.scale == pytest.approx(1, abs=0.04)
  assert np.abs(np.array(found.shift) - (5, 11)).max() <= 4


@pytest.mark.parametrize('seed', [1, 2])
def test_no_mark_is_found_where_there_is_none(seed):
  found = read(scene(seed, 30))
  assert not found.is_marked and found.log_chance > np.log(reading.ACCEPTED_CHANCE)
  assert not read(np.zeros((30, 40, 40, 3), np.uint8)).is_marked  # smaller than what is searched


def test_a_signed_file_says_who_and_what(pictures, tmp_path):
  origin = Disclosure().origin(tmp_path / 'runs' / 'anna', DIGEST)
  path = write(tmp_path / 'a.mp4', marked(pictures[:25]), origin=origin)
  assert sorted(one.name for one in tmp_path.iterdir()) == ['a.mp4', 'config']
  found = inspection.inspect(path)
  assert found.told.is_valid and not found.told.is_trusted and not found.told.problems
  assert found.told.actions[0] == 'created (trainedAlgorithmicMedia)' and found.told.model.startswith('anna (sha256 9a3f')
  assert found.tags['comment'].startswith('AI-generated') and 'anna' in found.tags['comment']
  with av.open(path) as container:
    assert len(list(container.decode(video=0))) == 25
  one, two, three = inspect_file.lines(found)
  assert one.startswith('manifest: valid') and two.startswith('tags:') and f'number {NUMBER}' in three


@pytest.mark.parametrize('name, is_named', [('take.mp4', True), ('take.mkv', False)])
def test_an_edited_video_names_its_source(pictures, tmp_path, name, is_named):
  source = write(tmp_path / name, pictures[:15])
  path = write(tmp_path / 'b.mp4', pictures[:15], origin=Disclosure().origin('anna', DIGEST, source))
  told = manifest.read(path)
  assert told.is_valid
  assert told.actions[:-1] == (['opened', 'edited (compositeWithTrainedAlgorithmicMedia)'] if is_named else
                               ['created (compositeWithTrainedAlgorithmicMedia)'])
  assert inspection.tags_of(path)['comment'].startswith('AI-modified')


def test_a_changed_file_is_not_valid(pictures, tmp_path):
  path = tmp_path / 'a.mp4'
  write(path, pictures[:15], origin=Disclosure().origin('anna', DIGEST))
  data = bytearray(path.read_bytes())
  data[data.rfind(b'mdat') + 900] ^= 1
  path.write_bytes(data)
  told = manifest.read(path)
  assert not told.is_valid and told.problems == ['assertion.bmffHash.mismatch']


def test_a_file_that_cannot_be_signed_does_not_appear(pictures, tmp_path):
  origin = Disclosure().origin('anna', DIGEST)
  broken = origin._replace(signer=origin.signer._replace(algorithm='ps256'))  # not that of the key
  with pytest.raises(InputError, match='--certificate'):
    write(tmp_path / 'out' / 'a.mp4', pictures[:10], origin=broken)
  assert not list((tmp_path / 'out').iterdir())


def test_a_mov_of_prores_and_a_png_are_signed_too(tmp_path):
  origin = Disclosure().origin('anna', DIGEST)
  movie, picture = tmp_path / 'a.mov', tmp_path / 'a.png'
  with av.open(str(movie), 'w', options={'movflags': 'faststart'}) as container:
    stream = container.add_stream('prores_aw', rate=25)
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuv422p10le'
    for _ in range(15):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format='rgb24')))
    container.mux(stream.encode())
  cv2.imwrite(str(picture), np.zeros((16, 16, 3), np.uint8))
  for path in (movie, picture):
    origin.sign(path)
    assert manifest.read(path).is_valid
  assert inspection.inspect(str(picture)).mark is None


def test_words_and_metadata_for_china(pictures, tmp_path):
  path = write(tmp_path / 'a.mp4', pictures[:15], origin=Disclosure(label='cn').origin('anna', DIGEST))
  record = json.loads(inspection.tags_of(path)['AIGC'])
  assert record['Label'] == '1' and record['ContentProducer'] and record['ProduceID']
  assert manifest.read(path).is_valid and inspection.tags_of(path)['comment'].startswith('AI-generated')


@pytest.mark.parametrize('law, lasts_s', [('eu', 3600.0), ('cn', 2.0)])
def test_words_are_seen_as_long_and_as_high_as_the_law_wants(law, lasts_s):
  grey = np.full((360, 640, 3), 120, np.uint8)
  label = Label(law, is_edited=False)
  top, left, height, width = label.box(360, 640)
  seen = label.add(grey, lasts_s)
  is_white = (seen[top:top + height, left:left + width] > 200).all(-1)
  assert np.flatnonzero(is_white.any(1)).size >= 0.05 * 360 * 0.9
  changed = (seen != grey).any(-1)
  changed[top:top + height, left:left + width] = False
  assert not changed.any() and top % 2 == left % 2 == height % 2 == width % 2 == 0
  assert (label.add(grey, 5.0) is grey) == (law == 'cn')


def test_words_fit_into_a_small_picture():
  assert Label('eu', True).add(np.zeros((64, 64, 3), np.uint8), 0.0).shape == (64, 64, 3)


def test_the_identity_is_made_once_for_its_owner_alone():
  first, path = identity.find(), identity.made_path()
  assert stat.S_IMODE(path.stat().st_mode) == 0o600 and not list(path.parent.glob('.*'))
  assert identity.find() == first
  path.write_text('damaged')
  with pytest.raises(InputError, match='delete'):
    identity.find()


def _found(_):
  return identity.find().key


def test_processes_that_make_it_at_once_agree():
  with multiprocessing.get_context('fork').Pool(4) as pool:
    assert len(set(pool.map(_found, range(8), chunksize=1))) == 1


def test_where_nothing_can_be_kept_it_is_made_for_once(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'file'))
  assert identity.find().name == identity.MADE_NAME


def test_ones_own_certificate_signs(pictures, tmp_path, monkeypatch):
  pem = identity._new().replace('-----END PRIVATE KEY-----\n', '-----END PRIVATE KEY-----\n\0').split('\0')
  (tmp_path / 'key.pem').write_text(pem[0])
  (tmp_path / 'chain.pem').write_text(pem[1])
  monkeypatch.setenv(identity.CERTIFICATE_VARIABLE, str(tmp_path / 'chain.pem'))
  with pytest.raises(InputError, match='give both'):
    Disclosure().signer()
  monkeypatch.setenv(identity.KEY_VARIABLE, str(tmp_path / 'key.pem'))
  assert Disclosure().signer().key in pem[0] and not identity.made_path().exists()
  (tmp_path / 'other.pem').write_text(identity._new())
  for certificate, key, told in (('none.pem', 'key.pem', 'cannot be read'), ('key.pem', 'key.pem', 'no certificate'),
                                 ('chain.pem', 'chain.pem', 'no private key'), ('chain.pem', 'other.pem', 'belong together')):
    with pytest.raises(InputError, match=told) as error:
      Disclosure(certificate=str(tmp_path / certificate), key=str(tmp_path / key)).signer()
    assert '\n' not in str(error.value)


def test_a_certificate_whose_time_is_over_is_refused(monkeypatch):
  monkeypatch.setattr(identity, 'YEARS', -0.001)  # until 9 hours ago
  made = identity._new()
  with pytest.raises(InputError, match='valid until'):
    identity._parsed(made, made, 'a.pem', 'a.pem')


def test_nothing_is_written_where_it_is_switched_off():
  assert Disclosure(is_on=False).origin('anna', DIGEST) is None and not identity.made_path().exists()
  with pytest.raises(InputError, match='--noprovenance'):
    Disclosure(is_on=False, label='eu').signer()


def test_what_is_no_video_is_one_line(tmp_path):
  text = tmp_path / 'a.mp4'
  text.write_text('hello')
  for path in (text, tmp_path / 'none.mp4', tmp_path / 'none.png'):
    with pytest.raises(InputError) as error:
      inspection.inspect(str(path))
    assert str(path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('kind', ['plain', 'marked', 'signed', 'broken'])
def test_the_exit_status_says_what_was_found(kind, monkeypatch, capsys):
  nothing = reading.Reading(False, 0, np.ones(32, int), 5.0, 0.0, 1.0, (0, 0), True, (0, 0, 0, 0))
  told = manifest.Told(kind == 'signed', False, 'somebody', 'tool 1', ['created'], '', [] if kind == 'signed' else ['mismatch'])
  monkeypatch.setattr(inspection, 'inspect', lambda path: inspection.Findings(
      told if kind in ('signed', 'broken') else None, {}, nothing._replace(is_marked=kind == 'marked', log_chance=-30.0)))
  expected = {'plain': 1, 'broken': 3}.get(kind)
  if expected:
    with pytest.raises(SystemExit) as ended:
      inspect_file.main(['a.mp4'])
    assert ended.value.code == expected
  else:
    inspect_file.main(['a.mp4'])
  assert len(capsys.readouterr().out.splitlines()) == 3


def test_consent_is_kept_and_added_to(tmp_path, monkeypatch):
  consent.record(tmp_path, consent.told(tmp_path, '  Anna Bell, 3 May, adverts for tea '))
  consent.record(tmp_path, 'and for coffee')
  assert [one['text'] for one in consent.statements(tmp_path)] == ['Anna Bell, 3 May, adverts for tea', 'and for coffee']
  with pytest.raises(InputError, match='--consent'):
    consent.told(tmp_path, ' ')
  (tmp_path / 'consent.json').write_text('[')
  with pytest.raises(InputError, match='consent.json'):
    consent.told(tmp_path, 'Anna')


def test_consent_is_asked_for_once_and_at_a_terminal_only(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr('builtins.input', lambda question: asked.append(question) or 'Anna agreed')
  assert consent.told(tmp_path, None) is None and not asked
  monkeypatch.setattr(consent.sys, 'stdin', type('Terminal', (), {'isatty': lambda self: True})())
  monkeypatch.setattr(consent.sys, 'stdout', type('Terminal', (), {'isatty': lambda self: True})())
  consent.record(tmp_path, consent.told(tmp_path, None))
  assert len(asked) == 1 and consent.told(tmp_path, None) is None and len(asked) == 1
