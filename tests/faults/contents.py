"""What a run left: a digest of every file, checkpoint and film, but for what two equal runs do not share."""
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

TIMES = ('seconds', 'seconds_per_frame', 'train_s', 'checksum')  # keys of records, anywhere in them; a checksum is of times too
LEFT_OUT = ('tensorboard', 'stages', 'features')  # folders: events of TensorBoard, and what serves a later run alone


def _records(value: Any) -> Any:
  """A parsed JSON value without the times in it."""
  if isinstance(value, dict):
    return {name: _records(item) for name, item in value.items() if name not in TIMES and not name.startswith('time/')}
  if isinstance(value, list):
    return [_records(item) for item in value]
  return float(value) if isinstance(value, int) else value


def _film(path: pathlib.Path) -> bytes:
  import av
  digest = hashlib.sha256()
  with av.open(str(path)) as container:
    for frame in container.decode():
      digest.update(str(frame.pts).encode() + frame.to_ndarray().tobytes())
  return digest.digest()


def digest(path: pathlib.Path) -> str:
  """Of a file's contents."""
  if path.suffix in ('.mp4', '.mov'):
    content = _film(path)
  elif path.suffix == '.npz':
    with np.load(path) as arrays:
      content = b''.join(name.encode() + arrays[name].tobytes() for name in sorted(arrays.files))
  elif path.suffix == '.json':
    content = json.dumps(_records(json.loads(path.read_text())), sort_keys=True).encode()
  elif path.suffix == '.jsonl':
    lines = [_records(json.loads(line)) for line in path.read_text().splitlines()]
    content = json.dumps([line for line in lines if len(line) > 1], sort_keys=True).encode()
  else:
    content = path.read_bytes()
  return hashlib.sha256(content).hexdigest()


def _checkpoint(folder: pathlib.Path) -> str:
  import jax
  import orbax.checkpoint as ocp
  state = ocp.PyTreeCheckpointer().restore(folder / 'default')
  digest = hashlib.sha256((folder / 'metrics' / 'metrics').read_bytes())
  for path, value in sorted((jax.tree_util.keystr(path), value) for path, value in jax.tree.leaves_with_path(state)):
    digest.update(path.encode() + np.asarray(value).tobytes())
  return digest.hexdigest()


def contents(folder: pathlib.Path) -> dict[str, str]:
  """{path: digest} of what a run left, but for times, logs of programs, what serves a later run alone, and Optuna's old locks."""
  found = {}
  for path in sorted(folder.rglob('*')):
    name, parts = path.relative_to(folder), path.relative_to(folder).parts
    if set(parts) & set(LEFT_OUT) or parts[-1] in ('.lock', '.lock.holder') or path.suffix in ('.log', '.html', '.rename'):
      if '.part' not in parts[-1]:
        continue
    if 'checkpoints' in parts:
      if len(parts) > 1 and parts[-2] == 'checkpoints' and parts[-1].isdigit():
        found[str(name)] = _checkpoint(path)
    elif path.is_file():
      found[str(name)] = digest(path)
  return found
