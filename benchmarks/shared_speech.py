"""Does a new person gain from an audio network that other people have trained?

    python benchmarks/shared_speech.py --others GRID,DEMO --new HD --seconds 10,30,60

The network is trained over the others (`train --shared audio_net`), then the new person by that much of its own training part, from
the network and anew. Printed: PSNR of the mouth over 100 frames of the new person's test part, the averaged weights, dB. A small
recipe: mel, no perceptual distance, `--steps` steps of 32 frames each.
"""
import argparse
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

TEST_FRAMES = 100


def main() -> None:
  """Prints a row for each length."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--others', required=True, help='subject folders with commas between')
  parser.add_argument('--new', required=True, help='a subject folder')
  parser.add_argument('--seconds', default='10,30,60', help='of the new person')
  parser.add_argument('--steps', type=int, default=200, help='steps of each person')
  arguments = parser.parse_args()
  from speech2lip_jax.common import recipes
  from speech2lip_jax.data.dataset import evenly_spaced
  from speech2lip_jax.training import loop, people
  from speech2lip_jax.workdir.run import open_run

  def open_to_test(config, axis_name=None):
    run = open_run(config, axis_name)  # scored on the test part, whose scores choose nothing here
    return run._replace(split=run.split._replace(val=evenly_spaced(run.split.test, TEST_FRAMES)))
  loop.open_run = open_to_test
  config = recipes.load('default').get_config().unlock()
  config.audio.features, config.loss.lip_perceptual_weight, config.depth.num_frames = 'mel', 0.0, 0
  config.data.num_val_frames = TEST_FRAMES
  config.train.update(num_steps=arguments.steps, batch_size=32, eval_every=arguments.steps)
  with tempfile.TemporaryDirectory() as home:
    others = arguments.others.split(',')
    people.train_shared(people.people_of(others, config, f'{home}/shared'), f'{home}/shared', 'audio_net')
    network = people.people_of(others, config, f'{home}/shared')[-1].workdir

    def score(seconds: float, init: str) -> float:
      own = config.copy_and_resolve_references().unlock()
      own.data.path, own.data.max_train_seconds, own.audio.init = arguments.new, seconds, init
      workdir = pathlib.Path(home, f'{seconds:g}_{bool(init)}')
      loop.train_and_evaluate(own, str(workdir))
      return json.loads((workdir / 'log.jsonl').read_text().splitlines()[-1])['metric/psnr_lip_val']
    print('| seconds of the new person | anew, dB | from the shared network, dB |\n|---|---|---|')
    for seconds in map(float, arguments.seconds.split(',')):
      print(f'| {seconds:g} | {score(seconds, ""):.2f} | {score(seconds, str(network)):.2f} |', flush=True)


if __name__ == '__main__':
  main()
