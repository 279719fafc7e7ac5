"""The verb convert: PyTorch files of LPIPS and of SyncNet to ours and back to the golden outputs; bad files, one line each."""
import functools
import io
import json
import os
import pickle
import subprocess
import sys
import types
import zipfile

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from speech2lip_jax import convert
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.models import lpips, syncnet
from speech2lip_jax.released import import_networks, torch_file, torch_weights
from speech2lip_jax.sync import syncnet_expert
from tests import goldens, syncnet_weights
from tests.test_cli import ROOT, fails


def _torch():
  return pytest.importorskip('torch', reason='PyTorch files are written and read with torch: pip install .[convert]')


def _save(path, state, **options):
  """Writes {name: array} as torch.save does; returns the path."""
  torch = _torch()
  torch.save({name: torch.from_numpy(np.array(array)) for name, array in state.items()}, path, **options)
  return str(path)


def _assert_same_trees(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def _public_lpips():
  """The golden LPIPS under the names of the two public files: (AlexNet, linear weights)."""
  state = goldens.weights('lpips')
  alexnet = {f'features.{name.split(".", 2)[2]}': array for name, array in state.items() if name.startswith('net.')}
  return (alexnet | {'classifier.1.weight': np.zeros((4, 2), np.float32)},
          {name: array for name, array in state.items() if name.startswith('lin')})


class _Code:
  """Runs a command wherever it is unpickled."""

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


def _message(function, *arguments):
  with pytest.raises(InputError) as caught:
    function(*arguments)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_lpips_converted_from_a_whole_module_gives_the_golden_distance(tmp_path):
  golden, state = goldens.load('lpips'), goldens.weights('lpips')
  twice = {f'lins.{name[3]}.{name[5:]}': array for name, array in state.items() if name.startswith('lin')}
  out = tmp_path / 'lpips.npz'
  import_networks.convert_lpips([_save(tmp_path / 'whole.pth', state | twice)], str(out))
  pictures = [golden[f'a_in{i}'].transpose(0, 2, 3, 1) / 2 + 0.5 for i in range(2)]
  distance, _ = jax.jit(lpips.Lpips().apply)(lpips.load_lpips(out).variables, *pictures)
  np.testing.assert_allclose(distance, golden['a_dist'].reshape(1), rtol=0, atol=2e-5)


def test_lpips_converted_from_the_two_public_files_is_the_same_in_either_order(tmp_path):
  alexnet, lins = _public_lpips()
  files = [_save(tmp_path / 'alexnet.pth', alexnet, _use_new_zipfile_serialization=False),  # as torchvision's older file
           _save(tmp_path / 'alex.pth', lins)]
  expected = torch_weights.lpips_from_torch(goldens.weights('lpips'))
  expected['params'] |= {'shift': np.float32(lpips.SHIFT), 'scale': np.float32(lpips.SCALE)}
  for i, order in enumerate((files, files[::-1])):
    import_networks.convert_lpips(order, str(tmp_path / f'{i}.npz'))
    _assert_same_trees(lpips.load_lpips(tmp_path / f'{i}.npz').variables, expected)


def test_syncnet_converted_from_a_training_checkpoint_gives_the_golden_embeddings(tmp_path):
  torch = _torch()
  state = {f'module.{name}': torch.from_numpy(array) for name, array in syncnet_weights.state().items()}
  state['module.face_encoder.0.conv_block.1.num_batches_tracked'] = torch.tensor(7)
  source = tmp_path / 'lipsync_expert.pth'
  torch.save({'state_dict': state, 'optimizer': {'state': {}, 'param_groups': [{'lr': 1e-4}]}, 'global_step': 5}, source)
  import_networks.convert_syncnet(str(source), str(tmp_path / 'out'))
  description = json.loads((tmp_path / 'out' / 'expert.json').read_text())
  assert (description['kind'], description['source'], len(description['sha256'])) == ('syncnet', 'lipsync_expert.pth', 64)
  variables = syncnet_expert.load_syncnet(tmp_path / 'out')
  _assert_same_trees(variables, torch_weights.syncnet_from_torch(syncnet_weights.state()))
  golden = goldens.load('syncnet')
  out = jax.jit(functools.partial(syncnet.SyncNet().apply, method='embed_mel'))(variables, golden['mel'][:, 0].transpose(0, 2, 1))
  np.testing.assert_allclose(out, golden['audio_emb'], rtol=0, atol=goldens.CONV_ATOL)


def test_the_verb_converts_and_says_so(tmp_path):
  source, out = _save(tmp_path / 'whole.pth', goldens.weights('lpips')), tmp_path / 'lpips.npz'
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax.convert', '--kind=lpips', f'--src={source}', f'--out={out}'],
                        cwd=ROOT, capture_output=True, text=True)
  following = f'next: speech2lip evaluate --workdir RUN --out RUN/eval --lpips {out}\n'
  assert (done.returncode, done.stdout) == (0, f'{out}: lpips of {source}\n{following}'), done.stderr
  _assert_same_trees(lpips.load_lpips(out).variables, torch_weights.lpips_from_torch(goldens.weights('lpips')))


