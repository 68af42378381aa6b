"""Test a model: python tools/test.py CONFIG CHECKPOINT [options]; --help lists them."""

import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

import mmengine  # noqa: E402
import numpy as np  # noqa: E402
from mmengine.dist import is_main_process  # noqa: E402

from mmv2m.engine.cli import parse_test_args  # noqa: E402
from mmv2m.engine.config import apply_test_args, load_config  # noqa: E402
from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.engine.preflight import check_test  # noqa: E402
from mmv2m.engine.runner import build_runner  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Test as the command line says.

    Args:
        argv: The arguments. None means the command line of the process.

    Returns:
        The metrics.
    """
    with exit_on_user_error():
        args = parse_test_args(argv)
        cfg = load_config(args.config, args.cfg_options)
        library = task_library_of(cfg)
        apply_test_args(cfg, args, library)
        check_test(cfg)
    library.prepare()
    metrics = build_runner(cfg).test()
    if args.out and args.out_item == 'metrics' and is_main_process():
        # mmseg's metrics are numbers of NumPy, which YAML would write as Python calls.
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in metrics.items()}
        mmengine.dump(plain, args.out)
    return metrics


if __name__ == '__main__':
    main()
