"""A trained person in a source video's full frames, saying something else: all but the mouth's surroundings stays as decoded."""
import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np

from speech2lip_jax.common.pool import mapped
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, View, evenly_spaced
from speech2lip_jax.dubbing import another_video, close_up, layer
from speech2lip_jax.dubbing.close_up import Square, Tracked
from speech2lip_jax.dubbing.source import Source, SourceFacts, crop_rgb
from speech2lip_jax.dubbing.target import Writer, change_window
from speech2lip_jax.dubbing.timeline import Timeline
from speech2lip_jax.ops.boxes import smoothstep
from speech2lip_jax.preprocess import mouth_region
from speech2lip_jax.rendering.film import painted_part
from speech2lip_jax.rendering.jaw import Jaw
from speech2lip_jax.rendering.predictor import Backdrop, Prediction
from speech2lip_jax.rendering.silence import Mouths
from speech2lip_jax.rendering.trained import Trained

if TYPE_CHECKING:
  from speech2lip_jax.provenance.label import Label
  from speech2lip_jax.provenance.mark import Mark
  from speech2lip_jax.provenance.origin import Origin

FADE_S = 0.15  # over which the mouth becomes the source's own where it is covered or lost, and ours again
NUM_LIGHT_FRAMES = 200  # that the light is told by


class Footage(NamedTuple):
  """A source video, ready to be dubbed by a trained person.

  source: the video. squares: of its M upright pictures, that mouths are painted in. view: the head there, in its M pictures.
  may_paint: [M] float32, 0 where the head is not tracked or the mouth is covered … 1. own_shapes: [M, K] of the lower faces that
  are seen, or None without a jaw. tone: [h, w, 3] float32, as in `Backdrop`. notes: what the user should know.
  """
  source: Source
  squares: list[Square]
  view: View
  may_paint: np.ndarray
  own_shapes: np.ndarray | None
  tone: np.ndarray
  notes: list[str]


def open_footage(trained: Trained, source: Source, frames: Subject, source_index: int) -> Footage:
  """Footage of a source of the subject folder `frames`: the trained subject's own, or that of another video of the same person.

  Raises:
    InputError: the other video shows somebody else, or a subject folder was made by an older program.
  """
  subject, facts, notes = trained.subject, source.facts, []
  lip_size = subject.rgb_lip_canonical.shape[1:3]
  tracked = close_up.follow_head(frames, source_index, facts.times_s)
  ids = np.concatenate([np.arange(clip.start, clip.stop) for clip in frames.meta.clips if clip.source_index == source_index])
  regions, own_view = mouth_region.Regions.of_subject(subject), View.of_subject(subject)
  if frames.folder == subject.folder:
    frames_view, tone, lips = own_view, np.ones((*lip_size, 3), np.float32), subject.rgb_lip_canonical[ids]
  else:
    tracked, overlay = another_video.in_trained_axes(subject, frames, tracked)
    frames_view = another_video.frames_view(subject, frames, overlay)
    seen = regions.read(frames.frames, frames_view, ids)
    own = regions.read(subject.frames, own_view, evenly_spaced(trained.split.train, NUM_LIGHT_FRAMES))
    ratio = mouth_region.light_ratio(own, seen)
    tone = mouth_region.on_lips(ratio, lip_size)
    notes += another_video.check_person(own, seen / ratio, overlay, subject, facts.path)
    lips = np.clip(another_video.lips(subject, frames, frames_view, ids) / tone, 0, 255).astype(np.uint8)
  covered = ~np.asarray(frames.is_usable[ids])
  if covered.any():
    notes.append(f'{facts.path}: the mouth is covered or out of sight in {covered.sum() / schema.FPS:.1f} s of it; its pictures '
                 'stay as they are there')
  jaw = trained.predictor.backdrop.jaw
  own_shapes = between_frames(tracked.frame, jaw.motion.shapes(lips), ids) if jaw else None
  squares, view = close_up.close_up(tracked, subject)
  return Footage(source, squares, view, uncovered_share(tracked, facts.times_s, ids, covered), own_shapes, tone, notes)