def test_the_authors_files_go_to_their_own_module_with_the_dataset(monkeypatch):
  calls = []
  module = types.SimpleNamespace(convert_speech2lip=lambda *arguments: calls.append(arguments))
  monkeypatch.setitem(sys.modules, 'speech2lip_jax.released.import_workdir', module)
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(kind='speech2lip', src='a.pth', dataset='data', out='out'):
    convert.main()
    assert calls == [('a.pth', 'data', 'out')]
    flags.FLAGS.kind = 'syncnet'
    assert '--dataset=data: goes with --kind speech2lip only' in _message(convert.main)
    flags.FLAGS.kind = None
    assert 'are needed' in _message(convert.main)


def test_an_unknown_kind_lists_the_kinds():
  assert 'one of <lpips|syncnet|speech2lip>' in fails('convert', '--kind=vgg', '--src=x.pth', '--out=x.npz')


def test_files_that_cannot_be_read_are_named_before_torch_is_asked(tmp_path):
  absent = f'{tmp_path}/absent.pth'
  assert _message(import_networks.convert_syncnet, absent, f'{tmp_path}/out') == f'{absent}: no such file'
  empty = tmp_path / 'empty.pth'
  empty.touch()
  assert 'is empty' in _message(torch_file.check, empty)
  whole = io.BytesIO()
  with zipfile.ZipFile(whole, 'w') as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02}.' * 1000)
  cut = tmp_path / 'cut.pth'
  cut.write_bytes(whole.getvalue()[:2000])
  assert 'no end (2000 bytes are there)' in _message(torch_file.check, cut)
  assert 'absent.pth: no such file' in _message(import_networks.convert_lpips, [str(cut.with_name('absent.pth'))], 'x.npz')


@pytest.mark.parametrize('protocol', [2, 4])
def test_code_in_a_pickle_is_found_without_running_it(tmp_path, protocol):
  path = tmp_path / 'code.pth'
  path.write_bytes(pickle.dumps({'weight': _Code(f'touch {tmp_path}/ran')}, protocol=protocol))
  assert torch_file._foreign_name(path) == f'{os.name}.system'
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('form', ['archive', 'older', 'pickle 2', 'pickle 4', 'whole network'])
def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path, form):
  torch, path = _torch(), tmp_path / 'code.pth'
  code = _Code(f'touch {tmp_path}/ran')
  if form.startswith('pickle'):
    path.write_bytes(pickle.dumps(code, protocol=int(form[-1])))
  elif form == 'whole network':
    torch.save(torch.nn.Linear(2, 2), path)
  else:
    torch.save({'weight': torch.zeros(2), 'more': code}, path, _use_new_zipfile_serialization=form == 'archive')
  message = _message(torch_file.load_checkpoint, path)
  assert f'{path}: holds code (' in message and 'is refused' in message
  assert ('torch.nn.modules.linear.Linear' if form == 'whole network' else f'{os.name}.system') in message
  assert not (tmp_path / 'ran').exists()


