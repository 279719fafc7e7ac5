"""What a package index, Colab and a container get: links that lead somewhere, one address, and versions that fit one another."""
import configparser
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import types

import pytest

from speech2lip_jax import doctor

ROOT = pathlib.Path(__file__).resolve().parents[1]
ADDRESS = 'https://github.com/someone/speech2lip_jax'
BADGE = ('[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
         '(https://colab.research.google.com/github/{}/blob/main/colab/speech2lip.ipynb)')
DEVICES = {'cuda12', 'cuda13', 'tpu'}  # doctor's line of devices tells of these
# Of `pip freeze` on Colab with a T4, February 2026, what this project's requirements touch; what they require of one another.
COLAB = {
    'jax': '0.7.2', 'jaxlib': '0.7.2', 'jax-cuda12-plugin': '0.7.2', 'jax-cuda12-pjrt': '0.7.2', 'flax': '0.11.2', 'optax': '0.2.7',
    'orbax-checkpoint': '0.11.33', 'absl-py': '1.4.0', 'numpy': '2.0.2', 'scipy': '1.16.3', 'numba': '0.60.0', 'llvmlite': '0.43.0',
    'librosa': '0.11.0', 'matplotlib': '3.10.0', 'protobuf': '5.29.6', 'cryptography': '43.0.3', 'nvidia-cublas-cu12': '12.8.4.1',
    'nvidia-cuda-cupti-cu12': '12.8.90', 'nvidia-cuda-nvcc-cu12': '12.5.82', 'nvidia-cuda-nvrtc-cu12': '12.8.93',
    'nvidia-cuda-runtime-cu12': '12.8.90', 'nvidia-cudnn-cu12': '9.10.2.21', 'nvidia-cufft-cu12': '11.3.3.83',
    'nvidia-cusolver-cu12': '11.7.3.90', 'nvidia-cusparse-cu12': '12.5.8.93', 'nvidia-nccl-cu12': '2.27.5',
    'nvidia-nvjitlink-cu12': '12.8.93', 'nvidia-nvshmem-cu12': '3.4.5'}
COLAB_REQUIRES = {'numba': ['llvmlite<0.44,>=0.43', 'numpy<2.1,>=1.22'], 'librosa': ['numba>=0.51', 'numpy>=1.22.3'],
                  'scipy': ['numpy<2.6,>=1.25.2'], 'jax-cuda12-plugin': ['jax-cuda12-pjrt==0.7.2']}


@pytest.fixture(scope='module')
def setup():
  """The sections of setup.cfg."""
  parser = configparser.ConfigParser()
  parser.read(ROOT / 'setup.cfg', encoding='utf-8')
  return parser


def address_of(setup):
  return dict(re.findall(r'^(.+?)\s*=\s*(.+)$', setup.get('metadata', 'project_urls', fallback=''), re.MULTILINE)).get('Source')


def misplaced(address, readme, notebook):
  """What README and notebook must say where the address is set, and must not where it is not."""
  if not address:
    return ['README.md: has a badge and setup.cfg no Source'] * ('colab-badge' in readme) + [
        'the notebook has an address and setup.cfg no Source'] * ("SOURCE = ''" not in notebook)
  badge, source = BADGE.format(address.removeprefix('https://github.com/')), f"SOURCE = 'git+{address}'"
  return [f'README.md: add {badge}'] * (badge not in readme) + [f'colab/speech2lip.ipynb: {source}'] * (source not in notebook)


def notebook_source():
  cells = json.loads((ROOT / 'colab' / 'speech2lip.ipynb').read_text(encoding='utf-8'))['cells']
  return '\n'.join(''.join(cell['source']) for cell in cells)


def test_badge_and_notebook_have_the_address_where_it_is_set(setup):
  assert misplaced(address_of(setup), (ROOT / 'README.md').read_text(encoding='utf-8'), notebook_source()) == []


@pytest.mark.parametrize('address, readme, notebook, count', [
    (None, '', "SOURCE = ''", 0), (None, 'colab-badge', "SOURCE = 'git+x'", 2), (ADDRESS, '', "SOURCE = ''", 2),
    (ADDRESS, BADGE.format('someone/speech2lip_jax'), f"SOURCE = 'git+{ADDRESS}'", 0)])
