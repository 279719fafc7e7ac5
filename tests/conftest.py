"""Eight simulated CPU devices for every test; must run before anything imports jax."""
import atexit
import os
import shutil
import tempfile

import pytest

MOST_WORKERS = 4  # each holds up to 3 GB

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
_FLAGS = {
    'xla_force_host_platform_device_count': 8,
    'xla_backend_optimization_level': 0,  # tests compile far longer than they compute
}
for _name, _value in _FLAGS.items():
  if _name not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --{_name}={_value}'.strip()
os.environ['XDG_CONFIG_HOME'] = tempfile.mkdtemp(prefix='speech2lip_tests_')  # nobody's own certificate
atexit.register(shutil.rmtree, os.environ['XDG_CONFIG_HOME'], ignore_errors=True)
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # a run, its continuation and its twin compile the same step
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='speech2lip_tests_')
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
  """One process a core, since tests trace and compile on one; none more for a single file, whose tests share fixtures."""
  files = {argument.split('::')[0] for argument in config.args}
  if len(files) == 1 and files.pop().endswith('.py'):
    return 0
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return min(cores, MOST_WORKERS)
