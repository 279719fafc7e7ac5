"""A small subject folder with an exactly known truth: a textured head whose mouth opens with the sound's loudness."""
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from scipy.io import wavfile
from scipy.ndimage import gaussian_filter

from speech2lip_jax.data import schema
from speech2lip_jax.data.mel import log_mel
from speech2lip_jax.gamem import mapping
from speech2lip_jax.ops import boxes, sampling


def rotation(yaw: float, pitch: float) -> np.ndarray:
  """Head turned by yaw about y, then pitch about x, radians."""
  cy, sy, cx, sx = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
  return np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def write_toy_subject(folder: pathlib.Path, size: int = 64, clip_frames: tuple[int, ...] = (60, 40), seed: int = 0,
                      lip_size: tuple[int, int] | None = None) -> pathlib.Path:
  """Writes the folder and returns it. lip_size: (height, width) of the lip box, pixels."""
  rng = np.random.default_rng(seed)
  num_frames, focal = sum(clip_frames), 1.5 * size
  lip_height, lip_width = lip_size or (round(0.2 * size) // 2 * 2, round(0.32 * size) // 2 * 2)
  box = boxes.LipBox(top=round(0.66 * size - lip_height / 2), left=(size - lip_width) // 2, height=lip_height,
                      width=lip_width)
  ys, xs = np.mgrid[:size, :size].astype(np.float64)
  radius = np.hypot((xs - size / 2) / (0.32 * size), (ys - size / 2) / (0.42 * size))
  depth = (3.0 + 0.35 * np.minimum(radius, 1.6)**2).astype(np.float32)

  texture = gaussian_filter(rng.random((size, size, 3)), (2.5, 2.5, 0))
  texture = (texture - texture.min()) / np.ptp(texture) * 0.5 + 0.3
  loudness = np.abs(np.sin(np.cumsum(rng.uniform(0.1, 0.35, num_frames))))
  samples = rng.standard_normal((num_frames, schema.SAMPLES_PER_FRAME)) * (0.002 + 0.2 * loudness[:, None]**2)
  cy, cx = box.top + (box.height - 1) / 2, box.left + (box.width - 1) / 2

  def canonical(opening):
    distance = np.hypot((xs - cx) / (0.3 * box.width), (ys - cy) / (0.05 * box.height + 0.35 * box.height * opening))
    mouth = 1 / (1 + np.exp(8 * (distance - 1)))
    return texture * (1 - mouth[..., None]) + np.array([0.25, 0.05, 0.05]) * mouth[..., None]

  @jax.jit
  def observe(image, pose):
    grid = jnp.stack(jnp.meshgrid(jnp.arange(size), jnp.arange(size)), -1).astype(jnp.float32)
    coords = mapping.canonical_coords(grid, jnp.asarray(depth), pose, focal, num_steps=10)
    return sampling.sample_image(image, coords, method='bicubic', outside='border')

  poses = np.tile(np.eye(4), (num_frames, 1, 1))
  for n in range(num_frames):
    turn = rotation(0.08 * np.sin(n / 7), 0.05 * np.sin(n / 11))
    poses[n, :3, :3] = turn
    poses[n, :3, 3] = np.array([0, 0, 3.2]) - turn @ np.array([0, 0, 3.2])
  head_pose = np.eye(4)
  head_pose[2, 3] = 3.2
  canonicals = [canonical(opening) for opening in loudness]
  frames = [observe(jnp.asarray(image, jnp.float32), jnp.asarray(poses[n] @ np.linalg.inv(poses[0]), jnp.float32))
            for n, image in enumerate(canonicals)]
  to_uint8 = lambda images: np.round(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)

  starts = np.cumsum([0, *clip_frames[:-1]])
  mels, clips, mel_start = [], [], 0
  for i, (start, length) in enumerate(zip(starts, clip_frames, strict=True)):
    mel = log_mel(samples[start:start + length].ravel().astype(np.float32))
    clips.append(schema.Clip(f'clip{i}', f'clip{i}.mp4', int(start), length, mel_start, len(mel)))
    mels.append(mel)
    mel_start += len(mel)
  lips = [image[box.top:box.top + box.height, box.left:box.left + box.width] for image in canonicals]
  arrays = {
      'frames': to_uint8(frames), 'rgb_lip_canonical': to_uint8(lips),
      'observed_from_head': (poses @ head_pose).astype(np.float32),
      'landmarks': np.zeros((num_frames, schema.NUM_LANDMARKS, 2), np.float32),
      'is_interpolated': np.zeros(num_frames, bool), 'is_covered': np.zeros(num_frames, bool), 'depth_canonical': depth,
      'mask_head_canonical': (radius < 1.3).astype(np.uint8), 'mask_face_canonical': (radius < 1).astype(np.uint8),
      'mel': np.concatenate(mels)}
  folder.mkdir(parents=True, exist_ok=True)
  for name, array in arrays.items():
    np.save(folder / f'{name}.npy', array)
  wavfile.write(folder / 'audio.wav', schema.SAMPLE_RATE, (np.clip(samples.ravel(), -1, 1) * 32767).astype(np.int16))
  schema.write_meta(folder, schema.SubjectMeta(
      format_version=schema.SOURCELESS_VERSION, height=size, width=size, num_frames=num_frames, num_mel=mel_start,
      focal_px=focal, canonical_frame=0, lip_box=box, clips=tuple(clips), report={}))
  return folder
