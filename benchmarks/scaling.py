"""What a training step costs a device when one person's batch is shared by N devices, and what it sends: work and bytes, no times.

    python benchmarks/scaling.py

The default recipe's step on canonical lips, at 256×256. Strong scaling shares its 64 frames; weak scaling gives every device 64.
The work is XLA's count on the lowered step of one device, the bytes are those of the all-reduce operations in the lowered step of
two simulated devices. docs/scaling.md goes on from these numbers.
"""
import math
import os
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

FRAMES = 64
DEVICES = (1, 2, 4, 8, 16, 32, 64)
BYTES = {'f32': 4, 'i32': 4, 'bf16': 2, 'f64': 8, 'i1': 1}


def sent(step, *arguments) -> tuple[int, int]:
  """How many all-reduce operations the lowered step has, and the bytes that they sum over devices."""
  text = step.lower(*arguments).as_text()
  total, count = 0, 0
  for found in re.finditer(r'"?stablehlo\.all_reduce"?.*?\}\) .*?: \((.*?)\) ->', text, re.DOTALL):
    count += 1
    for shape in re.findall(r'tensor<([^>]*)>', found[1]):
      *sides, kind = shape.split('x')
      total += math.prod(map(int, sides)) * BYTES[kind]
  return count, total


def main() -> None:
  """Prints two tables."""
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'
  import jax

  from benchmarks.speed import Bench, gflop, make_subject
  from speech2lip_jax.common.devices import replicate, shard
  from speech2lip_jax.data.input_pipeline import TrainBatches
  from speech2lip_jax.models.lpips import OWN, load_lpips
  from speech2lip_jax.training import step as train_step
  from speech2lip_jax.workdir.state import FITTED
  with tempfile.TemporaryDirectory() as folder:
    bench = Bench(make_subject(folder, 256))
    constants, resident, lpips = bench.constants, bench.resident(), load_lpips(OWN)

    def lowered(num_frames: int, lip_pixels: int, num_perceived: int = 0, num_devices: int = 1):
      devices = jax.devices()[:num_devices]
      bench.config.train.lip_pixels = lip_pixels
      batches = TrainBatches(bench.subject, bench.split.train, seed=0, batch_size=num_frames * num_devices,
                             blend_every=bench.config.train.blend_every, num_perceived=num_perceived, num_devices=num_devices)
      batch = shard(batches.batch(0, with_frames=False, with_perceived=num_perceived > 0), num_devices)
      step = train_step.make_train_step(bench.model, bench.optimizer, bench.config, devices)
      state, *others = replicate((bench.state, resident, constants, train_step.Frozen(None, lpips)), devices)
      return step, state, batch, *others

    default = bench.config.train.lip_pixels
    shares = [FRAMES // devices for devices in DEVICES]
    columns = {f'{default} lip pixels': [gflop(*lowered(share, default)) for share in shares],
               'all lip pixels': [gflop(*lowered(share, 0)) for share in shares],
               'with two frames by the perceptual network': [
                   gflop(*lowered(share, default, 1 if devices > 1 else 2)) for share, devices in zip(shares, DEVICES)]}
    count, size = sent(*lowered(FRAMES // 2, default, num_devices=2))
  sizes = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in bench.state.params.items()}
  trained = sum(size for name, size in sizes.items() if name not in FITTED)
  print(f'{trained:,} parameters are trained, {sum(sizes.values()) - trained:,} were fitted before; {count} all-reduce operations '
        f'sum {size:,} bytes a step\n')
  print('GFLOP of a device, and how many times less that is than one alone has:\n')
  print(f'| devices | frames of each, strong | {" | ".join(columns)} | frames in all, weak | {" | ".join(columns)} |')
  print('|---' * (2 * len(columns) + 3) + '|')
  for row, devices in enumerate(DEVICES):
    strong = [f'{work[row]:.2f}, {work[0] / work[row]:.2f} ×' for work in columns.values()]
    weak = [f'{work[0]:.2f}' for work in columns.values()]
    print(f'| {devices} | {FRAMES // devices} | {" | ".join(strong)} | {FRAMES * devices:,} | {" | ".join(weak)} |')


if __name__ == '__main__':
  main()
