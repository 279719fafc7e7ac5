"""Dubbing: do mouth and jaw follow the new speech, or the old speech of the frames that it is put on?

    python benchmarks/other_background.py [--judge JUDGE] [--landmarker FILE] RUN [RUN ...]

Held-out speech is put on its own frames and on those of other times: each run of it on `--backgrounds` stretches of frames that
are not held out. All are rendered without and with the jaw's motion and Blend-Net, and read back out of the finished frames, by
landmarks and by the judge.

The chin's distance from the nose's base is measured in canonical space: in the frame's pixels it also changes with the head's pose,
which goes with the old speech and is to stay.

chin, new speech: its correlation with the opening of the true mouth of that speech, and in brackets its share of what true frames
have; higher is better. chin, old speech: with the opening that the frame had, without what both openings have in common (a partial
correlation); 0 is best. chin, its mouth: with the opening that the finished frame shows. slope: of the chin for the new and the old
opening at once, of that of true frames; best are 1 and 0. opening: correlation of the shown opening with the true one.

With a judge, canonical lips are read back. conf0, acc5: see `speech2lip_jax/metrics/sync.py`; psnr: dB. A network that looks at the
true frame around the mouth can learn to read the mouth off the jaw: on its own frames that scores better than speech allows, on
others it is wrong. JUDGE: of `speech2lip expert`.
"""
import argparse

import numpy as np

from speech2lip_jax.data.dataset import runs_of
from speech2lip_jax.data.schema import FPS, NUM_LANDMARKS
from speech2lip_jax.metrics.chin import chin_distance, chin_follows
from speech2lip_jax.metrics.opening import lip_opening
from speech2lip_jax.preprocess import landmarks, projection
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.sync.expert import open_expert
from speech2lip_jax.sync.judge import LipJudge
from speech2lip_jax.sync.scores import score_lips, subject_activity

HEAD = ['run', 'frames', 'Blend-Net', 'jaw', 'chin, new speech', 'chin, old speech', 'chin, its mouth', 'slope, new', 'slope, old',
        'opening']
JUDGED = ['conf0, own speech', 'acc5', 'psnr, own lips', "conf0, the frames' speech", 'psnr, their lips']


def other_frames(subject, runs, count):
  """Frames outside of `runs` of frame ids, `count` stretches for each, as long as it or as their clip: ids [count][run][n]."""
  is_free = ~np.asarray(subject.is_interpolated)
  is_free[np.concatenate(runs)] = False
  free = np.flatnonzero(is_free)
  stretches = [free[rows] for rows in runs_of(subject, free)]
  sets = []
  for index in range(count):
    chosen = []
    for place, run in enumerate(runs):
      long_enough = [stretch for stretch in stretches if len(stretch) >= len(run)] or [max(stretches, key=len)]
      at = (place * count + index + 0.5) / (count * len(runs)) * len(long_enough)  # evenly over stretches, then within one
      stretch = long_enough[int(at)]
      start = int(at % 1 * (len(stretch) - min(len(run), len(stretch)) + 1))
      chosen.append(stretch[start:start + len(run)])
    sets.append(chosen)
  return sets


def largest_face(detector, frame):
  """[478, 2] pixels, nan without a face."""
  faces = landmarks.to_pixels(detector.faces(np.ascontiguousarray(frame)), frame.shape[1], frame.shape[0])
  return max(faces[..., :2], key=lambda face: np.ptp(face, axis=0).max(), default=np.full((NUM_LANDMARKS, 2), np.nan))


def partial(with_old, with_new, new_with_old):
  """The correlation with the old opening without what goes with the new one."""
  return (with_old - with_new * new_with_old) / np.sqrt((1 - with_new**2) * (1 - new_with_old**2))


def chin_of(subject, frame_ids, points):
  """[n] canonical pixels from the nose's base to the chin, by landmarks [n, 478, 2] of those frames."""
  meta, poses = subject.meta, subject.observed_from_canonical[frame_ids]
  return chin_distance(projection.canonical_coords(points, subject.depth_canonical, poses, meta.focal_px, meta.canonical_scale))


def chin_cells(chin, shown, new, old, runs, truth):
  """Cells of the table from the chin's distance and the opening in finished frames, and the true openings, [n] each.

  truth: correlation and slope of true frames.
  """
  alone = lambda curve, other: chin_follows(curve, {'one': other}, runs, FPS)['one'][0]
  opening = alone(shown, new)
  cells = [f'{alone(chin, shown):.2f}', '', '', f'{opening:.2f}']
  if (new == old).all():
    follows = chin_follows(chin, {'own': new}, runs, FPS)['own']
    cells[1:3] = [f'{follows[1] / truth[1]:.2f}', '']
    return [f'{follows[0]:.2f} ({follows[0] / truth[0]:.2f})', '', *cells]
  both = chin_follows(chin, {'new': new, 'old': old}, runs, FPS)
  cells[1:3] = [f'{both[name][1] / truth[1]:.2f}' for name in ('new', 'old')]
  leak = partial(both['old'][0], both['new'][0], alone(new, old))
  return [f'{both["new"][0]:.2f} ({both["new"][0] / truth[0]:.2f})', f'{leak:.2f}', *cells]


