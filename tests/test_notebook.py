"""The notebook in a kernel, tiny: the demo, a video of one's own on a stand-in for Colab, and each mistake in one line."""
import json
import os
import pathlib
import shutil

import pytest

from speech2lip_jax.common.weights import asset
from speech2lip_jax.synthetic import subject
from tests.test_demo import TINY

nbformat = pytest.importorskip('nbformat', reason='nbclient runs the notebook: pip install .[test]')
nbclient = pytest.importorskip('nbclient', reason='nbclient runs the notebook: pip install .[test]')

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'colab' / 'speech2lip.ipynb'
TINY_FLAGS = [f'--{name}={value}' for name, value in TINY.items()]
COLAB = {  # what of google.colab the notebook calls; UPLOADS holds the files that its user chooses, in their order
    'drive.py': 'import os\ndef mount(path): os.makedirs(path + "/MyDrive", exist_ok=True)\n',
    'files.py': 'import os, shutil\n'
                'def upload():\n'
                '  first = sorted(os.scandir(os.environ["UPLOADS"]), key=lambda entry: entry.name)[0]\n'
                '  shutil.move(first.path, first.name.partition("_")[2])\n'
                'def download(path): shutil.copy(path, os.environ["DOWNLOADS"])\n'}


def read():
  return nbformat.read(NOTEBOOK, as_version=4)


def tagged(cells, tag):
  found, = [cell for cell in cells if tag in cell.metadata.get('tags', [])]
  return found


def with_parameters(cells, **values):
  """The cells, with other values in the form."""
  tagged(cells, 'parameters').source += ''.join(f'\n{name} = {value!r}' for name, value in values.items())
  return cells


def execute(cells, folder, allow_errors=False, **environment):
  """Runs cells in a new kernel in `folder`, as a user without a landmark model; returns them with their outputs."""
  notebook = read()
  notebook.cells = cells
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'XDG_CACHE_HOME': str(folder / 'cache'), 'SPEECH2LIP_LANDMARKER': '',
                              'XLA_FLAGS': '--xla_backend_optimization_level=0'} | environment
  client = nbclient.NotebookClient(notebook, timeout=600, allow_errors=allow_errors, resources={'metadata': {'path': str(folder)}})
  client.execute(env=environment)
  return notebook.cells


def said(cell):
  return ''.join(output.text for output in cell.outputs if output.output_type == 'stream')


def shown(cell):
  return {kind for output in cell.outputs for kind in output.get('data', {})}


def test_the_notebook_is_stored_without_outputs_and_all_its_cells_are_python():
  cells = [cell for cell in read().cells if cell.cell_type == 'code']
  assert len(cells) >= 9
  for cell in cells:
    assert cell.outputs == [] and cell.execution_count is None
    compile(cell.source, str(NOTEBOOK), 'exec')


def test_every_cell_is_a_form_whose_code_colab_hides():
  for cell in read().cells:
    assert cell.cell_type == 'markdown' or (cell.source.startswith('#@title ') and cell.metadata['cellView'] == 'form')


@pytest.fixture(scope='module')
def mistakes(tmp_path_factory):
  """Cells that fail, all run in one kernel without a GPU, by the name of their mistake."""
  folder = tmp_path_factory.mktemp('mistakes')
  begun = []

  def again(tag, more='', **values):
    cells = with_parameters(read().cells, **values)
    cell = tagged(cells, tag)
    cell.source += more
    begun.extend([tagged(cells, 'parameters'), cell])
    return len(begun) - 1
  mine = {'CPU_WILL_DO': True, 'PERSON': 'my video'}
  places = {
      'no GPU': again('device'),
      'no Drive': again('program', DRIVE='here', CPU_WILL_DO=True),
      'no such wheel': again('program', "\npip('install', 'no/such-1-py3-none-any.whl')", CPU_WILL_DO=True),
      'no consent': again('video', **mine),
      'no such video': again('video', CONSENT='Anna, today, to this test', VIDEO='no.mp4', **mine),
      'no upload': again('video', CONSENT='Anna, today, to this test', **mine),
      'a refused flag': again('video', CPU_WILL_DO=True, FLAGS={'demo': ['--size=66']})}
  empty = folder / 'bin'  # no nvidia-smi
  empty.mkdir()
  done = execute(begun, folder, allow_errors=True, PATH=str(empty))
  return {name: done[place] for name, place in places.items()}


