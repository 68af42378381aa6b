"""The paper's tables: python tools/reproduce.py --table 1 [options]; --help lists them."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmengine.logging import MMLogger  # noqa: E402

from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.reproduce.command import parse_reproduce_args, reproduce  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Report or run as the command line says.

    Args:
        argv: The arguments. None means the command line of the process.

    Returns:
        The exit status.
    """
    # The libraries' messages while all models are built would hide the tables.
    MMLogger.get_instance('reproduce', log_level='ERROR')
    warnings.simplefilter('ignore')
    with exit_on_user_error():
        return reproduce(parse_reproduce_args(argv))


if __name__ == '__main__':
    sys.exit(main())
