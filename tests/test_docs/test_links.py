"""Every link of README.md and docs/ that stays in the repository leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r'\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)')
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'))
)


def _anchors(path):
    """What GitHub makes of the headings."""
    titles = re.findall(r'^#+ (.+)$', path.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES)
def test_links(page):
    for path, anchor in LINK.findall((ROOT / page).read_text()):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f'{page} links to {path}'
        assert not anchor or anchor in _anchors(target), f'{page} links to {path}#{anchor}'
