"""The whole way from a video and a sound to the dubbed video: prepare, train, paint. Each stage goes on where it stopped.

    WORKDIR/            the trained person: a workdir of `speech2lip train`
    WORKDIR/subject/    the subject folder, where the person was trained by this verb
    WORKDIR/videos/     a subject folder for each other video of the person that was dubbed
"""
import functools
import hashlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common import media, recipes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, load_subject
from speech2lip_jax.data.utterance import Utterance, read_utterance
from speech2lip_jax.dubbing import layer, timeline
from speech2lip_jax.dubbing.close_up import find_source
from speech2lip_jax.dubbing.source import Source, open_source
from speech2lip_jax.dubbing.target import CODECS, PICTURES, WITH_ALPHA, open_writer
from speech2lip_jax.preprocess import consent
from speech2lip_jax.preprocess import video as video_module
from speech2lip_jax.provenance.origin import DISCLOSED, Disclosure

if TYPE_CHECKING:
  from speech2lip_jax.dubbing.film import Footage
  from speech2lip_jax.rendering.trained import Trained

# Seconds on two cores, roughly, until a stage has shown how fast this machine is.
S_A_FRAME, S_TRAINING, S_A_PICTURE = 0.03, 120.0, 0.08


class Options(NamedTuple):
  """The verb's flags of these names. segments: as on the command line, or None. disclosure: what the dubs say of themselves.
  consent: of the person that is trained; None asks for it, once, where a terminal is there."""
  fit: str = 'loop'
  start_s: float = 0.0
  segments: str | None = None
  keep_original: bool = True
  crf: int = 17
  codec: str = 'h264'
  alpha: bool = False
  size: int | None = None
  landmarker: str | None = None
  batch_size: int = 8
  features: str | None = None
  disclosure: Disclosure = DISCLOSED
  consent: str | None = None


class Said(NamedTuple):
  """What is said, and the file of the dub."""
  out: pathlib.Path
  utterance: Utterance


def dub(video: str, said: Sequence[Said], workdir: str | None, options: Options, trained: 'Trained | None' = None) -> Iterator[str]:
  """Writes the dubs; yields a line about each.

  Args:
    video: the source.
    said: what is said, and where the dubs go.
    workdir: a trained person, or where to train the one of the video; beside the first dub if not given.
    options: the verb's.
    trained: the person of the workdir, where it is open already.

  Raises:
    InputError: a flag or the video cannot be used, or the video shows another person than the trained one.
  """
  source = open_source(video)
  facts, sound_s = source.facts, [one.utterance.seconds for one in said]
  for one in said:
    if one.out.exists() and one.out.samefile(video):
      raise InputError(f'--out={one.out}: is the video itself; give another name')
    if options.codec == PICTURES:
      layer.check_folder(one.out)
  if options.alpha and options.codec not in WITH_ALPHA:
    raise InputError(f'--alpha: {options.codec} has none; give --codec prores or png')
  if options.alpha and options.disclosure.label != 'off':
    raise InputError(f'--label={options.disclosure.label}: words belong into the finished picture, not into a layer; '
                     'leave --alpha or --label out')
  if options.features and len(said) > 1:
    raise InputError(f'--features={options.features}: are those of one sound; give one with --audio')
  segments = timeline.parse_segments(options.segments, facts.duration_s) if options.segments else None
  plans = [timeline.plan(facts.times_s, facts.duration_s, seconds, options.fit, options.start_s, segments) for seconds in sound_s]
  folder = pathlib.Path(workdir or said[0].out.parent / f'{pathlib.Path(video).stem}.speech2lip')
  person = _Person(folder, video, source, options, trained)
  person.hear_consent()
  stages = _Stages(person.stages() | {f'dub {one.out}': S_A_PICTURE * len(plan.picture) for one, plan in zip(said, plans)})
  for name, work in person.work():
    stages.run(name, work)
  opened: list[tuple[Trained, Footage]] = []
  for one, plan, seconds in zip(said, plans, sound_s):
    stages.run(f'dub {one.out}', functools.partial(_write, person, source, one, plan, segments, options, opened))
    cut_s = timeline.unsaid_s(plan, seconds, segments)
    if cut_s:
      yield (f'{one.out}: the sound lasts {seconds:.1f} s, the {"segments" if segments else "video"} {seconds - cut_s:.1f} s; '
             f'the rest of the sound is cut ({"longer --segments keep" if segments else "--fit loop keeps"} it)')
    yield f'{one.out}: {len(plan.picture)} pictures of {facts.width}×{facts.height}, {plan.duration_s:.2f} s'


