"""Held-out frames against the truth and against what is possible without a model: `speech2lip evaluate --workdir RUN --out DIR`.

Writes metrics.json, table.md, strips.png (true, ours, baselines) and report.html. The mouth region of a frame is the set of its
pixels whose C2O falls in the lip box; every picture metric is the mean over frames of the frame's value. With --judge, a sync
expert that nothing was trained against scores the lips of the finished frames; with MediaPipe's landmark model at hand, the
mouth's landmarks are compared with the true ones. What cannot be had is null in metrics.json, with the reason.

`speech2lip evaluate --video a.mp4 --against b.mp4 --out DIR` compares anyone's two videos: see `compare_videos`.
"""
import pathlib
import sys

from absl import flags

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.flags import LANDMARKER, OUT, VIDEO, WORKDIR
from speech2lip_jax.preprocess import landmarks
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.report import compare_videos
from speech2lip_jax.report.held_out import evaluate
from speech2lip_jax.report.table import not_measured

_JUDGE = flags.DEFINE_string('judge', None, 'Folder of speech2lip expert: one with another seed, of another part of the clips '
                             '(--recipe.data.part), than the one trained against; it scores the sync. Also a folder of convert '
                             '--kind syncnet.')
_BASELINES = flags.DEFINE_bool('baselines', True, 'Score the baselines and the oracle too; --nobaselines: the model alone, in a '
                               'quarter of the time.')
_LPIPS = flags.DEFINE_string('lpips', None, 'FILE.npz of speech2lip convert --kind lpips, for LPIPS.')
_AGAINST = flags.DEFINE_string('against', None, 'With --video: the true video that it is compared with, frame by frame.')


def main(argv: list[str]) -> None:
  """The verb."""
  if len(argv) > 1:
    raise InputError(f'unexpected argument {argv[1]!r}; flags start with --')
  if not OUT.value or bool(WORKDIR.value) == bool(VIDEO.value):
    raise InputError('--out (a folder for the results) is needed, and --workdir (of a training run) or --video and --against')
  landmarker = landmarks.model_at_hand(LANDMARKER.value)
  out = pathlib.Path(OUT.value)
  if VIDEO.value:
    if not _AGAINST.value or len(VIDEO.value) > 1:
      raise InputError(f'--video {",".join(VIDEO.value)}: is one video, compared with another: give --against FILE')
    record = compare_videos.compare(VIDEO.value[0], _AGAINST.value, out, landmarker, _LPIPS.value, _JUDGE.value)
    about = f'{VIDEO.value[0]} against {_AGAINST.value}'
  else:
    if _AGAINST.value:
      raise InputError(f'--against {_AGAINST.value}: is for --video; a training run is compared with its own held-out frames')
    trained = load_trained(WORKDIR.value)
    record = evaluate(trained, out, _JUDGE.value, landmarker, _BASELINES.value, _LPIPS.value, WORKDIR.value)
    about = f'{len(trained.split.test)} held-out frames, checkpoint of step {trained.step}'
  print((out / 'table.md').read_text())
  print(not_measured(record['reasons']), end='')
  print(f'{about}; {out}/metrics.json, {out}/report.html')


if __name__ == '__main__':
  cli.run_verb('evaluate', sys.modules[__name__], sys.argv)