def test_damaged_and_foreign_files_are_told_apart(tmp_path):
  torch, weights = _torch(), {'weight': np.ones((64, 64), np.float32)}
  for older in (False, True):
    path = tmp_path / f'{older}.pth'
    _save(path, weights, _use_new_zipfile_serialization=not older)
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    message = _message(torch_file.load_checkpoint, path)
    assert f'({len(content) // 2} bytes are there); was the download cut short?' in message
  picture = tmp_path / 'picture.pth'
  picture.write_bytes(b'\x89PNG\r\n' + bytes(100))
  assert 'is not a file of PyTorch weights' in _message(torch_file.load_checkpoint, picture)
  with zipfile.ZipFile(tmp_path / 'other.pth', 'w') as archive:
    archive.writestr('hello.txt', 'hello')
  assert 'other.pth: ' in _message(torch_file.load_checkpoint, tmp_path / 'other.pth')
  torch.save([torch.zeros(2)], tmp_path / 'list.pth')
  assert 'holds no weights by name' in _message(import_networks.convert_syncnet, str(tmp_path / 'list.pth'), str(tmp_path / 'out'))
  _save(tmp_path / 'nan.pth', {'weight': np.full(3, np.nan, np.float32)})
  message = _message(import_networks.convert_syncnet, str(tmp_path / 'nan.pth'), str(tmp_path / 'out'))
  assert 'weight holds values that are not finite' in message
  assert not (tmp_path / 'out').exists()


def test_the_weights_of_another_network_are_refused_with_the_file_and_the_name(tmp_path):
  alexnet, lins = _public_lpips()
  files = [_save(tmp_path / 'alexnet.pth', alexnet), _save(tmp_path / 'alex.pth', lins)]
  out = str(tmp_path / 'out.npz')
  assert f'{files[0]}: audio_encoder.0' in _message(import_networks.convert_syncnet, files[0], str(tmp_path / 'out'))
  assert f'{files[0]}: has no linear weights' in _message(import_networks.convert_lpips, files[:1], out)
  assert f'{files[1]}: has no convolutions' in _message(import_networks.convert_lpips, files[1:], out)
  assert 'is in' in _message(import_networks.convert_lpips, files[1:] * 2, out)
  wide = _save(tmp_path / 'wide.pth', alexnet | {'features.3.weight': np.zeros((192, 64, 3, 3), np.float32)})
  assert 'has shape (192, 64, 3, 3), expected (192, 64, 5, 5)' in _message(import_networks.convert_lpips, [wide, files[1]], out)
  more = _save(tmp_path / 'more.pth', alexnet | {'features.12.weight': np.zeros(3, np.float32)})
  assert 'features.12.weight: unexpected' in _message(import_networks.convert_lpips, [more, files[1]], out)
  assert 'must end in .npz' in _message(import_networks.convert_lpips, files, str(tmp_path / 'out'))
  with pytest.raises((FileExistsError, NotADirectoryError)):
    import_networks.convert_lpips(files, f'{files[0]}/out.npz')
  assert not os.path.exists(out)


def test_without_torch_the_remedy_is_told(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  path = tmp_path / 'weights.pth'
  path.write_bytes(b'\x80\x02}.')
  assert "pip install -e '.[convert]'" in _message(torch_file.load_checkpoint, path)


def test_loading_names_what_is_wrong_with_converted_weights(tmp_path):
  assert 'speech2lip convert --kind lpips' in _message(lpips.load_lpips, tmp_path / 'absent.npz')
  np.savez(tmp_path / 'other.npz', **{'params/shift': np.zeros(3)})
  assert 'params/conv_0/bias is missing, expected (64,)' in _message(lpips.load_lpips, tmp_path / 'other.npz')
  assert 'expert.json: no such file' in _message(syncnet_expert.load_syncnet, tmp_path)
  (tmp_path / 'expert.json').write_text('{"kind": "own"}')
  assert "kind is 'own', expected 'syncnet'" in _message(syncnet_expert.load_syncnet, tmp_path)
  (tmp_path / 'expert.json').write_text('{"kind": ')
  assert 'expert.json: damaged' in _message(syncnet_expert.load_syncnet, tmp_path)