def _write(person: '_Person', source: Source, said: Said, plan: timeline.Timeline, segments: Sequence[timeline.Span] | None,
           options: Options, opened: list[tuple['Trained', 'Footage']]) -> None:
  from speech2lip_jax.dubbing import film
  if not opened:  # the model is loaded once
    trained = person.open()
    footage = film.open_footage(trained, source, *person.frames(trained.subject))
    for note in footage.notes:
      print(note, flush=True)
    opened.append((trained, footage))
  (new, rate, mono), original = said.utterance, None
  if segments and options.keep_original and (own := _own_sound(source.facts.path)):
    original, own_rate = own
    new, rate = media.resample(new, rate, own_rate)
  sound = timeline.lay_sound(new, rate, plan, source.facts.duration_s, segments, original)
  origin = options.disclosure.origin(person.folder, opened[0][0].digest, source.facts.path)
  with open_writer(said.out, source.facts, sound, rate, options.crf, options.codec, origin, options.alpha) as writer:
    film.write_dub(*opened[0], plan, timeline.followed_by_silence(mono, schema.SAMPLE_RATE, plan), writer,
                   options.features, origin, options.alpha)


def _own_sound(path: str) -> tuple[np.ndarray, int] | None:
  """The video's own sound [c, n] int16 from its first picture on, and its rate; None where it has none."""
  with video_module.open_container(path) as container:
    if not container.streams.audio:
      return None
    streams = container.streams.audio[0], video_module.video_stream(container, path)
    begins_s = [float((stream.start_time or 0) * (stream.time_base or 0)) for stream in streams]
  sound, rate = media.read_sound(path)
  late = round((begins_s[0] - begins_s[1]) * rate)
  return (np.pad(sound, ((0, 0), (late, 0))) if late > 0 else sound[:, -late:]), rate


def listen(paths: Sequence[str], out: str, codec: str) -> list[Said]:
  """Sound files and the files of their dubs: `out` itself, or a file for each in the folder `out`.

  Raises:
    InputError: a sound cannot be read, or `out` does not fit.
  """
  folder = pathlib.Path(out)
  if len(paths) == 1 and (codec == PICTURES or not folder.is_dir()):
    outs = [dub_file(out, codec)]
  else:
    if folder.suffix or folder.is_file():
      raise InputError(f'--out={out}: {len(paths)} sounds need a folder')
    outs = [folder / f'{pathlib.Path(path).stem}{_suffix(codec)}' for path in paths]
    if len(set(outs)) < len(outs):
      raise InputError(f'--audio={",".join(paths)}: two sounds have one name, and so would their dubs; rename one')
  return [Said(one, read_utterance(path)) for path, one in zip(paths, outs)]


def speak(text: str, voice: str | None, out: str, codec: str) -> list[Said]:
  """What `dubbing.text` speaks, and the file of its dub.

  Raises:
    InputError: no synthesiser is installed, the text cannot be read or spoken, or `out` does not fit.
  """
  from speech2lip_jax.dubbing import text as text_module
  file = dub_file(out, codec)
  synthesiser = text_module.find_synthesiser(voice)
  sound, rate = text_module.speak(text, synthesiser)
  print(f'{synthesiser.title}: {len(sound) / rate:.1f} s; {synthesiser.licence}')
  return [Said(file, Utterance.of(sound, rate))]


def dub_file(out: str, codec: str) -> pathlib.Path:
  """The file of a dub.

  Raises:
    InputError: its name does not end as the codec's files do.
  """
  suffix = _suffix(codec)
  if not suffix and pathlib.Path(out).suffix in ('.png', '.mp4', '.mov'):
    raise InputError(f'--out={out}: --codec {codec} writes a folder of pictures; give its name')
  if suffix and pathlib.Path(out).suffix != suffix:
    raise InputError(f'--out={out}: must end in {suffix} for --codec {codec}')
  return pathlib.Path(out)


def _suffix(codec: str) -> str:
  """Of the files of a codec; none of a folder of pictures."""
  return '' if codec == PICTURES else f'.{CODECS[codec][2]}'


