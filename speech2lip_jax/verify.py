"""Reads every byte of what this program made, and tells what is damaged.

    speech2lip verify subjects/anna runs/anna
    speech2lip verify --record subjects/anna

PATH is a subject folder, a workdir of train or dub (with its checkpoints, its subject and its experts), an expert, or a folder that
holds some of them. What opens a folder looks at sizes, formats, values and the small files' checksums; this looks at all. Exit
status 1 means damage; each line names the file and the remedy. Folders of before there were checksums say so.
"""
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError

WORDS = 'PATH …'

_RECORD = flags.DEFINE_bool('record', False, 'For subject folders: take what is there for right, and write its checksums; where a '
                            'file was changed on purpose, or the folder is of before there were any.')


def _parts(path: pathlib.Path, depth: int = 2) -> Iterator[tuple[str, pathlib.Path]]:
  """(kind, folder) of all that lies at or in a folder."""
  for file, kind in (('meta.json', 'subject'), ('config.json', 'workdir'), ('expert.json', 'expert')):
    if (path / file).is_file():
      yield kind, path
      if kind != 'workdir':
        return
  if depth and path.is_dir():
    for inside in sorted(path.iterdir()):
      if inside.is_dir() and inside.name not in ('checkpoints', 'stages', 'tensorboard', 'samples', 'features'):
        yield from _parts(inside, depth - 1)


def _all_parts(paths: Sequence[str]) -> list[tuple[str, pathlib.Path]]:
  """What lies at the paths, and the subjects of the workdirs there, each once.

  Raises:
    InputError: a path has nothing of ours.
  """
  found: dict[pathlib.Path, tuple[str, pathlib.Path]] = {}
  for path in paths:
    parts = list(_parts(pathlib.Path(path)))
    if not parts:
      raise InputError(f'{path}: is no subject folder, workdir or expert, and holds none'
                       if pathlib.Path(path).exists() else f'{path}: no such folder')
    for kind, folder in parts:
      found.setdefault(folder.resolve(), (kind, folder))
      if kind == 'workdir':
        from speech2lip_jax.workdir.config_file import read_config
        try:
          subject = pathlib.Path(read_config(folder).data.path)
        except InputError:
          continue  # is told with the workdir
        if (subject / 'meta.json').is_file():
          found.setdefault(subject.resolve(), ('subject', subject))
  return list(found.values())


def _look(kind: str, folder: pathlib.Path) -> tuple[list[str], str]:
  """Lines on damage, and what was looked at in words."""
  if kind == 'subject':
    from speech2lip_jax.data import schema
    lines, meta = schema.damage(folder)
    return lines, ('no checksums recorded (--record writes them); formats and values are right' if meta and meta.files is None
                   else f'{len(schema.file_names(meta)) + 1} files' if meta else '')
  if kind == 'expert':
    from speech2lip_jax.sync import expert
    return expert.damage(folder), '2 files'
  from speech2lip_jax.workdir import checkpoint
  steps = checkpoint.steps_in(folder / 'checkpoints')
  lines = list(checkpoint.damage(folder))
  if lines:
    return lines, ''
  unsealed = [step for step in steps if not checkpoint.read_records(folder / 'checkpoints' / str(step))]
  told = f'config.json, checkpoints of step {", ".join(map(str, steps))}' if steps else 'config.json, no checkpoint yet'
  return lines, told + (f' (no checksums recorded at step {", ".join(map(str, unsealed))})' if unsealed else '')


def main(paths: Sequence[str]) -> None:
  """The verb."""
  if not paths:
    raise InputError('which? give a subject folder, a workdir or an expert: speech2lip verify PATH')
  is_damaged = False
  for kind, folder in _all_parts(paths):
    started = time.monotonic()
    if _RECORD.value and kind == 'subject':
      from speech2lip_jax.data import schema
      schema.write_meta(folder, schema.read_meta(folder))
    lines, told = _look(kind, folder)
    for line in lines:
      print(line)
    is_damaged |= bool(lines)
    seconds = f'{time.monotonic() - started:.1f} s'
    print(f'{folder}: {kind} damaged, {len(lines)} line(s) above' if lines else f'{folder}: {kind} whole: {told}, {seconds}')
  if is_damaged:
    sys.exit(1)


if __name__ == '__main__':
  cli.run_verb('verify', sys.modules[__name__], sys.argv)
