"""The app's folder: people by name, and what is known of each without opening a model.

    FOLDER/people/NAME/video.EXT    as it was given
    FOLDER/people/NAME/subject/     of `speech2lip preprocess`
    FOLDER/people/NAME/run/         of `speech2lip train`; eval/report.html in it of `speech2lip evaluate`
    FOLDER/people/NAME/said/        sounds that were given, and what the person says, named by the job
    FOLDER/jobs/                    what is to be done and was (`app.jobs`)
    FOLDER/uploads/                 files on their way
"""
import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from speech2lip_jax.common.errors import InputError

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}')
SAID = re.compile(r'[0-9]{8}-[0-9]{6}-[0-9]{6}')  # what a job is called


class UnknownPerson(InputError):
  """Nobody of that name is here."""


class Person:
  """One person's folder."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.name = folder, folder.name
    self.subject, self.run, self.said = folder / 'subject', folder / 'run', folder / 'said'
    self.report = self.run / 'eval' / 'report.html'

  @property
  def video(self) -> pathlib.Path:
    """The video that was given."""
    return next(iter(sorted(self.folder.glob('video.*'))), self.folder / 'video')

  def is_prepared(self) -> bool:
    """Whether the subject folder is whole."""
    return (self.subject / 'meta.json').is_file()

  def steps(self) -> tuple[int, int]:
    """Steps of the newest checkpoint, 0 where there is none, and those that the training has."""
    try:
      wanted = json.loads((self.run / 'config.json').read_text(encoding='utf-8'))['train']['num_steps']
    except (OSError, ValueError, KeyError, TypeError):
      return 0, 0
    folder = self.run / 'checkpoints'
    done = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return max(done, default=0), int(wanted)

  def state(self) -> str:
    """'new', 'prepared', 'begun' (a checkpoint is there, not the last) or 'trained'."""
    if not self.is_prepared():
      return 'new'
    done, wanted = self.steps()
    return 'prepared' if not done else 'trained' if done >= wanted else 'begun'

  def warnings(self) -> list[str]:
    """What preprocess has to say about the video."""
    try:
      report = json.loads((self.subject / 'meta.json').read_text(encoding='utf-8'))['report']
      return [str(line) for line in [*report.get('warnings', []), *report.get('notes', [])]]
    except (OSError, ValueError, KeyError, TypeError):
      return []

  def log(self) -> list[dict[str, Any]]:
    """What training has logged, one record a line; the last one may be half written."""
    records = []
    try:
      for line in (self.run / 'log.jsonl').read_text(encoding='utf-8').splitlines():
        records.append(json.loads(line))
    except (OSError, ValueError):
      pass
    return records

  def sample(self) -> pathlib.Path | None:
    """The newest picture of true frames over rendered ones."""
    return next(iter(sorted((self.run / 'samples').glob('*.png'), reverse=True)), None)

  def said_files(self) -> list[pathlib.Path]:
    """What the person said, newest first."""
    return sorted((path for path in self.said.glob('*.mp4') if SAID.fullmatch(path.stem)), reverse=True)


class People:
  """All people of the app's folder."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder / 'people'
    self._folder.mkdir(parents=True, exist_ok=True)

  def __iter__(self) -> Iterator[Person]:
    return iter([Person(path) for path in sorted(self._folder.iterdir()) if path.is_dir() and NAME.fullmatch(path.name)])

  def find(self, name: str | None) -> Person:
    """The person of that name.

    Raises:
      UnknownPerson: there is none.
    """
    if not name or not NAME.fullmatch(name) or not (self._folder / name).is_dir():
      raise UnknownPerson(f'nobody called {name!r} is here; there are: {", ".join(one.name for one in self) or "none yet"}')
    return Person(self._folder / name)

  def add(self, name: str, video: pathlib.Path) -> Person:
    """A new person with a video, which is moved in.

    Raises:
      InputError: the name cannot be used, or is taken.
    """
    if not NAME.fullmatch(name):
      raise InputError(f'the name {name!r}: give 1 … 64 letters, digits, - and _ (a … z), beginning with a letter or digit')
    person = Person(self._folder / name)
    if person.folder.exists():
      raise InputError(f'{name} is here already; choose another name')
    person.said.mkdir(parents=True)
    suffix = re.sub(r'[^a-z0-9]', '', video.suffix.lower()) or 'mp4'
    shutil.move(video, person.folder / f'video.{suffix}')
    return person
