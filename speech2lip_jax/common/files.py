"""Files that appear under their name only when complete."""
import os
import pathlib


def write_text(path: os.PathLike | str, text: str) -> None:
  """Writes a text file beside its place and renames it there; the folder must exist."""
  path = pathlib.Path(path)
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)
