"""Makes a subject folder from video files of one person.

    speech2lip preprocess --video talk.mp4 --out subjects/anna
    speech2lip preprocess --video 'clips/*.mpg' --video more.mov --out subjects/anna --size 256

Finished work is kept under OUT/stages/, so an interrupted run continues and a repeated one does nothing. With
--distributed several processes, which must see one disk, look for the face in a part of the videos each.
"""
import pathlib

from absl import flags

from speech2lip_jax.common import usage
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import CONSENT, DISTRIBUTED_FLAGS, LANDMARKER, OUT, SIZE, VIDEO, split

_CANONICAL_SCALE = flags.DEFINE_float(
    'canonical_scale', 1.0,
    'Side of the canonical image over --size, 1 ... 3: more keeps finer lips, read from the video itself, and costs its square '
    'in training. 0: as large as the face square of the video.')
_TRACKS = flags.DEFINE_multi_string(
    'tracks', None,
    'Landmarks to use instead of detecting them, one .npz a video in the same order: comma-separated, patterns allowed. '
    'Each holds landmarks [pictures, 478, 3]: x, y, z pixels of every picture of the upright video; NaN: no face.')
flags.declare_key_flag('video')
flags.declare_key_flag('out')
flags.declare_key_flag('size')
flags.declare_key_flag('landmarker')
flags.declare_key_flag('consent')
for _name in DISTRIBUTED_FLAGS:
  flags.declare_key_flag(_name)


def main() -> None:
  """The verb."""
  if not VIDEO.value:
    raise InputError('--video is missing; pass --video talk.mp4')
  if not OUT.value:
    raise InputError('--out is missing; pass --out FOLDER for the subject folder to write')
  from speech2lip_jax.common import processes
  from speech2lip_jax.preprocess import consent
  with processes.joined():
    is_main = not processes.index()
    statement = consent.told(pathlib.Path(OUT.value), CONSENT.value) if is_main else None
    from speech2lip_jax.preprocess.pipeline import preprocess
    preprocess(split(VIDEO.value), OUT.value, SIZE.value, LANDMARKER.value,
               split(_TRACKS.value) if _TRACKS.value else None, _CANONICAL_SCALE.value)
  if is_main:
    if statement is not None:
      consent.record(pathlib.Path(OUT.value), statement)
    name = pathlib.Path(OUT.value).resolve().name
    print(usage.next_command('train', workdir=f'runs/{name}', **{'config.data.path': OUT.value}))
