"""The front page is short, and every link of the documentation leads to a file and a heading that exist."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted({*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('benchmarks/*.md')})
MAX_README_LINES = 130


def links(page: pathlib.Path) -> list[str]:
  """The relative targets of a page's links and pictures; code is no link."""
  text = re.sub(r'```.*?```|`[^`\n]*`', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
  targets = re.findall(r'\]\(([^)\s]+)\)', text)
  return [target for target in targets if not re.match(r'[a-z]+:', target)]


def anchors(page: pathlib.Path) -> set[str]:
  """The anchors that a page's headings get: lower case, spaces as hyphens, no punctuation."""
  headings = re.findall(r'^#+ (.+)$', page.read_text(encoding='utf-8'), flags=re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
  for link in links(page):
    name, _, anchor = link.partition('#')
    target = (page.parent / name).resolve() if name else page
    assert target.is_relative_to(ROOT) and target.exists(), f'{page.name}: {link} does not exist'
    assert not anchor or anchor in anchors(target), f'{page.name}: {link}: {target.name} has no such heading'


def test_the_pages_that_the_front_page_promises_are_among_those_looked_at():
  names = {str(page.relative_to(ROOT)) for page in PAGES}
  assert {'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/method.md', 'docs/results.md'} <= names
  assert len(links(ROOT / 'README.md')) >= 10


def test_the_front_page_is_short():
  assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= MAX_README_LINES