class _Person:
  """The trained person and the subject folder that this video's pictures were tracked in; both made where they are not there."""

  def __init__(self, folder: pathlib.Path, video: str, source: Source, options: Options, trained: 'Trained | None'):
    self.folder, self._video, self._source, self._options, self._trained = folder, video, source, options, trained
    self._own = folder / 'subject'
    self.is_begun = (folder / 'config.json').is_file()
    self._statement: str | None = None
    place = hashlib.sha256(os.path.abspath(video).encode()).hexdigest()[:8]
    self._other = folder / 'videos' / f'{pathlib.Path(video).stem}-{place}'

  def _config(self) -> ConfigDict:
    from speech2lip_jax.workdir import config_file
    return config_file.read_config(self.folder)

  def _trained_on(self) -> pathlib.Path:
    return pathlib.Path(self._config().data.path) if self.is_begun else self._own

  def _is_own(self) -> bool:
    """Whether the video is one that the person was, or will be, trained on."""
    if not self.is_begun:
      return True
    return find_source(load_subject(self._trained_on()), self._source.facts) is not None

  def work(self) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is to be done before the first dub."""
    subject = self._own if self._is_own() else self._other
    if not (self.is_begun and self._is_own()):
      yield 'prepare the video', lambda: self._prepare(subject)
    if not self._is_trained():
      yield 'train the person', self._train

  def stages(self) -> dict[str, float]:
    """Names of `work`, and about how many seconds each takes."""
    expected = {'prepare the video': S_A_FRAME * schema.FPS * self._source.facts.duration_s, 'train the person': S_TRAINING}
    return {name: expected[name] for name, _ in self.work()}

  def _is_trained(self) -> bool:
    if not self.is_begun:
      return False
    return (self.folder / 'checkpoints' / str(self._config().train.num_steps)).is_dir()

  def hear_consent(self) -> None:
    """Asks who agreed, where nobody has been trained yet; see `consent.told`."""
    if self._options.consent is not None or not self.is_begun:
      self._statement = consent.told(self._trained_on(), self._options.consent)
    if self.is_begun:
      self._record_consent()

  def _record_consent(self) -> None:
    if self._statement is not None:
      consent.record(self._trained_on(), self._statement)
      self._statement = None

  def _prepare(self, subject: pathlib.Path) -> None:
    from speech2lip_jax.preprocess import pipeline
    try:
      pipeline.preprocess([self._video], subject, self._options.size, self._options.landmarker, canonical_scale=0.0)
    except InputError:  # a video that cannot be used leaves no folder
      if subject.parent.is_dir() and not any(subject.parent.iterdir()):
        subject.parent.rmdir()
      raise
    if subject == self._own:
      self._record_consent()

  def _train(self) -> None:
    from speech2lip_jax.training.loop import train_and_evaluate
    if self.is_begun:
      config = self._config()
    else:
      config = recipes.load('default').get_config().unlock()
      config.data.path = str(self._own)
    train_and_evaluate(config, str(self.folder))

  def open(self) -> 'Trained':
    """The person, once trained."""
    from speech2lip_jax.rendering.trained import load_trained
    return self._trained or load_trained(str(self.folder), self._options.batch_size)

  def frames(self, trained_subject: Subject) -> tuple[Subject, int]:
    """The subject folder that has this video's pictures, and which of its sources it is."""
    index = find_source(trained_subject, self._source.facts)
    if index is not None:
      return trained_subject, index
    return load_subject(self._other), 0


class _Stages:
  """Says which stage begins and how long all that is left will take, by what the stages before took."""

  def __init__(self, expected_s: dict[str, float]):
    self._left, self._count = dict(expected_s), len(expected_s)
    self._took_s, self._reckoned_s = 0.0, 0.0

  def run(self, name: str, work: Callable[[], Any]) -> None:
    """Does the work of a stage."""
    pace = self._took_s / self._reckoned_s if self._reckoned_s else 1.0
    left_s = sum(self._left.values()) * pace
    reckoned_s = self._left.pop(name)
    number = self._count - len(self._left)
    rest = f', {_in_words(left_s)} until all is done' if self._left else ''
    print(f'\n[{number}/{self._count}] {name}: about {_in_words(reckoned_s * pace)}{rest}', flush=True)
    started = time.monotonic()
    work()
    self._took_s += time.monotonic() - started
    self._reckoned_s += reckoned_s


def _in_words(seconds: float) -> str:
  return f'{max(1, round(seconds))} s' if seconds < 100 else f'{round(seconds / 60)} min'
