"""How long do one training step and one rendered frame take at the paper's size, and how much memory?

500×500 frames, lip box 80×120, every lip pixel in the loss, one frame a step, as the reference program trains ('train'); and
steps of 8 frames, one of them composed, without and with the sync loss, whose window are 5 of the 8 ('plain', 'sync'). Each
part runs in a process of its own, so that its peak memory is its own.

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


PARTS = {'train': (1, 1, 'blend'), 'plain': (8, 8, 'blend'), 'sync': (8, 8, 'blend+sync')}  # frames, blend_every, phase


def setup(folder, batch_size=1, blend_every=1):
  from configs import default
  from speech2lip_jax import train_step
  from speech2lip_jax.data import dataset
  from speech2lip_jax.subject_model import build_model, subject_constants
  config = default.get_config().unlock()
  config.data.path = str(folder)
  config.train.update(batch_size=batch_size, blend_every=blend_every, lip_pixels=0)
  config.sync.num_windows = 1
  subject = dataset.load_subject(folder)
  split = dataset.split_frames(subject, config.data)
  constants = subject_constants(subject, split.train)
  model = build_model(subject, config, train_step.AXIS)
  optimizer, _ = train_step.make_optimizer(config.train)
  state = train_step.create_state(model, optimizer, constants, config)
  return config, subject, split, constants, model, optimizer, state


def measure_train(folder, part):
  """Seconds of a step (median of 5) and of its compilation."""
  import jax

  from configs import expert as expert_recipe
  from speech2lip_jax import sync_expert, sync_training, train_step
  from speech2lip_jax.data.features import open_features
  from speech2lip_jax.data.input_pipeline import TrainBatches
  from speech2lip_jax.devices import replicate, shard
  batch_size, blend_every, phase = PARTS[part]
  config, subject, split, constants, model, optimizer, state = setup(folder, batch_size, blend_every)
  expert = sampler = None
  if 'sync' in phase:
    recipe = expert_recipe.get_config().unlock()
    recipe.train.update(num_steps=2, run_frames=20)
    expert = sync_training.train_expert(subject, split.train, recipe, show_progress=False)
    sampler = sync_expert.sync_sampler(expert, subject, split.train, config.sync, seed=0)
  batch = shard(TrainBatches(subject, split.train, open_features(subject, config.audio), seed=0, batch_size=batch_size,
                             blend_every=blend_every, sync=sampler).batch(0, with_frames=True, with_sync=sampler is not None))
  step = train_step.make_train_step(model, optimizer, config, phase)
  state, constants, frozen = replicate((state, constants, train_step.Frozen(expert)))
  seconds = []
  for _ in range(6):
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, batch, constants, frozen))
    seconds.append(time.perf_counter() - start)
  return {'step_s': float(np.median(seconds[1:])), 'first_step_s': seconds[0], 'window': model.geometry.window,
          'loss': float(metrics['loss/total'][0])}


def measure_render(folder):
  """Seconds a frame over 10 frames (median of 3 rounds), one frame at a time."""
  from speech2lip_jax.data.features import open_features
  from speech2lip_jax.predict import Predictor
  config, subject, split, constants, model, _, state = setup(folder)
  ids = split.train[:10]
  windows = open_features(subject, config.audio).subject_windows(ids)
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
  parser.add_argument('--part', choices=(*PARTS, 'render'))
  parser.add_argument('--folder')
  arguments = parser.parse_args()
  if arguments.part:
    folder, part = arguments.folder, arguments.part
    result = measure_train(folder, part) if part in PARTS else measure_render(folder)
    result['peak_gib'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({arguments.part: result}))
    return
  from tests.toy_subject import write_toy_subject
  with tempfile.TemporaryDirectory() as folder:
    write_toy_subject(pathlib.Path(folder), size=500, clip_frames=(40,), lip_size=(80, 120))
    for part in (*PARTS, 'render'):
      subprocess.run([sys.executable, __file__, '--part', part, '--folder', folder], check=True)


if __name__ == '__main__':
  main()
