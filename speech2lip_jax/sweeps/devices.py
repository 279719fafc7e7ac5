"""The accelerators of this machine, found without JAX, which would take their memory, and a trial's share of them."""
import os
import pathlib
import shutil
import subprocess
from typing import NamedTuple

MEMORY_OF_TRIALS = 0.9  # of a GPU's, for all trials on it


class Devices(NamedTuple):
  """kind: 'cuda', 'tpu' or ''. names: what each is called in the variable that chooses it; none on a machine with CPUs alone."""
  kind: str
  names: list[str]


def find_devices(root: str = '/') -> Devices:
  """The devices that this process may use."""
  if 'cpu' in os.environ.get('JAX_PLATFORMS', '').split(','):
    return Devices('', [])
  for kind, variable in (('cuda', 'CUDA_VISIBLE_DEVICES'), ('tpu', 'TPU_VISIBLE_CHIPS')):
    if variable in os.environ:
      names = [name for name in os.environ[variable].split(',') if name]
      return Devices(kind if names else '', names)
  if program := shutil.which('nvidia-smi'):
    told = subprocess.run([program, '--query-gpu=index', '--format=csv,noheader'], capture_output=True, text=True, check=False)
    if told.returncode == 0 and (names := told.stdout.split()):
      return Devices('cuda', names)
  chips = [*pathlib.Path(root, 'dev').glob('accel[0-9]*'), *pathlib.Path(root, 'dev/vfio').glob('[0-9]*')]
  return Devices('tpu' if chips else '', [str(i) for i in range(len(chips))])


def pinned(devices: Devices, slot: int, trials_per_device: int) -> dict[str, str]:
  """The variables that give the trial in a slot, 0 … devices × trials_per_device − 1, its device alone; none without devices."""
  if not devices.names:
    return {}
  name = devices.names[slot % len(devices.names)]
  if devices.kind == 'cuda':
    return {'CUDA_VISIBLE_DEVICES': name, 'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{MEMORY_OF_TRIALS / trials_per_device:.3f}'}
  return {'TPU_VISIBLE_CHIPS': name, 'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1', 'TPU_PROCESS_BOUNDS': '1,1,1'}
