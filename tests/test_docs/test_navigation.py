"""The docs site's navigation names every page once, and newcomers' pages first."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without the Python objects that it names."""


Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda *_: None)
SITE = yaml.load((ROOT / 'mkdocs.yml').read_text(), Loader)


def _pages(nav):
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else _pages(target)


def test_the_navigation_names_every_page_once():
    pages = [path.relative_to(ROOT / 'docs').as_posix() for path in ROOT.glob('docs/**/*.md')]
    assert sorted(_pages(SITE['nav'])) == sorted(pages)
    assert list(_pages(SITE['nav']))[:2] == ['index.md', 'getting_started.md']


def test_files_that_the_site_names_exist():
    own = [script for script in SITE['extra_javascript'] if '://' not in script]
    assert own and all((ROOT / 'docs' / script).is_file() for script in own)
    assert all((ROOT / hook).is_file() for hook in SITE['hooks'])


def test_each_package_of_the_reference_has_a_page():
    named = set()
    for page in (ROOT / 'docs/api').glob('*.md'):
        named |= set(re.findall(r'^::: (mmv2m\.\S+)$', page.read_text(), re.MULTILINE))
    assert named == {'mmv2m.ops', 'mmv2m.models', 'mmv2m.engine', 'mmv2m.datasets'}


def test_the_sites_packages_are_pinned():
    lines = (ROOT / 'requirements/docs.txt').read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith('#')]
    assert all(re.fullmatch(r'[\w.-]+==[\w.]+', package) for package in packages)
    names = {package.partition('==')[0].lower() for package in packages}
    assert {'mkdocs', 'mkdocs-material', 'mkdocstrings', 'mkdocstrings-python'} <= names
