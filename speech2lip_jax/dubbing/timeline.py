"""Which picture of the source is shown when, what is said then, and how far its mouth is ours; and the sound that goes with it."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import back_and_forth

FADE_S = 0.15  # of the mouth, beside a segment
SOUND_FADE_S = 0.03  # where two sounds meet
SAME_LENGTH_S = 0.1  # a sound that close to the video's length belongs to all of it

Span = tuple[float, float]


class Timeline(NamedTuple):
  """The n pictures of a dub.

  picture: [n] int, of the source. time_s: [n] seconds of the dub from which each is shown. speech_s: [n] seconds of the new sound
  that it says. share: [n] float32, 0 the source's own mouth … 1 ours. duration_s: of the dub.
  """
  picture: np.ndarray
  time_s: np.ndarray
  speech_s: np.ndarray
  share: np.ndarray
  duration_s: float


def plan(times_s: np.ndarray, video_s: float, sound_s: float, fit: str, start_s: float, segments: Sequence[Span] | None
         ) -> Timeline:
  """The pictures of a dub.

  Args:
    times_s: [M] instants of the source's pictures since the first.
    video_s: to the end of the last.
    sound_s: length of the new sound.
    fit: 'loop': as long as the sound, the video running back and forth; 'video': as long as the video.
    start_s: where in the video the dub begins.
    segments: where alone the mouth changes, seconds of the video, as `parse_segments` gives them; or None for everywhere.

  Raises:
    InputError: start_s lies outside of the video, or is given beside segments.
  """
  if segments and start_s:
    raise InputError(f'--start={start_s:g}: --segments corrects the whole video; leave --start out')
  if not 0 <= start_s < video_s:
    raise InputError(f'--start={start_s:g}: the video lasts {video_s:.2f} s; give less')
  ids = np.arange(np.searchsorted(times_s, start_s - 1e-6), len(times_s))
  ids = ids if len(ids) else np.array([len(times_s) - 1])
  lasts_s = np.diff(np.append(times_s, video_s))
  if fit == 'loop':
    cycle = ids[back_and_forth(len(ids), max(2 * len(ids) - 2, 1))]
    order = np.tile(cycle, int(np.ceil(sound_s / max(lasts_s[cycle].sum(), 1e-3))))
    begins = np.concatenate([[0.0], np.cumsum(lasts_s[order])[:-1]])
    shown = max(1, int((begins < sound_s - 1e-3).sum()))
    order, begins = order[:shown], begins[:shown]
    return Timeline(order, begins, begins, np.ones(shown, np.float32), sound_s)
  begins = times_s[ids] - times_s[ids[0]]
  if segments is None:
    return Timeline(ids, begins, begins, np.ones(len(ids), np.float32), video_s - float(times_s[ids[0]]))
  speech_s = begins if _is_in_place(video_s, sound_s) else _continued(begins, segments)
  away_s = np.min([np.maximum(np.maximum(begin - begins, begins - end), 0) for begin, end in segments], axis=0)
  share = np.clip(1 - away_s / FADE_S, 0, 1)
  return Timeline(ids, begins, speech_s, (share * share * (3 - 2 * share)).astype(np.float32), video_s)


def _is_in_place(video_s: float, sound_s: float) -> bool:
  return abs(video_s - sound_s) <= SAME_LENGTH_S


def _continued(begins: np.ndarray, segments: Sequence[Span]) -> np.ndarray:
  """Seconds of a sound that fills the segments one after another, at instants [n]; beside a segment it goes on."""
  nearest = np.argmin([np.maximum(begin - begins, begins - end) for begin, end in segments], axis=0)
  before = np.concatenate([[0.0], np.cumsum([end - begin for begin, end in segments])])
  return begins - np.array([begin for begin, _ in segments])[nearest] + before[nearest]


def unsaid_s(timeline: Timeline, sound_s: float, segments: Sequence[Span] | None) -> float:
  """Seconds at the end of a new sound that a dub has no room for; 0 up to `SAME_LENGTH_S`. segments: as in `plan`."""
  room_s = timeline.duration_s
  if segments is not None and not _is_in_place(timeline.duration_s, sound_s):
    room_s = sum(end - begin for begin, end in segments)
  return sound_s - room_s if sound_s - room_s > SAME_LENGTH_S else 0.0


def followed_by_silence(mono: np.ndarray, rate: int, timeline: Timeline) -> np.ndarray:
  """What is said, [m] int16 at `rate`, with silence up to the last picture that is ours, so that the mouth closes and rests."""
  heard_s = float(timeline.speech_s[timeline.share > 0].max(initial=0.0))
  return np.pad(mono, (0, max(0, int(np.ceil(heard_s * rate)) - len(mono))))


def parse_segments(text: str, video_s: float) -> list[Span]:
  """'00:10-00:14.2,1:02:03-1:02:05' → seconds of a video that lasts `video_s`.

  Raises:
    InputError: a part is no span, is not in order, overlaps the one before it, or lies outside of the video.
  """
  spans: list[Span] = []
  for part in text.split(','):
    try:
      begin, end = (_seconds(moment) for moment in part.split('-'))
    except ValueError:
      raise InputError(f'--segments={text}: {part!r} is no span; give BEGIN-END in seconds, mm:ss or hh:mm:ss, as 00:10-00:14.2'
                       ) from None
    if not begin < end:
      raise InputError(f'--segments={text}: {part!r} ends before it begins; give BEGIN-END')
    if begin >= video_s or end > video_s + SAME_LENGTH_S:
      raise InputError(f'--segments={text}: {part!r} reaches beyond the video, which lasts {video_s:.2f} s')
    if spans and begin < spans[-1][1]:
      raise InputError(f'--segments={text}: {part!r} begins before the one before it ends; give them in order')
    spans.append((begin, min(end, video_s)))
  return spans


def _seconds(moment: str) -> float:
  """'1:02:03.5' → 3723.5.

  Raises:
    ValueError: it is no moment.
  """
  parts = moment.strip().split(':')
  if len(parts) > 3 or not all(part and part.replace('.', '', 1).isdecimal() for part in parts):
    raise ValueError(moment)
  return float(sum(float(part) * 60**place for place, part in enumerate(reversed(parts))))


def lay_sound(new: np.ndarray, rate: int, timeline: Timeline, video_s: float, segments: Sequence[Span] | None,
              original: np.ndarray | None) -> np.ndarray:
  """The dub's sound: [c, k] int16 at `rate`.

  Args:
    new: [c, n] int16, what is said.
    rate: of both sounds.
    timeline: of the dub.
    video_s: length of the video.
    segments: as in `plan`.
    original: [c', m] int16, the video's own sound, which is heard outside of the segments; None: nothing is.
  """
  length = round(timeline.duration_s * rate)
  if segments is None:
    return _at_length(new, length)
  channels = max(len(new), 1 if original is None else len(original))
  spread = lambda sound: np.broadcast_to(_at_length(sound, length), (channels, length)).astype(np.float32)
  moments = np.arange(length) / rate
  if _is_in_place(video_s, new.shape[1] / rate):
    said = spread(new)
  else:
    at = np.round(_continued(moments, segments) * rate).astype(int)
    heard = np.where((at >= 0) & (at < new.shape[1]), new[:, np.clip(at, 0, new.shape[1] - 1)], 0)
    said = np.broadcast_to(heard, (channels, length)).astype(np.float32)
  away_s = np.min([np.maximum(np.maximum(begin - moments, moments - end), 0) for begin, end in segments], axis=0)
  turn = np.clip(away_s / SOUND_FADE_S, 0, 1) * np.pi / 2  # equal power
  kept = 0.0 if original is None else spread(original) * np.sin(turn)
  return np.clip(np.rint(said * np.cos(turn) + kept), -32768, 32767).astype(np.int16)


def _at_length(sound: np.ndarray, length: int) -> np.ndarray:
  """A sound [c, n], cut or followed by silence: [c, length]."""
  return np.pad(sound[:, :length], ((0, 0), (0, max(0, length - sound.shape[1]))))
