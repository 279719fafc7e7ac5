"""`speech2lip dub` as a whole: which stages it does, what it refuses before any long work, and where it puts things."""
import contextlib
import json
import pathlib
import types

import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.dubbing import film, job
from speech2lip_jax.dubbing.source import open_source
from speech2lip_jax.preprocess import consent, pipeline
from speech2lip_jax.training import loop
from tests.test_dubbing_film import write_video


def write_sound(path, seconds=0.4):
  wavfile.write(path, 16_000, np.zeros(round(16_000 * seconds), np.int16))
  return str(path)


def test_one_sound_has_a_file_and_several_have_a_folder(tmp_path):
  one, two = (write_sound(tmp_path / f'{name}.wav') for name in 'ab')
  assert [said.out for said in job.listen([one], str(tmp_path / 'x.mp4'), 'h264')] == [tmp_path / 'x.mp4']
  outs = [said.out for said in job.listen([one, two], str(tmp_path / 'dubs'), 'prores')]
  assert outs == [tmp_path / 'dubs' / 'a.mov', tmp_path / 'dubs' / 'b.mov']


@pytest.mark.parametrize('out, codec, told', [('x.avi', 'h264', 'must end in .mp4'), ('x.mp4', 'prores', 'must end in .mov')])
def test_a_result_of_another_kind_is_named(tmp_path, out, codec, told):
  with pytest.raises(InputError, match=told):
    job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / out), codec)


def test_two_sounds_of_one_name_and_two_for_one_file_are_named(tmp_path):
  (tmp_path / 'other').mkdir()
  sounds = [write_sound(tmp_path / 'a.wav'), write_sound(tmp_path / 'other' / 'a.wav')]
  with pytest.raises(InputError, match='two sounds have one name'):
    job.listen(sounds, str(tmp_path / 'dubs'), 'h264')
  with pytest.raises(InputError, match='need a folder'):
    job.listen(sounds, str(tmp_path / 'x.mp4'), 'h264')


@pytest.fixture
def stages(monkeypatch):
  """The work that would be long, written down instead of done."""
  done = []

  def preprocess(videos, out, size, landmarker, canonical_scale):
    done.append(('prepare', pathlib.Path(out).name))

  def train(config, workdir):
    done.append(('train', pathlib.Path(config.data.path).name))
    (pathlib.Path(workdir) / 'checkpoints' / str(config.train.num_steps)).mkdir(parents=True)
    (pathlib.Path(workdir) / 'config.json').write_text(json.dumps(config.to_dict()))
  monkeypatch.setattr(pipeline, 'preprocess', preprocess)
  monkeypatch.setattr(loop, 'train_and_evaluate', train)
  monkeypatch.setattr(job, '_write', lambda person, source, said, *rest: done.append(('dub', said.out.name)))
  monkeypatch.setattr(job, 'find_source', lambda subject, facts: 0 if 'own' in facts.path else None)
  monkeypatch.setattr(job, 'load_subject', lambda folder: None)
  return done


def test_a_person_is_trained_once_and_another_video_is_only_prepared(tmp_path, stages):
  own, other = (write_video(tmp_path / f'{name}.mp4') for name in ('own', 'other'))
  said = job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / 'out.mp4'), 'h264')
  lines = list(job.dub(own, said, None, job.Options()))
  assert stages == [('prepare', 'subject'), ('train', 'subject'), ('dub', 'out.mp4')]
  assert len(lines) == 1 and '10 pictures of 128×96' in lines[0]
  assert (tmp_path / 'own.speech2lip' / 'config.json').is_file()
  stages.clear()
  list(job.dub(own, said, None, job.Options()))
  assert stages == [('dub', 'out.mp4')]
  stages.clear()
  list(job.dub(other, said, str(tmp_path / 'own.speech2lip'), job.Options()))
  assert [name for name, _ in stages] == ['prepare', 'dub'] and stages[0][1].startswith('other-')


def test_a_training_that_was_stopped_goes_on(tmp_path, stages):
  own = write_video(tmp_path / 'own.mp4')
  said = job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / 'out.mp4'), 'h264')
  list(job.dub(own, said, None, job.Options()))
  checkpoint, = (tmp_path / 'own.speech2lip' / 'checkpoints').iterdir()
  checkpoint.rename(checkpoint.with_name('5'))
  stages.clear()
  list(job.dub(own, said, None, job.Options()))
  assert stages == [('train', 'subject'), ('dub', 'out.mp4')]


def test_a_longer_sound_that_is_cut_is_told(tmp_path, stages):
  own = write_video(tmp_path / 'own.mp4')
  said = job.listen([write_sound(tmp_path / 'a.wav', 3.0)], str(tmp_path / 'out.mp4'), 'h264')
  lines = list(job.dub(own, said, None, job.Options(fit='video')))
  assert 'the rest of the sound is cut' in lines[0] and '16 pictures' in lines[1]


