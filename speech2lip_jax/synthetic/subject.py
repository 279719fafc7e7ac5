"""A talking head whose truth is known: `SyntheticSubject` has pose, depth, landmarks and mouth of every frame, `make_clip` makes
a video of it.

    make_clip('talk.mp4', size=256, seconds=20, seed=0, motion='nodding')   # and talk.npz, its truth
    subject = SyntheticSubject(size=256, num_frames=500, seed=0, motion='nodding')
    picture = subject.render(17)                                            # .rgb .mask_head .depth
    turned = subject.render(17, pose=turn @ subject.observed_from_head[17], noise=False)

Everything is a function of (size, number of frames, seed, motion, rate). Camera, frames and sound as in `data.schema`.
"""
import concurrent.futures
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from speech2lip_jax.common import film_file
from speech2lip_jax.common.cores import cores
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data import schema
from speech2lip_jax.ops.boxes import smoothstep
from speech2lip_jax.preprocess import rigid
from speech2lip_jax.synthetic import speech
from speech2lip_jax.synthetic.expression import Expression
from speech2lip_jax.synthetic.renderer import Picture, Renderer

# Largest turn in degrees about x (nod), y (shake), z (tilt), and largest shift in head units along x, y, z.
MOTIONS = {
    'still': ((1.0, 1.2, 0.6), (0.02, 0.02, 0.05)),
    'nodding': ((8.0, 4.0, 2.0), (0.05, 0.05, 0.15)),
    'turning': ((5.0, 25.0, 3.0), (0.08, 0.05, 0.2)),
}
NECK_PIVOT = np.array([0.0, 0.9, 0.9])  # head units: the head turns about the top of the spine
SWAYS_HZ = (0.07, 0.13, 0.19, 0.29, 0.43)
BLINK_EVERY_S = (1.8, 5.0)
BROWS_EVERY_S = (0.8, 3.5)  # from one rise of the brows to the next
BROWS_TAKE_S = (0.5, 1.6)  # up and down again
LIGHT_SWING = 0.025  # of the brightness, slow
NOISE = 1.2  # standard deviation of each pixel and channel, of 255
MIN_SIZE = 64
FRAMES_AT_ONCE = 32  # in memory while a clip is written


