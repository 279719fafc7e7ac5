"""What the page and the API share."""
import dataclasses
import pathlib

from speech2lip_jax.app.jobs import Queue, Verbs
from speech2lip_jax.app.people import People


@dataclasses.dataclass(frozen=True)
class State:
  """The people, the queue, where uploads lie, and the largest file that is taken, bytes."""
  people: People
  queue: Queue
  uploads: pathlib.Path
  max_upload: int

  @classmethod
  def open(cls, folder: pathlib.Path, verbs: Verbs, max_upload: int) -> 'State':
    """The state that a folder holds; the queue begins to work."""
    people = People(folder)
    return cls(people, Queue(folder, people, verbs), folder / 'uploads', max_upload)