def uncovered_share(tracked: Tracked, times_s: np.ndarray, ids: np.ndarray, covered: np.ndarray) -> np.ndarray:
  """`Footage.may_paint` of pictures [M] from the frames `ids` [n] whose mouths are covered [n] bool."""
  before, after = (np.clip(np.searchsorted(ids, side(tracked.frame)), 0, len(ids) - 1) for side in (np.floor, np.ceil))
  lost = ~tracked.is_tracked | covered[before] | covered[after]
  if not lost.any():
    return np.ones(len(times_s), np.float32)
  lost_s = times_s[lost]
  away_s = np.abs(lost_s[close_up.nearest(times_s, lost_s)] - times_s)
  return np.asarray(smoothstep(away_s / FADE_S), np.float32)


def between_frames(places: np.ndarray, values: np.ndarray, ids: np.ndarray) -> np.ndarray:
  """Values [n, K] of frames `ids` [n] at places [M] among them, linearly: [M, K] float32."""
  return np.stack([np.interp(places, ids, column) for column in values.T], -1).astype(np.float32)


def write_dub(trained: Trained, footage: Footage, timeline: Timeline, mono: np.ndarray, writer: Writer,
              features_file: str | None = None, origin: 'Origin | None' = None, as_layer: bool = False) -> int:
  """Writes the pictures of the timeline, in which the person says `mono` [m] int16 at 16 kHz; returns how many were painted.

  origin: whose mark and words the pictures carry, if any; the mark lies in the painted ones alone.
  as_layer: the pictures come with alpha; laid over the source's they are the dub's.
  """
  share = timeline.share * footage.may_paint[timeline.picture]
  is_painted = share > 0
  reel = Reel(footage, timeline, origin.mark() if origin else None, as_layer)
  words = origin.words() if origin else None
  if is_painted.any():
    with stage('audio embeddings'):
      mouths = trained.sound_mouths_at(mono, timeline.speech_s, features_file)
    predictor = trained.predictor.on(reel.backdrop(trained.predictor.backdrop.jaw))
  with Bar(total=len(share), title='dub', compiles=bool(is_painted.any())) as bar:
    for begin, end in _runs(is_painted):
      rows = np.arange(begin, end)
      if is_painted[begin]:
        some = Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)
        painted = zip(predictor.from_mouths(rows, some), share[rows].tolist(), timeline.time_s[rows].tolist(), strict=True)
        pictures = reel.changed(painted)
      else:
        pictures = reel.unchanged(len(rows))
      for row, (picture, alpha) in zip(rows, pictures, strict=True):
        time_s = float(timeline.time_s[row])
        picture = with_words(picture, footage.source.facts, words) if words and words.is_shown(time_s) else picture
        writer.write(picture, time_s, alpha)
        bar.update()
  return int(is_painted.sum())


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
  """The stretches [begin, end) of equal flags [n] bool."""
  ends = [*(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
  return list(zip([0, *ends[:-1]], ends))


class Shown(NamedTuple):
  """A picture of the film. alpha: [H, W] uint8 of the upright picture, None where the whole of it is shown."""
  picture: av.VideoFrame
  alpha: np.ndarray | None


class Reel:
  """The source's pictures in the order of a timeline, each read once; those being painted are held."""

  def __init__(self, footage: Footage, timeline: Timeline, mark: 'Mark | None' = None, as_layer: bool = False):
    self._mark, self._as_layer = mark, as_layer
    self._footage, self._ids, self._next = footage, timeline.picture, 0
    self._pictures = footage.source.read(timeline.picture)
    self._held: collections.deque[tuple[av.VideoFrame, Square, np.ndarray]] = collections.deque()
    self._latest = np.zeros(0, np.uint8)

  def backdrop(self, jaw: Jaw | None) -> Backdrop:
    """What is painted on: picture ids are rows of the timeline. jaw: the trained subject's."""
    _, _, view, _, own_shapes, tone, _ = self._footage
    view = view._replace(observed_from_canonical=view.observed_from_canonical[self._ids])
    if jaw and own_shapes is not None:
      jaw = jaw.on(view, lambda rows: own_shapes[self._ids[rows]])
    return Backdrop(view, self._squares, jaw, tone)

  def _squares(self, rows: np.ndarray) -> np.ndarray:
    """Of the next pictures; a batch is filled up with its last row."""
    squares = []
    for row in rows:
      if row == self._next:
        picture, square = next(self._pictures), self._footage.squares[self._ids[row]]
        self._latest = read_square(picture, self._footage.source.facts, square)
        self._held.append((picture, square, self._latest))
        self._next += 1
      squares.append(self._latest)
    return np.stack(squares)

  def _alpha(self, box: tuple[int, int, int, int] | None, share: float) -> np.ndarray | None:
    """`Shown.alpha` of a painted window (top, left, height, width) of the upright picture, or of none."""
    facts = self._footage.source.facts
    if not self._as_layer:
      return None
    weight = layer.window_weight(box, facts.height, facts.width) if box else np.zeros((facts.height, facts.width))
    return np.rint(255 * share * weight).astype(np.uint8)

  def unchanged(self, count: int) -> Iterator[Shown]:
    """The next pictures as they are."""
    self._next += count
    return (Shown(picture, self._alpha(None, 0.0)) for picture in itertools.islice(self._pictures, count))

  def changed(self, painted: Iterable[tuple[Prediction, float, float]]) -> Iterator[Shown]:
    """The next pictures, each with its prediction, how much of that is shown, 0 … 1, and when, s; changed by threads."""
    return mapped(self._change, ((*self._held.popleft(), *each) for each in painted))

  def _change(self, painted: tuple[av.VideoFrame, Square, np.ndarray, Prediction, float, float]) -> Shown:
    """A picture and its square, with as much of its prediction as `share` says. time_s: when it is shown, for the mark."""
    (picture, square, before, prediction, share, time_s), facts = painted, self._footage.source.facts
    part = painted_part(prediction)
    top, left = max(part[0], -square.top), max(part[1], -square.left)
    bottom, right = min(part[0] + part[2], facts.height - square.top), min(part[1] + part[3], facts.width - square.left)
    if top >= bottom or left >= right:
      return Shown(picture, self._alpha(None, 0.0))
    old, new = before[top:bottom, left:right], prediction.rgb_face[top:bottom, left:right]
    if self._mark:
      new = self._mark.add(new, (0, 0, *new.shape[:2]), time_s, (square.top + top, square.left + left))
    if share < 1 and not self._as_layer:  # of a layer, alpha says so
      new = np.rint(old + share * (new.astype(np.float32) - old)).astype(np.uint8)
    changed = change_window(picture, facts, old, new, int(square.top + top), int(square.left + left))
    return Shown(changed, self._alpha((int(square.top + top), int(square.left + left), *old.shape[:2]), share))


def with_words(picture: av.VideoFrame, facts: SourceFacts, words: 'Label') -> av.VideoFrame:
  """A picture with visible words in its upright upper left corner."""
  top, left, height, width = words.box(facts.height, facts.width)
  before = crop_rgb(picture, facts, top, left, height, width)
  return change_window(picture, facts, before, words.draw(before, facts.height, facts.width), top, left)


def read_square(picture: av.VideoFrame, facts: SourceFacts, square: Square) -> np.ndarray:
  """The square of an upright picture, continued by its border where it reaches beyond: [side, side, 3] uint8."""
  top, left, side = square
  inside_top, inside_left = max(top, 0), max(left, 0)
  bottom, right = min(top + side, facts.height), min(left + side, facts.width)
  rgb = crop_rgb(picture, facts, inside_top, inside_left, bottom - inside_top, right - inside_left)
  edges = ((inside_top - top, top + side - bottom), (inside_left - left, left + side - right), (0, 0))
  return np.pad(rgb, edges, mode='edge') if any(map(any, edges)) else rgb
