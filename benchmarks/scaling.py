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
  from speech2lip_jax.training import step as train_step
  with tempfile.TemporaryDirectory() as folder:
    subject = make_subject(folder, 256)
    bench = Bench(subject)

    def lowered(num_frames: int, num_devices: int):
      devices = jax.devices()[:num_devices]
      bench.config.train.batch_size = num_frames * num_devices
      batch = shard(bench.batches().batch(0, with_frames=False), num_devices)
      step = train_step.make_train_step(bench.model, bench.optimizer, bench.config, devices)
      state, *others = replicate((bench.state, bench.resident(), bench.constants, train_step.Frozen()), devices)
      return step, state, batch, *others

    work = {num_frames: gflop(*lowered(num_frames, 1)) for num_frames in sorted({FRAMES // count for count in DEVICES})}
    count, size = sent(*lowered(FRAMES, 2))
  num_parameters = sum(x.size for x in jax.tree.leaves(bench.state.params))
  print(f'{num_parameters:,} parameters with what is fitted before training; '
        f'{count} all-reduce operations of {size:,} bytes a step\n')
  print('| devices | strong: frames a device | GFLOP a device | at best | weak: frames in all | GFLOP a device |')
  print('|---|---|---|---|---|---|')
  for devices in DEVICES:
    share = work[FRAMES // devices]
    print(f'| {devices} | {FRAMES // devices} | {share:.2f} | {work[FRAMES] / share:.2f} × | {FRAMES * devices:,} | '
          f'{work[FRAMES]:.2f} |')


if __name__ == '__main__':
  main()
