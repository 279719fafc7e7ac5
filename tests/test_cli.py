"""Mistakes at the command line: one line that names the file or value and the remedy, exit status 2, within seconds."""
import ast
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from speech2lip_jax import cli
from speech2lip_jax.common import completion, devices, recipes, usage
from tests.toy_subject import write_toy_subject

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_toy_subject(tmp_path_factory.mktemp('cli') / 'toy', size=32, clip_frames=(30,))


def speech2lip(*arguments):
  """Runs `speech2lip` in a process of its own."""
  return subprocess.run([sys.executable, '-m', 'speech2lip_jax', *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


def flags_of(verb):
  """The flags that a verb's help lists, by name."""
  return {flag.name: flag for flag in usage.key_flags(cli.load_verb(verb))}


def fails(*arguments):
  """Runs `speech2lip` and returns its one line of error."""
  start = os.times()
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', *map(str, arguments)], cwd=ROOT, capture_output=True,
                        text=True, env=os.environ | {'XLA_FLAGS': ''})
  assert done.returncode == 2, done.stderr
  lines = done.stderr.strip().splitlines()
  assert len(lines) == 1, done.stderr
  end = os.times()  # of the processor, not of the clock: other work on the machine does not count
  assert end.children_user + end.children_system - start.children_user - start.children_system < 15, (
      'checks of the input come before any long work')
  return lines[0]


def test_an_unknown_verb_lists_the_verbs():
  assert 'preprocess, train, expert, render, dub, app, export, inspect, evaluate' in fails('dance')


def test_a_misspelt_config_field_is_named(folder, tmp_path):
  line = fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path}', f'--config.data.path={folder}',
               '--config.train.num_stps=3')
  assert 'num_stps' in line and 'num_steps' in line


def test_an_unknown_flag_is_named():
  assert 'wrkdir' in fails('train', '--config=configs/smoke.py', '--wrkdir=x')


def test_a_misspelt_field_of_the_default_recipe_is_named_too():
  assert 'num_stps' in fails('train', '--workdir=x', '--config.train.num_stps=3')


def test_a_fault_in_the_code_of_a_recipe_is_not_taken_for_a_misspelt_field(tmp_path):
  for fault, name in (("{}['seed']", 'KeyError'), ("''.seed", 'AttributeError'), ("int('a')", 'ValueError')):
    recipe = tmp_path / 'broken.py'
    recipe.write_text(f'def get_config():\n  return {fault}\n')
    done = speech2lip('train', f'--config={recipe}', '--workdir=x')
    assert done.returncode == 1 and f'return {fault}' in done.stderr and name in done.stderr, done.stderr


def test_a_word_that_is_no_flag_is_refused_in_one_place():
  line = fails('preprocess', '--video', 'a.mpg', 'b.mpg', '--out=x')
  assert "'b.mpg'" in line and '--video a.mp4,b.mp4' in line


def test_a_missing_config_file_is_named():
  assert 'configs/none.py' in fails('train', '--config=configs/none.py', '--workdir=x')


def test_training_without_a_subject_says_how_to_give_one(tmp_path):
  assert '--config.data.path' in fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}')
  assert not (tmp_path / 'run').exists()


def test_a_subject_with_a_file_missing_is_named(tmp_path):
  copy = write_toy_subject(tmp_path / 'toy', size=32, clip_frames=(30,))
  (copy / 'frames.npy').unlink()
  line = fails('train', '--config=configs/smoke.py', f'--workdir={tmp_path / "run"}', f'--config.data.path={copy}')
  assert str(copy / 'frames.npy') in line and 'preprocess' in line


def test_rendering_needs_a_trained_workdir_and_a_sound(tmp_path):
  empty = tmp_path / 'empty.wav'
  wavfile.write(empty, 16000, np.zeros(0, np.int16))
  out = f'--out={tmp_path / "out.mp4"}'
  assert 'empty.wav: holds no sound' in fails('render', f'--workdir={tmp_path}', f'--audio={empty}', out)
  assert 'no such file' in fails('render', f'--workdir={tmp_path}', '--audio=none.wav', out)
  assert 'not a training workdir' in fails('render', f'--workdir={tmp_path}', '--split=test', out)
  assert not (tmp_path / 'out.mp4').exists()


@pytest.mark.parametrize('verb', cli.VERBS)
def test_help_lists_every_flag_of_the_verb_with_its_default(verb):
  text, known = usage.help_text(verb, cli.load_verb(verb)), flags_of(verb)
  words = f' {cli.load_verb(verb).WORDS}' if verb in ('inspect', 'verify') else ''
  assert text.startswith(f'usage: speech2lip {verb}{words} [flags]\n')
  listed = re.findall(r'^  --(?:\[no\])?(\w+)', text, re.MULTILINE)
  assert listed == list(known) and ' '.join(text.split()).count('(default: ') == len(known)
  assert ({'workdir', 'out'} & set(known) or words or verb in ('doctor', 'app')) and all(flag.help for flag in known.values())
  assert ('config fields:' in text) == bool({'config', 'recipe'} & set(known))


@pytest.mark.parametrize('verb', cli.VERBS)
def test_the_examples_in_help_use_flags_and_fields_that_there_are(verb):
  examples = re.findall(r'^ +speech2lip (.*)', cli.load_verb(verb).__doc__, re.MULTILINE)
  assert examples
  for example in examples:
    words = shlex.split(example)
    assert words[0] == verb
    for word in words[1:]:
      if word.startswith('--'):
        name, _, field = word[2:].partition('=')[0].partition('.')
        value = flags_of(verb)[name].value
        for part in field.split('.') if field else []:
          value = value[part]