def psnr(lips, true):
  error = np.square(lips.astype(np.float32) - true).mean((1, 2, 3))
  return np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-6)))


def judged_cells(judge, subject, speech, frames, lips):
  """Cells of the table from canonical lips [n, h, w, 3] read out of `frames` [n] that say what `speech` [n] does."""
  own, theirs = (score_lips(judge, subject, ids, lips, subject_activity(subject, ids)).metrics() for ids in (speech, frames))
  near = [psnr(lips, np.asarray(subject.rgb_lip_canonical[ids])) for ids in (speech, frames)]
  return [f'{own["sync_conf0"]:.3f}', f'{own["sync_acc5"]:.3f}', f'{near[0]:.2f}', f'{theirs["sync_conf0"]:.3f}', f'{near[1]:.2f}']


def dub(trained, expert, detector, num_backgrounds, show):
  """Calls `show` with the cells of each row of a run's table."""
  subject, test, predictor = trained.subject, trained.split.test, trained.predictor
  runs = [test[rows] for rows in runs_of(subject, test)]
  audio_embedding = trained.subject_mouths(test).audio_embedding
  seen = {}  # true frame → its landmarks

  def true_opening(ids):
    for frame_id in set(ids.tolist()) - seen.keys():
      seen[frame_id] = largest_face(detector, subject.frames[frame_id])
    return lip_opening(np.stack([seen[frame_id] for frame_id in ids.tolist()]))

  def put_on(stretches):
    """Speech, frames and runs of rows, each stretch cut to the shorter side."""
    lengths = [min(map(len, pair)) for pair in stretches]
    ids = [np.concatenate([pair[side][:n] for pair, n in zip(stretches, lengths, strict=True)]) for side in (0, 1)]
    return *ids, np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
  pairs = [(own, other) for chosen in other_frames(subject, runs, num_backgrounds) for own, other in zip(runs, chosen, strict=True)]
  truth, blends = None, (False, True) if predictor.with_blend_net else (False,)
  ways = [(with_blend_net, with_jaw) for with_jaw in (False, True) for with_blend_net in blends]
  for name, stretches in (('own', [(run, run) for run in runs]), ('other', pairs)):
    speech, frames, rows = put_on(stretches)
    new, old = true_opening(speech), true_opening(frames)
    if truth is None:
      chin = chin_of(subject, speech, np.stack([seen[frame_id] for frame_id in speech.tolist()]))
      truth = chin_follows(chin, {'own': new}, rows, FPS)['own']
      show(['truth', '', '', *chin_cells(chin, new, new, new, rows, truth)])
    for with_blend_net, with_jaw in ways:
      judge = LipJudge(expert, subject, frames) if expert else None
      mouths = predictor.mouths_of(audio_embedding[np.searchsorted(test, speech)])
      points, lips = [], []
      for row, prediction in enumerate(predictor.from_mouths(frames, mouths, with_blend_net, with_jaw)):
        points.append(largest_face(detector, prediction.rgb_face))
        if judge:
          lips.append(judge.view(row, prediction.rgb_face))
      points = np.stack(points)
      cells = chin_cells(chin_of(subject, frames, points), lip_opening(points), new, old, rows, truth)
      judged = judged_cells(expert, subject, speech, frames, np.stack(lips)) if judge else []
      show([name, *('with' if on else 'without' for on in (with_blend_net, with_jaw)), *cells, *judged])


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--judge')
  parser.add_argument('--landmarker')
  parser.add_argument('--backgrounds', type=int, default=4, help='stretches of other frames for each run of speech')
  parser.add_argument('runs', nargs='+')
  arguments = parser.parse_args()
  head = HEAD + JUDGED if arguments.judge else HEAD
  print('| ' + ' | '.join(head) + ' |\n' + '|---' * len(head) + '|')
  with landmarks.Detector(landmarks.find_model(arguments.landmarker)) as detector:
    for run in arguments.runs:
      trained = load_trained(run)
      expert = open_expert(arguments.judge, trained.subject) if arguments.judge else None
      show = lambda cells: print('| ' + ' | '.join([run, *cells]) + ' |', flush=True)  # noqa: B023
      dub(trained, expert, detector, arguments.backgrounds, show)


if __name__ == '__main__':
  main()
