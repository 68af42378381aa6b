"""The reduced-scale study: python tools/study.py [options]; --help lists them."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmengine.logging import MMLogger  # noqa: E402

from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.study.command import parse_study_args, study  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Train, list or summarise as the command line says.

    Args:
        argv: The arguments. None means the command line of the process.

    Returns:
        The exit status.
    """
    # The libraries' messages while models are counted would hide the tables.
    MMLogger.get_instance('study', log_level='ERROR')
    logging.getLogger('mmv2m').setLevel(logging.ERROR)
    with exit_on_user_error():
        return study(parse_study_args(argv))


if __name__ == '__main__':
    sys.exit(main())