@pytest.mark.parametrize('name, told', [
    ('no GPU', 'Runtime → Change runtime type → T4 GPU'),
    ('no Drive', 'only Colab has Google Drive'),
    ('no such wheel', 'no/such-1-py3-none-any.whl'),
    ('no consent', 'CONSENT is empty'),
    ('no such video', 'no.mp4: no such file'),
    ('no upload', 'the video is missing: give its path in the form'),
    ('a refused flag', 'speech2lip demo: error: --size 66: must be at least'),
])
def test_a_mistake_ends_the_run_with_one_line(mistakes, name, told):
  errors = [output for output in mistakes[name].outputs if output.output_type == 'error']
  assert len(errors) == 1 and errors[0].ename == 'Stop'
  line, = errors[0].traceback
  assert told in line and '\n' not in line
  assert 'Traceback' not in said(mistakes[name])


def test_a_gpu_is_named(tmp_path):
  program = tmp_path / 'nvidia-smi'
  program.write_text('#!/bin/sh\necho "GPU 0: Tesla T4 (UUID: GPU-1)"\n')
  program.chmod(0o755)
  cells = read().cells
  done = execute([tagged(cells, 'parameters'), tagged(cells, 'device')], tmp_path, PATH=str(tmp_path))
  assert 'Tesla T4' in said(done[1])


@pytest.mark.slow
def test_the_demo_runs_whole(tmp_path):
  cells = execute(with_parameters(read().cells, CPU_WILL_DO=True, FLAGS={'demo': TINY_FLAGS}), tmp_path)
  assert 'ok        devices' in said(tagged(cells, 'program'))
  assert 'image/png' in shown(tagged(cells, 'prepare')) and 'image/png' in shown(tagged(cells, 'train'))
  assert 'text/html' in shown(tagged(cells, 'dub')) and 'text/markdown' in shown(tagged(cells, 'evaluate'))
  assert pathlib.Path(said(tagged(cells, 'download')).strip()).stat().st_size > 10_000


@pytest.mark.slow
def test_a_video_of_ones_own_is_uploaded_dubbed_downloaded_and_goes_on_from_drive(tmp_path):
  colab, uploads, downloads, drive = (tmp_path / name for name in ('google/colab', 'uploads', 'downloads', 'drive'))
  for folder in (colab, uploads, downloads):
    folder.mkdir(parents=True)
  for name, source in COLAB.items():
    (colab / name).write_text(source)
  (colab / '__init__.py').touch()
  subject.make_clip(tmp_path / 'talk.mp4', TINY['size'], TINY['seconds'])
  (tmp_path / 'talk.mp4').rename(uploads / '1_talk.mp4')
  environment = {'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path)]), 'UPLOADS': str(uploads), 'DOWNLOADS': str(downloads)}
  flags = {'preprocess': ['--size=64', f'--tracks={tmp_path / "talk.npz"}'],
           'train': ['--config.train.num_steps=4', '--config.train.eval_every=2', '--config.train.warmup_steps=1',
                     '--config.data.num_val_frames=8']}
  values = {'CPU_WILL_DO': True, 'PERSON': 'my video', 'CONSENT': "Anna's yes, today: {this} costs $5", 'DRIVE': 'kept',
            'MOUNT': str(drive), 'FLAGS': flags}
  session = tmp_path / 'session'
  session.mkdir()
  subject_folder = session / 'speech2lip' / 'anna' / 'subject'

  def run():
    shutil.copy(asset('foreign.opus'), uploads / '2_foreign.opus')
    return execute(with_parameters(read().cells, **values), session, **environment)
  cells = run()
  assert 'image/png' in shown(tagged(cells, 'prepare')) and 'text/html' in shown(tagged(cells, 'dub'))
  assert json.loads((subject_folder / 'consent.json').read_text())['consent'][-1]['text'] == values['CONSENT']
  assert (downloads / 'anna_dubbed.mp4').stat().st_size > 10_000
  (session / 'speech2lip').rename(tmp_path / 'lost')
  again = run()
  assert 'Going on from' in said(tagged(again, 'video'))
  assert 'tracking' in said(tagged(cells, 'prepare')) and 'tracking' not in said(tagged(again, 'prepare'))
  assert 'step 4' in said(tagged(cells, 'train')) and '1/4 steps' not in said(tagged(again, 'train'))
