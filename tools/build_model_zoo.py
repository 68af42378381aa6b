"""Measure all configs and write model-index.yml, the metafiles and the model zoo's page."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(ROOT))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmengine.logging import MMLogger  # noqa: E402

from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.engine.records import load_records  # noqa: E402
from mmv2m.reproduce.published import extra_rows, load_published  # noqa: E402
from mmv2m.reproduce.report import measure_row  # noqa: E402
from mmv2m.reproduce.tables import load_tables  # noqa: E402
from mmv2m.reproduce.zoo.build import build_zoo, stale_files  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or check them, as the command line says.

    Args:
        argv: The arguments. None means the command line of the process.

    Returns:
        The exit status: 1 if a file is checked and is out of date.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; say what would change')
    args = parser.parse_args(argv)
    MMLogger.get_instance('build_model_zoo', log_level='ERROR')
    warnings.simplefilter('ignore')
    with exit_on_user_error():
        tables = load_tables(ROOT / 'configs' / 'tables.yml')
        costs = {}
        published = load_published(ROOT / 'configs' / 'pretrained.yml', tables)
        by_config = tables.by_config() | extra_rows(published, tables)
        for number, (config, rows) in enumerate(by_config.items(), 1):
            print(f'[{number}/{len(by_config)}] {config}', file=sys.stderr, flush=True)
            costs[config] = measure_row(tables.config_path(rows[0]), rows[0].size)
        texts = build_zoo(tables, costs, load_records(ROOT / 'records'), published)
    stale = stale_files(ROOT, texts)
    for path in stale:
        print(f'{path} {"is stale" if args.check else "written"}')
        if not args.check:
            (ROOT / path).write_text(texts[path])
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())
