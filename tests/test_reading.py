"""docs/reading.md names functions by file; they must be there."""
import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]


def names_in(path):
  """Top-level functions and classes of a file, and 'Class.method'."""
  names = set()
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      names.add(node.name)
    if isinstance(node, ast.ClassDef):
      names |= {f'{node.name}.{inner.name}' for inner in node.body if isinstance(inner, ast.FunctionDef)}
  return names


def test_every_function_of_the_reading_guide_is_where_it_says():
  found = re.findall(r'`([\w/]+\.py):([\w.]+)`', (ROOT / 'docs' / 'reading.md').read_text())
  assert len(found) > 40
  missing = [f'{file}:{name}' for file, name in found
             if not (ROOT / 'speech2lip_jax' / file).is_file() or name not in names_in(ROOT / 'speech2lip_jax' / file)]
  assert not missing


def test_every_equation_of_the_paper_has_its_row():
  rows = re.findall(r'^\| Eq\. (\d+) \|', (ROOT / 'docs' / 'reading.md').read_text(), re.MULTILINE)
  assert rows == [str(number) for number in range(1, 11)]