class SyntheticSubject:
  """One talking head.

  Attributes:
    speech: `speech.Speech`; shapes: `speech.MouthShapes` of all frames; blink, brows: [N] 0 … 1.
    observed_from_head: [N, 4, 4] float64; focal_px: float; principal point (size − 1)/2.
  """

  def __init__(self, size: int, num_frames: int, seed: int = 0, motion: str = 'nodding', rate: float = schema.FPS):
    """size: side of the square picture, pixels, even. motion: a key of `MOTIONS`. rate: frames a second; at any rate a frame shows
    what happens half a 25th of a second after it appears.

    Raises:
      InputError: a value is out of range.
    """
    if size < MIN_SIZE or size % 2:
      raise InputError(f'size {size}: must be even and at least {MIN_SIZE}; give {max(MIN_SIZE, size // 2 * 2)}')
    if num_frames < 1:
      raise InputError(f'{num_frames} frames: must be at least 1; give more seconds')
    if motion not in MOTIONS:
      raise InputError(f'motion {motion!r}: no such motion; one of: {", ".join(MOTIONS)}')
    self.size, self.num_frames, self.seed, self.motion = size, num_frames, seed, motion
    self.renderer = Renderer(size)
    self.focal_px = self.renderer.focal_px
    self.speech = speech.make_speech(round(num_frames * schema.FPS / rate), seed)
    times = (np.arange(num_frames) * schema.FPS / rate + 0.5) / schema.FPS
    self.shapes = speech.mouth_shapes(self.speech.phonemes, times)
    self.blink = _blinks(times, seed)
    self.brows = _brows(times, seed)
    self.observed_from_head = self._poses(times)
    rng = np.random.default_rng([seed, 4])
    phases = rng.uniform(0, 2 * np.pi, (3, 2))
    colour = np.array([1.0, 1.0, 1.0]) + 0.2 * np.array([1.0, 0.0, -1.0]) * np.sin(0.31 * times + phases[1, 0])[:, None]
    self._light = 1 + LIGHT_SWING * np.sin(0.47 * times + phases[0, 0])[:, None] * colour  # [N, 3]

  def _poses(self, times: np.ndarray) -> np.ndarray:
    turns, shifts = MOTIONS[self.motion]
    rng = np.random.default_rng([self.seed, 2])
    swings = np.stack([_sway(times, rng) for _ in range(6)], axis=-1)
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    rotations = rigid.rotation_from_vector(swings[:, :3] * np.radians(turns))
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = self.rest_pose[:3, 3] + NECK_PIVOT - rotations @ NECK_PIVOT + swings[:, 3:] * shifts
    return poses

  @property
  def rest_pose(self) -> np.ndarray:
    """[4, 4] the pose of the photograph, looking into the camera."""
    return self.renderer.rest_pose

  def expression(self, frame: int) -> Expression:
    """Mouth, lids and brows of a frame."""
    shapes = self.shapes
    return Expression(float(shapes.opening[frame]), float(shapes.width[frame]), float(shapes.teeth[frame]),
                      float(shapes.tongue[frame]), float(self.blink[frame]), float(self.brows[frame]))

  def render(self, frame: int, pose: np.ndarray | None = None, noise: bool = True,
             expression: Expression | None = None) -> Picture:
    """The picture of a frame, rgb uint8; with `pose` [4, 4] (observed_from_head) as the same moment looks in that pose.

    noise: the camera's noise; the slow change of the light is there either way. expression: another face than the frame's.
    """
    pose = self.observed_from_head[frame] if pose is None else np.asarray(pose, np.float64)
    picture = self.renderer.render(pose, expression or self.expression(frame))
    rgb = picture.rgb * (255 * self._light[frame]).astype(np.float32)
    if noise:
      rgb = rgb + NOISE * np.random.default_rng([self.seed, 3, frame]).standard_normal(rgb.shape, np.float32)
    return Picture(np.clip(rgb + 0.5, 0, 255).astype(np.uint8), picture.mask_head, picture.depth)

  def landmarks(self, frame: int, pose: np.ndarray | None = None) -> np.ndarray:
    """[478, 3] float32: x, y in pixels, z in pixels relative to the face's middle, smaller towards the camera."""
    pose = self.observed_from_head[frame] if pose is None else np.asarray(pose, np.float64)
    return self.renderer.landmarks(pose, self.expression(frame))[1].astype(np.float32)

  def head_points(self, frame: int) -> np.ndarray:
    """[478, 3] the landmarks as head points, head units, under the frame's expression."""
    return self.renderer.landmarks(self.rest_pose, self.expression(frame))[0]

  def truth(self) -> dict[str, Any]:
    """The arrays of the truth file, see `make_clip`."""
    phonemes = self.speech.phonemes
    return {
        'landmarks': np.stack([self.landmarks(frame) for frame in range(self.num_frames)]),
        'observed_from_head': self.observed_from_head, 'focal_px': np.float64(self.focal_px),
        'opening': self.shapes.opening, 'width': self.shapes.width, 'teeth': self.shapes.teeth, 'tongue': self.shapes.tongue,
        'blink': self.blink, 'brows': self.brows, 'phoneme': np.array([phoneme.symbol for phoneme in phonemes]),
        'phoneme_start_s': np.array([phoneme.start for phoneme in phonemes]),
        'phoneme_end_s': np.array([phoneme.end for phoneme in phonemes]), 'texts': np.array(self.speech.texts),
        'size': self.size, 'seed': self.seed, 'motion': self.motion}


