"""Hooks of MkDocs for this repository; mkdocs.yml names this file.

The docs link to files outside docs/, such as configs. The site gets copies of the linked files.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = ROOT / 'build' / 'docs' / 'mmv2m'
COPIES = 'repository'
LINK = re.compile(r'\[([^\]]*)\]\((\.\.?/[^)#\s]*|[^):#\s]*)(#[^)\s]*)?\)')


def on_startup(**_: Any) -> None:
    """Make the folder, because mkdocstrings ignores a missing path when the config is read."""
    LAYOUT.mkdir(parents=True, exist_ok=True)


def on_config(config: Any) -> Any:
    """Copy mmv2m's sources as they are installed, with ops/ inside."""
    shutil.rmtree(LAYOUT, ignore_errors=True)
    for folder, target in (('mmv2m', LAYOUT), ('ops', LAYOUT / 'ops')):
        for source in (ROOT / folder).rglob('*.py'):
            copy = target / source.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    return config


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Point links that leave docs/ to copies in the site, and remove links to folders."""
    docs = Path(config.docs_dir)
    folder = (docs / page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        text, link, anchor = match.groups()
        target = Path(os.path.normpath(folder / link))
        if not link or target.is_relative_to(docs) or not target.is_relative_to(ROOT):
            return match[0]
        if target.is_dir():
            return text
        uri = f'{COPIES}/{target.relative_to(ROOT).as_posix()}.txt'
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(target)))
        return f'[{text}]({os.path.relpath(docs / uri, folder)})'

    return LINK.sub(replace, markdown)
