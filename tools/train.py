"""Train a model: python tools/train.py CONFIG [options]; --help lists them."""

import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmv2m.engine.cli import parse_train_args  # noqa: E402
from mmv2m.engine.config import apply_train_args, load_config  # noqa: E402
from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.engine.preflight import check_train  # noqa: E402
from mmv2m.engine.runner import build_runner  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402
from mmv2m.engine.work_dir import only_training_in  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the command line says.

    Args:
        argv: The arguments. None means the command line of the process.
    """
    with exit_on_user_error():
        args = parse_train_args(argv)
        cfg = load_config(args.config, args.cfg_options)
        library = task_library_of(cfg)
        resume = args.resume or cfg.get('resume')
        apply_train_args(cfg, args, library)
        check_train(cfg)
        library.prepare()
        with only_training_in(cfg.work_dir):
            runner = build_runner(cfg)
            if resume and not cfg.resume:
                runner.logger.info(f'Nothing to resume in {cfg.work_dir}: the training starts anew')
            runner.train()


if __name__ == '__main__':
    main()