def test_a_sound_longer_than_its_segments_is_told(tmp_path, stages):
  own = write_video(tmp_path / 'own.mp4')
  said = job.listen([write_sound(tmp_path / 'a.wav', 0.4)], str(tmp_path / 'out.mp4'), 'h264')
  lines = list(job.dub(own, said, None, job.Options(fit='video', segments='0.1-0.3')))
  assert 'lasts 0.4 s, the segments 0.2 s; the rest of the sound is cut (longer --segments keep it)' in lines[0]


def test_a_mouth_is_given_silence_to_rest_in_after_a_short_sound(tmp_path, monkeypatch):
  source = open_source(write_video(tmp_path / 'own.mp4'))
  said, = job.listen([write_sound(tmp_path / 'a.wav', 0.2)], str(tmp_path / 'out.mp4'), 'h264')
  facts, heard = source.facts, []
  plan = job.timeline.plan(facts.times_s, facts.duration_s, 0.2, 'video', 0.0, None)
  monkeypatch.setattr(job, 'open_writer', lambda *_: contextlib.nullcontext())
  monkeypatch.setattr(film, 'write_dub', lambda trained, footage, plan, mono, writer, *_: heard.append(len(mono)))
  person, trained = types.SimpleNamespace(folder='anna'), types.SimpleNamespace(digest='ab' * 32)
  job._write(person, source, said, plan, None, job.Options(fit='video'), [(trained, None)])
  assert heard == [pytest.approx(facts.times_s[-1] * 16_000, abs=1)] and heard[0] > 1.5 * len(said.utterance.mono)


def test_the_video_itself_is_never_written_over(tmp_path, stages):
  own = write_video(tmp_path / 'own.mp4')
  before = pathlib.Path(own).read_bytes()
  said = job.listen([write_sound(tmp_path / 'a.wav')], own, 'h264')
  with pytest.raises(InputError, match='is the video itself'):
    list(job.dub(own, said, None, job.Options()))
  assert stages == [] and pathlib.Path(own).read_bytes() == before


def test_who_agreed_is_kept_with_the_person(tmp_path, stages):
  own, said = write_video(tmp_path / 'own.mp4'), job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / 'out.mp4'), 'h264')
  subject = tmp_path / 'anna' / 'subject'
  with pytest.raises(InputError, match='--consent: has 0 characters'):
    list(job.dub(own, said, str(tmp_path / 'anna'), job.Options(consent=' ')))
  assert stages == [] and not subject.exists()
  subject.mkdir(parents=True)
  list(job.dub(own, said, str(tmp_path / 'anna'), job.Options(consent='Anna, today')))
  list(job.dub(own, said, str(tmp_path / 'anna'), job.Options()))
  list(job.dub(own, said, str(tmp_path / 'anna'), job.Options(consent='Anna, once more')))
  assert [one['text'] for one in consent.statements(subject)] == ['Anna, today', 'Anna, once more']


def test_a_video_that_cannot_be_used_leaves_no_folder(tmp_path, monkeypatch):

  def refuse(videos, out, *rest, **options):
    out.mkdir(parents=True)
    out.rmdir()
    raise InputError('no face found')
  monkeypatch.setattr(pipeline, 'preprocess', refuse)
  said = job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / 'out.mp4'), 'h264')
  video = write_video(tmp_path / 'plain.mp4')
  before = sorted(tmp_path.iterdir())
  with pytest.raises(InputError, match='no face found'):
    list(job.dub(video, said, None, job.Options()))
  assert sorted(tmp_path.iterdir()) == before


def test_what_is_wrong_is_told_before_any_work(tmp_path, stages):
  own = write_video(tmp_path / 'own.mp4')
  said = job.listen([write_sound(tmp_path / 'a.wav')], str(tmp_path / 'out.mp4'), 'h264')
  for options, told in ((job.Options(start_s=9.0), '--start=9'), (job.Options(fit='video', segments='3-4'), 'reaches beyond'),
                        (job.Options(fit='video', start_s=0.2, segments='0.3-0.4'), 'leave --start out')):
    with pytest.raises(InputError, match=told):
      list(job.dub(own, said, None, options))
  assert stages == []


def test_the_videos_own_sound_begins_with_its_pictures(tmp_path):
  path = write_video(tmp_path / 'a.mp4')
  sound, rate = job._own_sound(path)
  assert sound.shape[0] == 1 and rate == 16_000
  assert job._own_sound(write_video(tmp_path / 'b.mp4', sound=False)) is None
  assert open_source(path).facts.durations_s[-1] == pytest.approx(0.04, abs=0.01)


def test_the_last_stage_knows_how_fast_the_others_were(capsys, monkeypatch):
  clock = iter([0.0, 20.0, 20.0, 21.0])
  monkeypatch.setattr(job.time, 'monotonic', lambda: next(clock))
  stages = job._Stages({'a': 10.0, 'b': 30.0})
  stages.run('a', lambda: None)
  stages.run('b', lambda: None)
  told = capsys.readouterr().out
  assert '[1/2] a: about 10 s, 40 s until all is done' in told and '[2/2] b: about 60 s' in told
