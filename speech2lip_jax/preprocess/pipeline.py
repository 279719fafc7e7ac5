"""Video files of one person → a subject folder (`data.schema`).

Stages in order: probe, landmarks, clips and crops, frames and sound, tracking, canonical space, lips, meta.json.
The work lies under OUT/stages/ until the new subject is whole, then its files replace those in OUT. So a subject that is
there stays as it is while a run works or fails, an interrupted run continues where it stopped, and a repeated one does nothing.

    OUT/stages/landmarks/         what the detector found; kept, since it serves every size
    OUT/stages/MARK/              one run's work, named by the fingerprint of all that goes into it
    OUT/stages/MARK/subject/      the new subject's files; meta.json is the last, and says that it is whole
    OUT/stages/MARK/*.npz         records of stages that are done, each written after everything that its stage writes
"""
import functools
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

import numpy as np

from speech2lip_jax.common import files, processes
from speech2lip_jax.common.cores import cores
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.ops import boxes
from speech2lip_jax.ops.poses import relative_pose

VERSION = 7  # of what the stages after the landmarks compute; part of their fingerprints
MIN_SIZE = 64
QUIET = ('sound check', 'landmarks', 'frames', 'lips', 'covers')  # stages of a moment, or with a bar of their own


def preprocess(patterns: Sequence[str],
               out: os.PathLike | str,
               size: int | None = None,
               landmarker: str | None = None,
               tracks: Sequence[str] | None = None,
               canonical_scale: float = 1.0) -> schema.SubjectMeta:
  """Makes the subject folder `out` from the videos that `patterns` name.

  Args:
    patterns: paths or glob patterns.
    out: folder to write or to continue.
    size: side of the face frames, pixels; None takes the face square's of the videos (`crop.choose_size`).
    landmarker: path of MediaPipe's face_landmarker.task, or None to find or fetch it.
    tracks: paths or patterns of landmark files (`preprocess.tracks`), one a video, which replace the detector; or None.
    canonical_scale: side of the canonical image over `size`, 1 … 3; 0 takes the face square's (`crop.choose_scale`).

  Raises:
    InputError: a bad flag, tracks that do not belong to the videos, an unusable video, no face, too little room on the disk.
  """
  started = time.monotonic()
  if size is not None and (size < MIN_SIZE or size % 4):
    raise InputError(
        f'--size {size}: must be at least {MIN_SIZE} and a multiple of 4; try --size {max(MIN_SIZE, size // 4 * 4)}')
  if canonical_scale and (not 1 <= canonical_scale <= 3 or (size or 4) * canonical_scale % 1):
    raise InputError(f'--canonical_scale {canonical_scale}: must be 0, or 1 ... 3 and give a whole number of pixels with --size '
                     f'{size or "of any multiple of 4"}; 1.5 and 2 always do')
  out = pathlib.Path(out)
  _check_out(out)
  # Heavy libraries come after the cheap checks, so that a mistyped flag is answered at once.
  from speech2lip_jax.preprocess import landmarks, video
  paths = video.expand_inputs(list(patterns))
  infos = [video.probe(path) for path in paths]
  if size is not None:
    _check_disk(out, infos, size, canonical_scale or 1.0)
  sources = (video.expand_inputs(list(tracks), '--tracks') if tracks is not None
             else [landmarks.find_model(landmarker)] * len(infos))
  work = _Work(out, infos, size, canonical_scale, sources, tracks is not None)
  is_finished = work.is_finished()
  processes.meet('before')
  if not is_finished:
    if processes.index():
      processes.meet('begun')
      if not work.is_finished():
        work.find_landmarks()
        processes.meet('done')
      return schema.read_meta(out)
    (out / 'stages').mkdir(parents=True, exist_ok=True)
    try:
      with files.lock(out, 'preprocess'):
        _replace_subject(out)  # a run that was stopped while it did that had nothing else left to do
        processes.meet('begun')
        if not work.is_finished():
          print(f'{out}: from {len(infos)} video file(s), {sum(info.num_frames for info in infos)} frames', flush=True)
          meta = work.run(started)
          _summarise(out, meta, time.monotonic() - started)
          processes.meet('done')
          return meta
    except InputError:
      _remove_empty(out)
      raise
  meta = schema.read_meta(out)
  print(f'{out}: already made from these {len(infos)} videos with --size {meta.width}; nothing to do')
  return meta