def test_a_missing_or_early_badge_is_told(address, readme, notebook, count):
  assert len(misplaced(address, readme, notebook)) == count


def long_description(folder, monkeypatch):
  """What setup.py of that folder gives setuptools."""
  given = {}
  monkeypatch.setitem(sys.modules, 'setuptools', types.SimpleNamespace(setup=given.update))
  runpy.run_path(str(folder / 'setup.py'))
  return given['long_description']


def test_on_an_index_the_readmes_links_lead_to_the_address(tmp_path, monkeypatch):
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert ADDRESS not in readme
  for name in ('setup.py', 'README.md'):
    shutil.copy(ROOT / name, tmp_path)
  (tmp_path / 'setup.cfg').write_text('[metadata]\nname = x\n')
  assert long_description(tmp_path, monkeypatch) == readme
  (tmp_path / 'setup.cfg').write_text(f'[metadata]\nproject_urls =\n    Source = {ADDRESS}\n    Documentation = https://other\n')
  shown = long_description(tmp_path, monkeypatch)
  assert f']({ADDRESS}/blob/HEAD/docs/results.md' in shown and f']({ADDRESS}/raw/HEAD/docs/gallery/demo.webp)' in shown
  assert not re.findall(r'\]\((?!#|https?:)', shown)
  assert re.sub(re.escape(ADDRESS) + '/(blob|raw)/HEAD/', '', shown) == readme


def test_doctor_tells_of_every_optional_part(setup):
  assert set(setup['options.extras_require']) == set(doctor.EXTRAS) | DEVICES | {'all'}


def test_the_container_has_the_libraries_that_ci_has(setup):
  needed = re.findall(r'install --yes (.+)', (ROOT / '.github' / 'workflows' / 'ci.yml').read_text())
  container = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
  assert needed and all(re.search(rf'\b{re.escape(package)}\b', container) for package in needed[0].split())
  extras = re.search(r'\[(\w+)\$\{EXTRA:\+,\$EXTRA\}\]', container)
  assert extras and extras[1] in setup['options.extras_require']


def resolved(*arguments):
  """What uv would install, {package: version}; skips where there is no network."""
  command = [sys.executable, '-m', 'uv', 'pip', *arguments, '--python-platform', 'x86_64-manylinux_2_28', '--only-binary', ':all:',
             '--no-binary', 'speech2lip-jax']
  done = subprocess.run(command, input=f'speech2lip_jax[preprocess,cuda12] @ {ROOT.as_uri()}', capture_output=True, text=True)
  if 'Failed to fetch' in done.stderr:
    pytest.skip('needs a package index')
  assert done.returncode == 0, done.stderr
  return dict(re.findall(r'^(?: \+ )?([\w.-]+)==([\w.]+)', done.stdout + done.stderr, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize('python', ['3.11', '3.12', '3.13', '3.14'])
def test_wheels_of_all_that_is_needed_are_there(python):
  found = resolved('compile', '-', '--no-header', '--no-annotate', '--python-version', python)
  assert found['jax'] == found['jaxlib'] == found['jax-cuda12-plugin'] and 'mediapipe' in found


@pytest.mark.slow
def test_colab_gets_a_cuda_plugin_of_its_new_jax_and_keeps_its_cuda(tmp_path):
  for name, version in COLAB.items():
    folder = tmp_path / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir()
    requires = ''.join(f'Requires-Dist: {requirement}\n' for requirement in COLAB_REQUIRES.get(name, []))
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}')
    for file in ('RECORD', 'WHEEL'):
      (folder / file).touch()
  found = resolved('install', '--dry-run', '--target', str(tmp_path), '--python-version', '3.12', '--requirements', '-')
  assert found['jax'] == found['jaxlib'] == found['jax-cuda12-plugin'] == found['jax-cuda12-pjrt'] != '0.7.2'
  assert [name for name in found if name.startswith('nvidia-')] in ([], ['nvidia-cuda-nvcc-cu12'])
  assert found.get('numpy', '2.0.2') == '2.0.2' or 'numba' in found  # numba 0.60 takes no newer one
