"""How long do one training step and one rendered frame take at the paper's size, and how much memory?

500×500 frames, lip box 80×120, every lip pixel in the loss, one frame a step, as the reference program trains. Each part
runs in a process of its own, so that its peak memory is its own.

    python benchmarks/full_size.py
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def setup(folder):
  from configs import default
  from speech2lip_jax import train_step
  from speech2lip_jax.data import dataset
  from speech2lip_jax.subject_model import build_model, subject_constants
  config = default.get_config().unlock()
  config.data.path = str(folder)
  config.train.update(batch_size=1, blend_every=1, lip_pixels=0)
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config, train_step.AXIS)
  optimizer, _ = train_step.make_optimizer(config.train)
  state = train_step.create_state(model, optimizer, constants, config)
  return config, subject, split, constants, model, optimizer, state


def measure_train(folder):
  """Seconds of a step (median of 5) and of its compilation."""
  import jax

  from speech2lip_jax import train_step
  from speech2lip_jax.data.input_pipeline import TrainBatches
  from speech2lip_jax.devices import replicate, shard
  config, subject, split, constants, model, optimizer, state = setup(folder)
  batch = shard(TrainBatches(subject, split.train, seed=0, batch_size=1, window_steps=config.audio.window_steps,
                             blend_every=1).batch(0, with_frames=True))
  step = train_step.make_train_step(model, optimizer, config, 'blend')
  state, constants = replicate((state, constants))
  seconds = []
  for _ in range(6):
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, batch, constants))
    seconds.append(time.perf_counter() - start)
  return {'step_s': float(np.median(seconds[1:])), 'first_step_s': seconds[0], 'window': model.geometry.window,
          'loss': float(metrics['loss/total'][0])}


def measure_render(folder):
  """Seconds a frame over 10 frames (median of 3 rounds), one frame at a time."""
  from speech2lip_jax.data.dataset import subject_mel_windows
  from speech2lip_jax.predict import Predictor
  config, subject, split, constants, model, _, state = setup(folder)
  ids = split.train[:10]
  windows = subject_mel_windows(subject, ids, config.audio.window_steps)
  predictor = Predictor(model, {'params': state.params, 'batch_stats': state.batch_stats}, constants, subject, batch_size=1)
  list(predictor.from_speech(ids[:1], windows[:1]))
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    shapes = [prediction.rgb_face.shape for prediction in predictor.from_speech(ids, windows)]
    seconds.append((time.perf_counter() - start) / len(ids))
  return {'frame_s': float(np.median(seconds)), 'num_frames': len(shapes), 'shape': shapes[0]}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--part', choices=('train', 'render'))
  parser.add_argument('--folder')
  arguments = parser.parse_args()
  if arguments.part:
    result = {'train': measure_train, 'render': measure_render}[arguments.part](arguments.folder)
    result['peak_gib'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({arguments.part: result}))
    return
  from tests.toy_subject import write_toy_subject
  with tempfile.TemporaryDirectory() as folder:
    write_toy_subject(pathlib.Path(folder), size=500, clip_frames=(40,), lip_size=(80, 120))
    for part in ('train', 'render'):
      subprocess.run([sys.executable, __file__, '--part', part, '--folder', folder], check=True)


if __name__ == '__main__':
  main()
