"""Scores held-out frames against the truth and against what is possible without a model, or anyone's two videos.

    speech2lip evaluate --workdir runs/anna --out runs/anna/eval
    speech2lip evaluate --video ours.mp4 --against true.mp4 --out compared

Writes metrics.json, table.md, strips.png (mouths enlarged: true, ours, difference, baselines) and report.html, in which true frames
and ours also play side by side. The mouth region of a frame is the set of its pixels whose C2O falls in the lip box; picture
metrics are means over frames, ratios to the true frames are of such means. With --judge, a sync expert that nothing was trained
against scores the lips of the finished frames; with MediaPipe's landmark model at hand, the mouth's landmarks are compared with
the true ones. What cannot be had is null in metrics.json, with the reason. With --distributed several processes score a part of the
frames each.

Two videos must agree in frame rate and size; the mouth region is then the rectangle of the true mouth's landmarks.
"""
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import DISTRIBUTED, DISTRIBUTED_FLAGS, LANDMARKER, OUT, VIDEO, WORKDIR

_JUDGE = flags.DEFINE_string('judge', None, 'Folder of speech2lip expert: one with another seed, of another part of the clips '
                             '(--recipe.data.part), than the one trained against; it scores the sync. Also a folder of convert '
                             '--kind syncnet.')
_BASELINES = flags.DEFINE_bool('baselines', True, 'Score the baselines and the oracle too; --nobaselines: the model alone, in a '
                               'fraction of the time.')
_LPIPS = flags.DEFINE_string('lpips', None, 'FILE.npz of speech2lip convert --kind lpips, for LPIPS or ST-LPIPS; not the network '
                             'that the run was trained by.')
_AGAINST = flags.DEFINE_string('against', None, 'With --video: the true video that it is compared with, frame by frame.')
flags.declare_key_flag('workdir')
flags.declare_key_flag('out')
flags.declare_key_flag('video')
flags.declare_key_flag('landmarker')
for _name in DISTRIBUTED_FLAGS:
  flags.declare_key_flag(_name)


def main() -> None:
  """The verb."""
  workdir, videos, against = WORKDIR.value, VIDEO.value or [], _AGAINST.value
  if not OUT.value or bool(workdir) == bool(videos):
    raise InputError('--out (a folder for the results) is needed, and --workdir (of a training run) or --video and --against')
  if videos and (not against or len(videos) > 1):
    raise InputError(f'--video {",".join(videos)}: is one video, compared with another: give --against FILE')
  if against and not videos:
    raise InputError(f'--against {against}: is for --video; a training run is compared with its own held-out frames')
  if against and DISTRIBUTED.value:
    raise InputError('--distributed: is for --workdir; two videos are compared by one process')
  from speech2lip_jax.common import processes
  with processes.joined():
    _evaluate(workdir, videos, against)


def _evaluate(workdir: str | None, videos: list[str], against: str | None) -> None:
  import jax

  from speech2lip_jax.common import devices
  from speech2lip_jax.preprocess import landmarks
  from speech2lip_jax.report.table import not_measured
  assert OUT.value
  landmarker = landmarks.model_at_hand(LANDMARKER.value)
  out = pathlib.Path(OUT.value)
  if against:
    from speech2lip_jax.report import compare_videos
    devices.announce()
    record = compare_videos.compare(videos[0], against, out, landmarker, _LPIPS.value, _JUDGE.value)
    about = f'{videos[0]} against {against}'
  elif workdir:
    from speech2lip_jax.rendering.trained import load_trained
    from speech2lip_jax.report.held_out import evaluate
    trained = load_trained(workdir)
    devices.announce()
    record = evaluate(trained, out, _JUDGE.value, landmarker, _BASELINES.value, _LPIPS.value, workdir)
    about = f'{len(trained.split.test)} held-out frames, checkpoint of step {trained.step}'
  if jax.process_index():
    return
  print((out / 'table.md').read_text())
  for line in (record['judge'] or {}).get('warnings', []):
    print(f'warning: --judge={_JUDGE.value}: {line}', file=sys.stderr)
  print(not_measured(record['reasons']), end='')
  print(f'{about}; {out}/metrics.json\nnext: look at {out}/report.html')


if __name__ == '__main__':
  cli.run_verb('evaluate', sys.modules[__name__], sys.argv)
