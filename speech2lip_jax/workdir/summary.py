"""What a run writes for people: WORKDIR/log.jsonl (a line per logged step), TensorBoard events, sample pictures."""
import json
import os
import pathlib

import numpy as np

from speech2lip_jax.common.files import write_text
from speech2lip_jax.common.pictures import write_png


def read_log(path: os.PathLike | str) -> list[dict[str, float]]:
  """The lines of a log.jsonl, each with its step and named scalars; none without the file. A line cut short is left out."""
  path = pathlib.Path(path)
  records = []
  for line in path.read_text().splitlines() if path.is_file() else []:
    try:
      record = json.loads(line)
      record['step']
    except (ValueError, TypeError, KeyError):
      continue  # by a kill
    records.append(record)
  return records


class Summary:
  """Logs scalars and pictures of one run. After a restart, lines past the restored step are dropped, all where that is 0, and
  rewritten.

  Only process 0 should make one.
  """

  def __init__(self, workdir: os.PathLike | str, first_step: int):
    from tensorboardX import SummaryWriter
    self._folder = pathlib.Path(workdir)
    self._path = self._folder / 'log.jsonl'
    if self._path.is_file():
      kept = [json.dumps(record) for record in read_log(self._path) if record['step'] <= first_step and first_step]
      write_text(self._path, ''.join(line + '\n' for line in kept))
    self._log = self._path.open('a')
    self._writer = SummaryWriter(str(self._folder / 'tensorboard'), purge_step=first_step + 1)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Writes one line of named scalars (`loss/…`, `metric/…`, `time/…`)."""
    values = {name: float(value) for name, value in values.items()}
    self._log.write(json.dumps({'step': step, **values}) + '\n')
    self._log.flush()
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  def image(self, step: int, name: str, rgb: np.ndarray) -> None:
    """Writes a picture [H, W, 3] uint8 RGB to samples/NAME_STEP.png and TensorBoard."""
    folder = self._folder / 'samples'
    folder.mkdir(exist_ok=True)
    write_png(folder / f'{name}_{step:06d}.png', rgb)
    self._writer.add_image(name, rgb, step, dataformats='HWC')

  def close(self) -> None:
    """Flushes and closes the files."""
    self._log.close()
    self._writer.close()
