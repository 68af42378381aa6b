"""All files of the model zoo."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmv2m.engine.records import Record
from mmv2m.utils.complexity import Complexity

from ..published import Source
from ..tables import Tables
from .entries import zoo_entries
from .markdown_page import build_markdown_page
from .metafiles import build_metafiles
from .pretrained_page import build_pretrained_page

__all__ = ['build_zoo', 'stale_files']


def build_zoo(
    tables: Tables,
    costs: Mapping[str, Complexity],
    records: Sequence[Record],
    published: tuple[Source, ...] = (),
) -> dict[str, str]:
    """The texts of the metafiles and of the page, by their paths from the repository's root.

    Args:
        tables: The tables.
        costs: Parameters and FLOPs by config.
        records: Results of runs.
        published: Weights that others publish.
    """
    entries = list(zoo_entries(tables, costs, records, published))
    return {
        **build_metafiles(tables, costs, records, published),
        'docs/model_zoo.md': build_markdown_page(entries),
        'docs/pretrained.md': build_pretrained_page(published),
    }


def stale_files(root: Path, texts: Mapping[str, str]) -> list[str]:
    """The files that are missing or out of date.

    Args:
        root: The repository's root.
        texts: Texts by path, from :func:`build_zoo`.
    """
    return [
        path
        for path, text in texts.items()
        if not (root / path).exists() or (root / path).read_text() != text
    ]