def make_clip(path: os.PathLike | str, size: int = 256, seconds: float = 20.0, seed: int = 0, motion: str = 'nodding',
              quality: int = 16, progress: bool = False) -> SyntheticSubject:
  """Writes a video, H.264 and AAC at 25 frames a second, and beside it its truth: the same name with .npz.

  The truth holds landmarks [N, 478, 3] float32 (pixels of the video, z as in `landmarks`; what `preprocess --tracks` reads),
  observed_from_head [N, 4, 4], focal_px, opening, width, teeth, tongue, blink and brows [N], phoneme, phoneme_start_s and
  phoneme_end_s [P], texts, and size, seed and motion, from which `SyntheticSubject` makes all the rest again.

  Args:
    path: FILE.mp4.
    size, seconds, seed, motion: of the subject.
    quality: H.264's constant rate factor, lower is better.
    progress: show a bar.

  Returns:
    The subject.

  Raises:
    InputError: a value is out of range.
  """
  path = pathlib.Path(path)
  if path.suffix != '.mp4':
    raise InputError(f'{path}: must end in .mp4')
  subject = SyntheticSubject(size, round(seconds * schema.FPS), seed, motion)
  truth = subject.truth()
  with film_file.Mp4Writer(path, size, size, schema.FPS, subject.speech.sound[None], schema.SAMPLE_RATE, quality) as writer:
    for rgb in Bar(_pictures(subject), total=subject.num_frames, show=progress):
      writer.write(rgb)
  with open_atomic(path.with_suffix('.npz')) as file:
    np.savez_compressed(file, **truth)
  return subject


def _pictures(subject: SyntheticSubject) -> Iterator[np.ndarray]:
  """All frames in order, rendered by as many threads as there are cores (OpenCV and NumPy let go of the interpreter)."""
  with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
    for start in range(0, subject.num_frames, FRAMES_AT_ONCE):
      yield from pool.map(lambda frame: subject.render(frame).rgb, range(start, min(start + FRAMES_AT_ONCE, subject.num_frames)))


def load_subject_of(truth_path: os.PathLike | str) -> SyntheticSubject:
  """The subject again from its truth file."""
  with np.load(truth_path) as truth:
    return SyntheticSubject(int(truth['size']), len(truth['landmarks']), int(truth['seed']), str(truth['motion']))


def _sway(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A slow wandering within −1 … 1 that reaches the ends in a long clip: a sum of sines of random phases, bent at the ends."""
  phases, weights = rng.uniform(0, 2 * np.pi, len(SWAYS_HZ)), rng.uniform(0.6, 1.0, len(SWAYS_HZ)) / np.sqrt(SWAYS_HZ)
  weights = weights / np.sqrt((weights**2).sum())
  return np.sin(1.1 * (weights * np.sin(2 * np.pi * np.array(SWAYS_HZ) * times[:, None] + phases)).sum(-1))


def _blinks(times: np.ndarray, seed: int) -> np.ndarray:
  """[N] 0 … 1: 0.1 s shutting, 0.17 s opening, every few seconds."""
  rng = np.random.default_rng([seed, 5])
  blink, at = np.zeros(len(times)), rng.uniform(*BLINK_EVERY_S)
  while at < times[-1]:
    after = times - at
    blink = np.maximum(blink, np.clip(np.where(after < 0, 1 + after / 0.1, 1 - (after - 0.03) / 0.17), 0, 1))
    at += rng.uniform(*BLINK_EVERY_S)
  return blink


def _brows(times: np.ndarray, seed: int) -> np.ndarray:
  """[N] 0 … 1: rises of many heights and lengths, whatever is said."""
  rng = np.random.default_rng([seed, 6])
  brows, at = np.zeros(len(times)), rng.uniform(0, BROWS_EVERY_S[0])
  while at < times[-1]:
    length = rng.uniform(*BROWS_TAKE_S)
    phase = np.clip((times - at) / length, 0, 1)
    brows = np.maximum(brows, rng.uniform(0.3, 1.0) * smoothstep(3 * phase) * smoothstep(3 * (1 - phase)))
    at += rng.uniform(*BROWS_EVERY_S)
  return brows