def test_no_verb_imports_its_work_before_it_is_asked_to_work():
  heavy = ('jax', 'numpy', 'scipy', 'cv2', 'av', 'librosa', 'mediapipe', 'torch')
  code = (f'import sys\nfrom speech2lip_jax import cli\nfor verb in cli.VERBS:\n  cli.load_verb(verb)\n'
          f'print([name for name in {heavy} if name in sys.modules])')
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == '[]\n', done.stderr


def test_preprocess_needs_no_jax_to_answer_a_mistake_or_to_find_faces():
  code = ('import sys\nfrom speech2lip_jax.preprocess import clips, landmarks, parallel, pipeline, video\n'
          "print('jax' in sys.modules)")
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == 'False\n', done.stderr


@pytest.mark.parametrize('start', [('speech2lip_jax', 'render', '-h'), ('speech2lip_jax.render', '--help'),
                                   ('speech2lip_jax.preprocess', '-h')])
def test_help_goes_to_standard_output_and_succeeds_however_a_verb_is_started(start):
  done = subprocess.run([sys.executable, '-m', *start], cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')
  assert '--out STRING' in done.stdout and ('--tracks' in done.stdout or '--pose' in done.stdout)


@pytest.mark.parametrize('arguments, code, told', [(['--version'], 0, 'jax '), (['--help'], 0, 'completion bash|zsh|fish'),
                                                   (['-h'], 0, 'usage: speech2lip VERB'), ([], 2, 'usage: speech2lip VERB')])
def test_the_program_tells_its_version_and_its_verbs(arguments, code, told, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['speech2lip', *arguments])
  try:
    cli.main()
  except SystemExit as end:
    assert end.code == code
  assert told in capsys.readouterr().out


def _script(shell):
  return completion.script(shell, {verb: (what, list(flags_of(verb).values())) for verb, what in cli.VERBS.items()})


def _completed(*words):
  """What bash offers for the last of the words."""
  code = f'{_script("bash")}\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _speech2lip; echo "${{COMPREPLY[@]}}"'
  return subprocess.run(['bash', '-c', code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(not shutil.which('bash'), reason='needs bash')
def test_bash_completes_verbs_flags_and_config_fields():
  assert _completed('speech2lip', 're') == ['render']
  assert _completed('speech2lip', 'render', '--po') == ['--pose']
  assert _completed('speech2lip', 'evaluate', '--nob') == ['--nobaselines']
  assert '--config.train.num_steps' in _completed('speech2lip', 'train', '--config.train.')
  assert _completed('speech2lip', 'train', 'some/fi') == []  # bash then completes files


def test_the_scripts_of_the_other_shells_hold_every_flag_too():
  assert 'bashcompinit' in _script('zsh')
  fish = _script('fish').splitlines()
  assert all(any(f'-l {name}' in line and f'from {verb}' in line for line in fish) for verb in cli.VERBS for name in flags_of(verb))
  assert 'give one of bash, zsh, fish' in fails('completion', 'tcsh')


def test_the_next_command_is_quoted_for_the_shell():
  line = usage.next_command('train', workdir='my run', **{'config.data.path': "o'brien"})
  assert shlex.split(line) == ['next:', 'speech2lip', 'train', '--workdir', 'my run', "--config.data.path=o'brien"]


def test_the_commands_that_verbs_name_next_take_the_flags_and_fields_given():
  found = set()
  for verb in cli.VERBS:
    source = pathlib.Path(cli.load_verb(verb).__file__).read_text()
    for call in ast.walk(ast.parse(source)):
      if isinstance(call, ast.Call) and ast.unparse(call.func) == 'usage.next_command':
        following, known = call.args[0].value, flags_of(call.args[0].value)
        names = [name for keyword in call.keywords
                 for name in ([keyword.arg] if keyword.arg else [key.value for key in keyword.value.keys])]
        for name in names:
          flag, *fields = name.split('.')
          value = known[flag].value
          for field in fields:
            value = value[field]
        found.add((verb, following))
  assert found >= {('preprocess', 'train'), ('train', 'evaluate'), ('train', 'render'), ('render', 'evaluate'), ('expert', 'train'),
                   ('convert', 'evaluate'), ('convert', 'render'), ('sweep', 'train'), ('demo', 'preprocess')}


def test_default_recipes_are_files():
  defaults = {name: path for verb in cli.VERBS if flags_of(verb) for name, path in recipes.flags_defined().items()}
  assert {name: pathlib.Path(path).name for name, path in defaults.items()} == {'config': 'default.py', 'recipe': 'expert.py'}


def test_the_devices_are_told_in_words():
  assert re.fullmatch(r'1 process, 8 CPU devices \(\d+ cores?\)', devices.described())


@pytest.mark.parametrize('driver, extra', [('NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue', 'cuda12'),
                                           ('NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06', 'cuda13'),
                                           (None, 'tpu')])
def test_an_accelerator_that_jax_does_not_use_is_told_with_the_extra_to_install(tmp_path, monkeypatch, driver, extra):
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setattr(devices.shutil, 'which', lambda name: None)
  assert devices.missing_plugin(tmp_path) is None
  path = tmp_path / ('proc/driver/nvidia/version' if driver else 'dev/accel0')
  path.parent.mkdir(parents=True)
  path.write_text(driver or '')
  line = devices.missing_plugin(tmp_path)
  assert f"pip install 'speech2lip_jax[{extra}]'" in line and f"pip install -e '.[{extra}]'" in line and '\n' not in line
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert devices.missing_plugin(tmp_path) is None, 'the CPU was asked for'