def _replace_subject(out: pathlib.Path) -> None:
  """Moves the whole new subject under OUT/stages/, if there is one, to `out`.

  meta.json is removed first and moved last: `out` is the old subject, or none, or the new one, never a mixture. Stopped half way
  and called again, it goes on.
  """
  for meta in sorted((out / 'stages').glob('*/subject/meta.json')):
    (out / 'meta.json').unlink(missing_ok=True)
    for file in sorted(meta.parent.iterdir()):
      if file != meta and not file.name.startswith('.'):  # .*.part: what a killed process was writing
        if (out / file.name).is_dir():  # by mistake: no file of a subject is a folder
          shutil.rmtree(out / file.name)
        os.replace(file, out / file.name)
    os.replace(meta, out / 'meta.json')
    shutil.rmtree(meta.parents[1])


def _remove_empty(out: pathlib.Path) -> None:
  """Takes away a folder in which a refused run left nothing but its lock."""
  if {file.name for file in out.iterdir()} == {'.lock', 'stages'} and not any((out / 'stages').iterdir()):
    shutil.rmtree(out)


def _check_out(out: pathlib.Path) -> None:
  if out.exists() and not out.is_dir():
    raise InputError(f'--out {out}: is a file; give a folder')
  if out.is_dir() and any(out.iterdir()) and not ((out / 'meta.json').is_file() or (out / 'stages').is_dir()):
    raise InputError(f'--out {out}: holds other files and is no subject folder; give a new or empty folder')
  parent = next(folder for folder in [out, *out.absolute().parents] if folder.exists())
  if not os.access(parent, os.W_OK):
    raise InputError(f'--out {out}: cannot write into {parent}; give a folder of yours')


def _check_disk(out: pathlib.Path, infos, size: int, scale: float) -> None:
  """A subject that is there is not counted as free room: it goes when the new one is whole, not before."""
  num_frames = sum(info.num_frames for info in infos)
  needed = num_frames * (size * size * 3 * (1 + 0.05 * scale * scale) + 8_000)
  unfinished = sum(_allocated(file) for file in (out / 'stages').glob('*/subject/*'))
  parent = next(folder for folder in [out, *out.absolute().parents] if folder.exists())
  free = shutil.disk_usage(parent).free + unfinished
  if free < needed:
    remedy = ('free some space, lower --size, or delete the subject that is there: it is kept until the new one is whole'
              if (out / 'meta.json').is_file() else 'free some space or lower --size')
    raise InputError(f'--out {out}: {num_frames} frames of {size} px need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; '
                     + remedy)


def _allocated(file: pathlib.Path) -> float:
  """Bytes that a file takes on the disk; an array still being filled has holes. Windows tells the size alone."""
  status = file.stat()
  return getattr(status, 'st_blocks', status.st_size / 512) * 512


