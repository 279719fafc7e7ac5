"""`doctor` tells what is there, what is missing and what to do about it."""
import os
import subprocess
import sys
from importlib import metadata

import pytest

from speech2lip_jax import doctor
from speech2lip_jax.common.errors import InputError

NUMPY = metadata.version('numpy')


@pytest.mark.parametrize('requirements, extra, told', [
    (['numpy>=1'], '', []),
    (['numpy<1'], '', [f'numpy<1 ({NUMPY})']),
    (['no-such-package>=2'], '', ['no-such-package>=2 (not installed)']),
    (['no-such-package; extra == "speech"', 'numpy'], '', []),
    (['no-such-package; extra == "speech"', 'numpy<1'], 'speech', ['no-such-package (not installed)']),
    (['no-such-package; python_version < "3"'], '', []),
    (['speech2lip_jax[speech]; extra == "all"', 'no-such-package; extra == "speech"'], 'all', ['no-such-package (not installed)']),
])
def test_unmet_requirements_are_named_with_what_is_there(requirements, extra, told):
  assert doctor.unmet(requirements, extra) == told


def test_a_working_installation_passes(capsys):
  doctor.main()
  lines = capsys.readouterr().out.splitlines()
  assert any(line.startswith('ok') and ' packages ' in line for line in lines)
  assert any(' devices ' in line and 'device' in line for line in lines)


def test_a_missing_encoder_fails_and_is_named(monkeypatch, capsys):
  monkeypatch.setattr(doctor, '_encodes', lambda name: name != 'libx264')
  with pytest.raises(InputError, match='1 needed part is missing'):
    doctor.main()
  assert 'missing   libx264' in capsys.readouterr().out


def test_a_landmark_model_named_by_the_environment_must_be_there(monkeypatch, tmp_path):
  monkeypatch.setenv('SPEECH2LIP_LANDMARKER', str(tmp_path / 'none.task'))
  finding = next(iter(doctor.models()))
  assert finding.state == 'missing' and 'none.task' in finding.told


def test_without_a_landmark_model_it_says_where_it_comes_from(monkeypatch, tmp_path):
  monkeypatch.delenv('SPEECH2LIP_LANDMARKER', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  finding = next(iter(doctor.models()))
  assert finding.state == 'optional' and 'https://' in finding.told and str(tmp_path) in finding.told


def test_a_reader_that_has_seen_enough_ends_it_without_a_traceback():
  reading, writing = os.pipe()
  os.close(reading)
  with os.fdopen(writing, 'w') as output:
    done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'doctor'], stdout=output, stderr=subprocess.PIPE, text=True,
                          check=False)
  assert done.returncode == 1 and done.stderr == ''
