"""What a recipe will do on the devices at hand, told before it begins."""
import jax
from ml_collections import ConfigDict

from speech2lip_jax.common.devices import most_sharing
from speech2lip_jax.common.errors import InputError


def num_shared(config: ConfigDict) -> dict[str, int]:
  """What every device takes an equal share of in each step: how many there are of it over all devices, by how it is told."""
  train, shared = config.train, {f'config.train.batch_size={config.train.batch_size}': config.train.batch_size}
  if train.blend_start_step < train.num_steps:
    name = f'{train.batch_size} / config.train.blend_every={train.blend_every} composed frames'
    shared[name] = train.batch_size // train.blend_every
  if config.sync.expert:
    shared[f'config.sync.num_windows={config.sync.num_windows}'] = config.sync.num_windows
  return shared


def num_devices_used(config: ConfigDict, num_devices: int, num_processes: int = 1) -> int:
  """The most of `num_devices`, as many in each process, that a step's frames and windows divide by.

  Raises:
    InputError: the processes alone are more than that.
  """
  shared = num_shared(config)
  if count := most_sharing(shared.values(), num_devices, num_processes):
    return count
  odd = [name for name, value in shared.items() if value % num_processes]
  raise InputError(f'{odd[0]}: cannot be shared evenly by {num_processes} processes; give a multiple of {num_processes}, or as '
                   'many processes as divide it')


def idle_devices(config: ConfigDict, num_devices: int, num_used: int) -> list[str]:
  """A line on devices that have no share, if there are any."""
  odd = [name for name, value in num_shared(config).items() if value % num_devices]
  return [f'{num_used} of {num_devices} devices are used: {", ".join(odd)} cannot be shared by more of them evenly'] if odd else []


def what_will_not_happen(config: ConfigDict) -> list[str]:
  """Lines on parts of the recipe that begin only after the last step."""
  lines, steps = [], config.train.num_steps
  if config.train.blend_start_step >= steps:
    lines.append(f'Blend-Net: off (config.train.blend_start_step={config.train.blend_start_step}, the run ends at '
                 f'config.train.num_steps={steps}); frames are composed without it')
  if config.sync.expert and config.sync.start_step >= steps:
    lines.append(f'the sync loss will not be used: it begins at config.sync.start_step={config.sync.start_step}, the run ends at '
                 f'config.train.num_steps={steps}')
  end = min(steps, config.train.blend_start_step)
  if config.loss.lip_perceptual_weight and config.perceptual.start_step >= end:
    lines.append('lips will not be trained by the perceptual distance: that begins at config.perceptual.start_step='
                 f'{config.perceptual.start_step} and ends at step {end}, where Blend-Net or the end comes')
  return lines


def compiles_ahead() -> bool:
  """Whether later steps are compiled by a thread while earlier ones are taken.

  Not on a CPU, where both want the same cores: HD's default then took 162 s instead of 144. Several processes, which may tune
  kernels together, compile in the order of their steps.
  """
  return jax.default_backend() != 'cpu' and jax.process_count() == 1