class _Work:
  """One run: what goes in, and the stages that turn it into a subject."""

  def __init__(self, out: pathlib.Path, infos, size: int | None, scale: float, sources: list[str], are_tracks: bool):
    """size, scale: as `preprocess` is asked; sources: for each video the file of its tracks if `are_tracks`, else of the landmark
    model."""
    from speech2lip_jax.preprocess import landmarks, tracks
    self.out, self.infos, self.asked = out, infos, (size, scale)
    self.sources, self.are_tracks = sources, are_tracks
    if are_tracks:
      self.rows = tracks.grid_pictures(sources, infos)
    digests = {source: landmarks.file_digest(source) for source in set(sources)}
    self.segments = landmarks.segments(infos, out / 'stages' / 'landmarks', [digests[source] for source in sources])
    self.seconds: dict[str, float] = {}

  def _sizes(self, side: int) -> tuple[int, float]:
    """Size and canonical scale, from the largest square in its source where they are not given."""
    from speech2lip_jax.preprocess import crop
    size, scale = self.asked
    size = size or crop.choose_size(side)
    return size, scale or crop.choose_scale(side, size)

  def _marks(self, size: int, scale: float) -> tuple[str, str]:
    """Fingerprints of the stages up to tracking, which serve every scale, and of all."""
    from speech2lip_jax.preprocess import stages
    mark = stages.fingerprint(VERSION, size, [segment.mark for segment in self.segments])
    return mark, stages.fingerprint(mark, scale)

  def is_finished(self) -> bool:
    """Whether `out` is what this run would make; what it chooses by itself follows from that subject's own squares."""
    try:
      meta = schema.validate(self.out)
      if meta.sources is None:
        return False
      side = int(schema.load_array(self.out, 'crop', meta)[:, 2].max())
    except InputError:
      return False
    return meta.report.get('fingerprint') == self._marks(*self._sizes(side))[1]

  def _settle(self, plan) -> None:
    """Sets what depends on the frames' size: `size`, `scale`, the fingerprints, and where the work lies."""
    side, (size, scale) = plan.largest_crop.side, self.asked
    self.size, self.scale = self._sizes(side)
    if size is None or not scale:
      print(f'face square is {side} px of the source: --size {self.size}'
            + ('' if scale else f' --canonical_scale {self.scale:g}'))
    _check_disk(self.out, self.infos, self.size, self.scale)
    self.mark, self.final_mark = self._marks(self.size, self.scale)
    self.work = self.out / 'stages' / self.mark
    self.new = self.work / 'subject'

  def run(self, started: float) -> schema.SubjectMeta:
    """All stages; returns what meta.json says."""
    from speech2lip_jax.preprocess import audio, clips, contact, parallel
    for info in self.infos:  # before the long work
      self._timed('sound check', audio.check, info)
    with parallel.make_pool() as pool:
      self._timed('landmarks', self._find_landmarks, pool)
      processes.meet('landmarks')
      plan = self._timed('clips', clips.plan, self.segments, self.infos, self.asked[0])
      for note in plan.notes:
        print(note)
      self._settle(plan)
      self._make_room()
      self._timed('frames', self._write_frames, pool, plan)
      track = self._timed('tracking', self._track, pool, plan)
      mels = self._timed('sound', clips.write_sound, self.new, plan)
      canonical_frame, box, canonical_report = self._timed('canonical', self._canonical, plan, track)
      self._timed('lips', self._write_lips, pool, plan, track, canonical_frame, box)
      self._timed('covers', self._find_covered, plan, track, canonical_frame, box)
    num_frames = plan.num_frames
    report = {
        'fingerprint': self.final_mark, 'tracking': track.report, 'quality': self.quality, 'warnings': self.warnings,
        'notes': plan.notes, 'crop': plan.crop_report, 'canonical': canonical_report,
        'events': plan.events, 'num_interpolated': int(plan.is_interpolated.sum()),
        'seconds': {name: round(value, 3) for name, value in self.seconds.items()},
        'seconds_per_frame': (time.monotonic() - started) / num_frames}
    meta = schema.SubjectMeta(
        format_version=schema.FORMAT_VERSION, height=self.size, width=self.size, num_frames=num_frames,
        num_mel=sum(mels), focal_px=track.focal_px, canonical_frame=canonical_frame, lip_box=box, canonical_scale=self.scale,
        clips=clips.records(plan, self.infos, mels), sources=tuple(info.source for info in self.infos), report=report)
    self._timed('contact sheet', contact.write, self.new, meta)
    schema.write_meta(self.new, meta)
    schema.validate(self.new)
    _replace_subject(self.out)
    # The landmarks of these videos stay: small, slow to make, the same for every size.
    wanted = {segment.path for segment in self.segments}
    for path in set((self.out / 'stages' / 'landmarks').iterdir()) - wanted:
      path.unlink()
    return meta

  def find_landmarks(self) -> None:
    """The part of one of several processes that are not the first, which does all the rest."""
    from speech2lip_jax.preprocess import parallel
    with parallel.make_pool() as pool:
      self._find_landmarks(pool)
    processes.meet('landmarks')

  def _make_room(self) -> None:
    """Removes what other runs left unfinished, once it is known that this one can be done."""
    for path in (self.out / 'stages').iterdir():
      if path.is_dir() and path.name not in ('landmarks', self.mark):
        shutil.rmtree(path)
      elif path.is_file():  # of programs before this layout
        path.unlink()
    self.new.mkdir(parents=True, exist_ok=True)

  def _timed(self, name: str, function, *arguments):
    started = time.monotonic()
    with stage(name, show=name not in QUIET):
      result = function(*arguments)
    self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
    return result

  def _find_landmarks(self, pool) -> None:
    from speech2lip_jax.preprocess import landmarks, parallel, stages, tracks
    todo = [segment for segment in self.segments if not stages.is_done(segment.path, segment.mark)]
    total = sum(segment.stop - segment.start for segment in self.segments)
    left = sum(segment.stop - segment.start for segment in todo)
    is_first = total == left and not processes.index()
    processes.meet('looked')  # all know the same ones to be left
    todo = processes.dealt(todo)
    calls: list[tuple]
    work: Callable[..., int]
    if self.are_tracks:
      videos = [self.infos.index(segment.info) for segment in todo]
      calls = [(segment, self.sources[video], self.rows[video][segment.start:segment.stop])
               for segment, video in zip(todo, videos)]
      work = tracks.copy_segment
    else:
      model_path = self.sources[0]
      if is_first and not pool.submit(landmarks.count_probe_faces, self.infos, model_path).result():
        raise InputError(
            f'{", ".join(info.path for info in self.infos[:5])}{" ..." if len(self.infos) > 5 else ""}: no face found in '
            'any of the frames looked at; pass videos that show one face, large and from the front')
      calls, work = [(segment, model_path) for segment in todo], landmarks.detect_segment
    if todo:
      parallel.run_all(pool, work, calls, 'landmarks', total, total - left)  # of several processes, each sees its own share pass

  def _write_frames(self, pool, plan) -> None:
    from speech2lip_jax.preprocess import clips, parallel, stages
    frames, record = self.new / 'frames.npy', self.work / 'frames.npz'
    if frames.is_file() and stages.is_done(record, self.mark):
      return
    parts = clips.frame_parts(plan, self.work / 'frames', self.mark)
    todo = [part for part in parts if not (frames.is_file() and stages.is_done(part.marker, self.mark))]
    if len(todo) == len(parts):
      files.create_array(frames, np.uint8, (plan.num_frames, self.size, self.size, 3)).flush()
    left = sum(len(part.wanted) for part in todo)
    parallel.run_all(pool, clips.write_frames, [(part, frames) for part in todo], 'frames', plan.num_frames,
                     plan.num_frames - left)
    stages.save_array(self.new / 'landmarks.npy', plan.landmarks[..., :2].astype(np.float32))
    stages.save_array(self.new / 'is_interpolated.npy', plan.is_interpolated)
    clips.write_origin(self.new, plan, parts)
    stages.save(record, self.mark)

  def _track(self, pool, plan):
    """The fitted poses; sets `quality` and `warnings`."""
    from speech2lip_jax.preprocess import follow, photometric, quality, stages, tracking
    path, frames = self.work / 'tracking.npz', self.new / 'frames.npy'
    lengths = [clip.num_frames for clip in plan.clips]
    if stages.is_done(path, self.mark):
      record = stages.load(path)
      report = dict(zip(record['report_names'].tolist(), record['report_values'].tolist()))
      track = tracking.Track(record['poses'], float(record['focal_px']), record['points'], report)
      measured, weight = record['measured'], record['weight']
    else:
      measured = quality.measure(frames, plan.landmarks, pool)
      weight = quality.frame_weights(plan.landmarks, plan.is_interpolated, measured[:, 0], lengths)
      track = tracking.fit(plan.landmarks, plan.is_interpolated, lengths, self.size, frame_weight=weight)
      refined = follow.refit(track, plan.landmarks, weight, lengths, frames, self.size, pool)
      if refined is None:
        anchors = tracking.landmark_anchors(track, plan.landmarks, weight)
        refined = photometric.refine(track, plan.landmarks, anchors, weight, lengths, frames, self.size, pool)
      track = tracking.with_quality(refined, plan.landmarks, weight > 0, lengths, self.size)
      stages.save(path, self.mark, poses=track.observed_from_head, focal_px=np.array(track.focal_px), points=track.points,
                  measured=measured, weight=weight,
                  report_names=np.array(list(track.report)), report_values=np.array(list(track.report.values())))
    stages.save_array(self.new / 'observed_from_head.npy', track.observed_from_head)
    stages.save_array(self.new / 'points_head.npy', track.points.astype(np.float32))
    events = [event['event'] for happened in plan.events.values() for event in happened]
    source_scale = np.repeat([clip.crop.side / self.size for clip in plan.clips], lengths)
    self.quality, self.warnings = quality.assess(
        measured, weight, track.observed_from_head.astype(np.float64), plan.landmarks, source_scale, plan.is_interpolated,
        lengths, sum(info.num_frames for info in self.infos), events.count('cut'), track.report['reprojection_median_px'])
    return track

  def _canonical(self, plan, track):
    """Canonical frame, lip box and report; adds to `quality` and `warnings` how still the nose's base holds there."""
    from speech2lip_jax.preprocess import canonical, nose_base, projection, stages
    frames = np.load(self.new / 'frames.npy', mmap_mode='r')
    poses = track.observed_from_head.astype(np.float64)
    landmarks = plan.landmarks[..., :2]
    chosen = canonical.choose_frame(frames, landmarks, poses, plan.is_interpolated)
    scale, canonical_size = self.scale, round(self.size * self.scale)
    depth = canonical.depth_map(track.points, poses[chosen], track.focal_px * scale, canonical_size)
    stages.save_array(self.new / 'depth_canonical.npy', depth)
    picture, seen = canonical.enlarge(frames[chosen], scale), projection.canonical_pixels(landmarks[chosen], scale)
    stages.save_array(self.new / 'mask_face_canonical.npy', canonical.face_mask(seen, depth.shape))
    stages.save_array(self.new / 'mask_head_canonical.npy', canonical.head_mask(picture, seen))
    moves = relative_pose(poses, poses[chosen])
    steady = nose_base.measure(landmarks, moves, depth, track.focal_px, [clip.num_frames for clip in plan.clips],
                               plan.is_interpolated, scale)
    self.quality, self.warnings = self.quality | steady, self.warnings + nose_base.warnings(steady)
    mouths = projection.canonical_coords(landmarks[:, canonical.LIPS], depth, moves, track.focal_px, scale)
    box = canonical.lip_box(mouths[~plan.is_interpolated], canonical_size)
    return chosen, box, {'mouth_width_px': float(np.median(np.ptp(mouths[..., 0], axis=1)))}

  def _write_lips(self, pool, plan, track, canonical_frame: int, box: boxes.LipBox) -> None:
    """Larger than the frames, canonical lips are read from the videos again, which show more of them than the frames do."""
    from concurrent import futures

    from speech2lip_jax.preprocess import projection
    frames = np.load(self.new / 'frames.npy', mmap_mode='r')
    depth = np.load(self.new / 'depth_canonical.npy')
    poses = track.observed_from_head.astype(np.float64)
    moves = relative_pose(poses, poses[canonical_frame])
    if self.scale > 1:
      self._read_source_lips(pool, plan, moves, box, depth, track.focal_px * self.scale)
      return
    lips = files.create_array(self.new / 'rgb_lip_canonical.npy', np.uint8, (len(frames), box.height, box.width, 3))
    read = functools.partial(projection.read_lips, box=box, depth_canonical=depth, focal_px=track.focal_px)
    with futures.ThreadPoolExecutor(cores()) as threads:  # SciPy reads without the interpreter lock
      results = threads.map(lambda n: read(frames[n], observed_from_canonical=moves[n]), range(len(frames)))
      for n, image in enumerate(Bar(results, total=len(frames), title='lips')):
        lips[n] = image
    lips.flush()

  def _find_covered(self, plan, track, canonical_frame: int, box: boxes.LipBox) -> None:
    """Where something is before the mouth; adds to `quality` and `warnings`."""
    from speech2lip_jax.data.dataset import View
    from speech2lip_jax.preprocess import mouth_region, stages
    frames = np.load(self.new / 'frames.npy', mmap_mode='r')
    regions = mouth_region.Regions.around(box, np.load(self.new / 'depth_canonical.npy'))
    poses = track.observed_from_head.astype(np.float64)
    view = View(self.size, self.size, track.focal_px, self.scale, relative_pose(poses, poses[canonical_frame]))
    covered = mouth_region.find_covered(regions.read(frames, view, np.arange(len(frames))), plan.is_interpolated)
    stages.save_array(self.new / 'is_covered.npy', covered)
    self.quality = self.quality | {'covered_share': float(covered.mean())}
    if covered.any():
      self.warnings = self.warnings + [
          f'the mouth is covered for {covered.sum() / schema.FPS:.1f} s; these frames are left out of training and never painted']

  def _read_source_lips(self, pool, plan, moves: np.ndarray, box: boxes.LipBox, depth: np.ndarray, focal_px: float) -> None:
    """Canonical lips under observed_from_canonical [N, 4, 4]; focal_px: of the canonical image."""
    from speech2lip_jax.preprocess import clips, parallel, stages
    folder = self.work / self.final_mark  # of this scale alone
    lips, view = folder / 'lips.npy', clips.LipView(box, depth, focal_px)
    parts = clips.frame_parts(plan, folder, self.final_mark)
    todo = [part for part in parts if not (lips.is_file() and stages.is_done(part.marker, self.final_mark))]
    if len(todo) == len(parts):
      folder.mkdir(parents=True, exist_ok=True)
      files.create_array(lips, np.uint8, (plan.num_frames, box.height, box.width, 3)).flush()
    calls = [(part, lips, view, moves[part.first_frame:part.first_frame + len(part.wanted)]) for part in todo]
    left = sum(len(part.wanted) for part in todo)
    parallel.run_all(pool, clips.write_lips, calls, 'lips', plan.num_frames, plan.num_frames - left)
    os.replace(lips, self.new / 'rgb_lip_canonical.npy')


def _summarise(out: pathlib.Path, meta: schema.SubjectMeta, seconds: float) -> None:
  tracking, box = meta.report['tracking'], meta.lip_box
  print(
      f'{out}: {meta.num_frames} frames ({meta.num_frames / schema.FPS:.1f} s) of {meta.width} px in '
      f'{len(meta.clips)} clips, {meta.report["num_interpolated"]} interpolated\n'
      f'  focal length {meta.focal_px:.0f} px, landmarks fit to {tracking["reprojection_median_px"]:.2f} px '
      f'(95 %: {tracking["reprojection_p95_px"]:.2f}), jitter {tracking["jitter_px"]:.2f} px\n'
      + ''.join(f'  warning: {line}\n' for line in meta.report['warnings']) +
      f'  canonical frame {meta.canonical_frame}, lip box {box.width} × {box.height} at ({box.left}, {box.top})\n'
      f'  {seconds:.0f} s, {seconds / meta.num_frames:.3f} s a frame; look at {out / "contact_sheet.png"}')
