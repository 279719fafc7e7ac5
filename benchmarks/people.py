"""How many people an hour are trained: in one program, and by one `train` command after another.

    python benchmarks/people.py --counts 1,4,8
    python benchmarks/people.py --counts 4 --before OTHER_CHECKOUT

People are small synthetic subjects (96×96 pixels, 10 s) whose lip boxes differ; every row begins with an empty cache of compiled
functions, which its own commands then share. Wall seconds depend on what else the machine does, processor seconds hardly.
"""
import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def make_people(folder: pathlib.Path, count: int) -> list[str]:
  """Subject folders; lip boxes of 20×28, 22×30, 24×32, 18×26 pixels in turn, which round to two shapes."""
  from tests.toy_subject import write_toy_subject
  return [str(write_toy_subject(folder / f'person_{i}', size=96, clip_frames=(120, 130 + i), seed=i,
                                lip_size=(18 + 2 * ((i + 1) % 4), 26 + 2 * ((i + 1) % 4)))) for i in range(count)]


def alone(recipe: list[str], people: list[str], runs: str) -> list[list[str]]:
  """Flags of a command for each person."""
  return [[*recipe, f'--workdir={runs}/{i}', f'--config.data.path={person}'] for i, person in enumerate(people)]


def run(checkout: pathlib.Path, commands: list[list[str]], cache: str) -> tuple[float, float]:
  """Runs `train` with each of the lists of flags; wall and processor seconds of all."""
  environment = os.environ | {'PYTHONPATH': str(checkout), 'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': cache}
  used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
  begin, before = time.perf_counter(), used()
  for command in commands:
    subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'train', *command], check=True, cwd=checkout, env=environment,
                   capture_output=True)
  return time.perf_counter() - begin, used() - before


def main() -> None:
  """Prints a row for each way and count."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--counts', default='1,4,8', help='numbers of people')
  parser.add_argument('--steps', type=int, default=100, help='steps of each person')
  parser.add_argument('--config', default='smoke', help='the recipe')
  parser.add_argument('--before', type=pathlib.Path, help='another checkout, whose commands one after another are measured too')
  arguments = parser.parse_args()
  counts = [int(count) for count in arguments.counts.split(',')]
  recipe = [f'--config={arguments.config}', f'--config.train.num_steps={arguments.steps}', '--config.audio.features=mel',
            f'--config.train.blend_start_step={arguments.steps}', f'--config.train.eval_every={arguments.steps}',
            '--config.train.log_every=20']
  print('| people | way | wall s | processor s | of a person | people an hour (wall) |\n|---|---|---|---|---|---|')
  with tempfile.TemporaryDirectory() as home:
    people = make_people(pathlib.Path(home, 'subjects'), max(counts))
    for count in counts:
      ways = {'one program': (ROOT, [[*recipe, f'--workdir={home}/together_{count}', f'--subjects={",".join(people[:count])}']]),
              'one command after another': (ROOT, alone(recipe, people[:count], f'{home}/alone_{count}'))}
      if arguments.before:
        ways['the same, other checkout'] = (arguments.before.resolve(), alone(recipe, people[:count], f'{home}/before_{count}'))
      for i, (way, (checkout, commands)) in enumerate(ways.items()):
        wall, used = run(checkout, commands, f'{home}/cache_{count}_{i}')
        print(f'| {count} | {way} | {wall:.0f} | {used:.0f} | {used / count:.1f} | {3600 * count / wall:.0f} |', flush=True)


if __name__ == '__main__':
  main()
