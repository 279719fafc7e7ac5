"""Says whether this installation can do its work, and what each optional part still needs.

    speech2lip doctor

A line each for the packages, the devices, the codecs, the models and the optional parts; nothing is downloaded or written.
"""
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from speech2lip_jax import cli
from speech2lip_jax.common.errors import InputError

PROJECT = 'speech2lip_jax'
OPENCVS = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
# Encoders, and what is written with them.
NEEDED_ENCODERS = {'libx264': 'the pictures of every mp4', 'aac': 'the sound of every mp4'}
OPTIONAL_ENCODERS = {'libx265': 'dub --codec hevc', 'prores_ks': 'dub --codec prores'}
EXTRAS = {'preprocess': 'preprocess and dub, which look for faces', 'convert': 'convert, which reads PyTorch files',
          'speech': "config.audio.features='hf:…', speech encoders of Hugging Face", 'tts': 'dub --text with a neural voice',
          'app': 'app, the page in the browser', 'slurm': 'sweep --launcher slurm',
          'search': 'sweep where get_hyper returns a space', 'test': 'the tests'}


class Finding(NamedTuple):
  """part: what was looked at; state: 'ok', 'missing' (the main job cannot run) or 'optional'; told: what was found, what to do."""
  part: str
  state: str
  told: str


def unmet(requirements: list[str], extra: str = '') -> list[str]:
  """Those of a package's requirements, as its metadata list them, that are not installed as they ask for it: 'av>=17.1 (16.0)'.

  extra: the optional part whose requirements are looked at, or those of the package itself.
  """
  lines = []
  for text in requirements:
    requirement = Requirement(text)
    here = requirement.marker is None or requirement.marker.evaluate({'extra': extra})
    without = bool(extra) and (requirement.marker is None or requirement.marker.evaluate({'extra': ''}))
    if not here or without:
      continue
    if canonicalize_name(requirement.name) == canonicalize_name(PROJECT):  # an extra of extras
      lines += [line for other in requirement.extras for line in unmet(requirements, other)]
      continue
    try:
      version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
      lines.append(f'{requirement.name}{requirement.specifier} (not installed)')
    else:
      if not requirement.specifier.contains(version, prereleases=True):
        lines.append(f'{requirement.name}{requirement.specifier} ({version})')
  return lines


def packages() -> Iterator[Finding]:
  """The packages that are always needed, and that OpenCV is there once."""
  lacking = unmet(metadata.requires(PROJECT) or [])
  yield Finding('packages', 'missing' if lacking else 'ok', f'pip install {" ".join(line.split()[0] for line in lacking)}'
                f': {", ".join(lacking)}' if lacking else 'all are installed')
  wheels = {dist.metadata['Name'].lower().replace('_', '-') for dist in metadata.distributions()} & set(OPENCVS)
  if len(wheels) > 1:
    names = ' '.join(sorted(wheels))
    yield Finding('OpenCV', 'missing', f'{names} overwrite one another; pip uninstall -y {names}, then install this project again')


def compute() -> Iterator[Finding]:
  """What JAX computes on, and this machine's memory and room."""
  from speech2lip_jax.common import devices
  idle = devices.missing_plugin()
  yield Finding('devices', 'optional' if idle else 'ok', devices.described() + (f'; {idle}' if idle else ''))
  if hasattr(os, 'sysconf') and 'SC_PHYS_PAGES' in os.sysconf_names:
    yield Finding('memory', 'ok', f'{os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30:.1f} GiB')
  yield Finding('disk', 'ok', f'{shutil.disk_usage(".").free / 1e9:.0f} GB are free here; a minute of video takes .3 GB at 256 px')


def codecs() -> Iterator[Finding]:
  """The encoders of this build of FFmpeg, which comes with PyAV."""
  import av
  for encoders, state in ((NEEDED_ENCODERS, 'missing'), (OPTIONAL_ENCODERS, 'optional')):
    for name, use in encoders.items():
      found = name in av.codec.codecs_available and _encodes(name)
      yield Finding(name, *(('ok', use) if found else (state, f'{use}: this build of PyAV lacks it; pip install a wheel of av')))


def _encodes(name: str) -> bool:
  import av
  try:
    return av.codec.Codec(name, 'w').is_encoder
  except ValueError:
    return False


def models() -> Iterator[Finding]:
  """The landmark model, and the networks inside the package."""
  from speech2lip_jax.common.weights import asset
  from speech2lip_jax.preprocess import landmarks
  flagged, cached = os.environ.get(landmarks.MODEL_VARIABLE), landmarks.cached_model()
  path = flagged or (str(cached) if cached.is_file() else None)
  if path is None:
    yield Finding('landmark model', 'optional', f'the first preprocess fetches it into {cached.parent} (3.8 MB, '
                  f'{landmarks.MODEL_URL}); without a network put it there, or name it by --landmarker or '
                  f'${landmarks.MODEL_VARIABLE}')
  elif not os.path.isfile(path):
    yield Finding('landmark model', 'missing', f'${landmarks.MODEL_VARIABLE}={path}: no such file')
  else:
    is_known = landmarks.file_digest(path) == landmarks.MODEL_SHA256
    yield Finding('landmark model', 'ok', path + ('' if is_known else ' (not the file that this project was measured with)'))
  for name in ('st_lpips_alex.npz', 'whisper_tiny_2_layers.npz'):
    yield Finding(name, *(('ok', 'inside the package') if asset(name).is_file() else
                          ('missing', 'is not inside the package; install this project again')))


def optional_parts() -> Iterator[Finding]:
  """The extras, and espeak-ng."""
  requirements = metadata.requires(PROJECT) or []
  for extra, use in EXTRAS.items():
    lacking = unmet(requirements, extra)
    remedy = f"pip install '{PROJECT}[{extra}]', in a checkout pip install -e '.[{extra}]', brings {', '.join(lacking)}"
    yield Finding(f'[{extra}]', *(('optional', f'{use}: {remedy}') if lacking else ('ok', use)))
  speaks = shutil.which('espeak-ng')
  yield Finding('espeak-ng', 'ok' if speaks else 'optional', 'dub --text' + ('' if speaks else ': apt install espeak-ng, or brew '
                                                                            'install espeak-ng'))


def main() -> None:
  """The verb."""
  print(cli.version())
  missing = 0
  for look in (packages, compute, codecs, models, optional_parts):
    for part, state, told in look():
      print(f'{state:<9} {part:<26} {told}', flush=True)
      missing += state == 'missing'
  if missing:
    raise InputError(f'{missing} needed part{"s are" if missing > 1 else " is"} missing; the lines above say what to do')


if __name__ == '__main__':
  cli.run_verb('doctor', sys.modules[__name__], sys.argv)
