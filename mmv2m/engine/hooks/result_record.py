"""A data file with the result of a training."""

import time
from pathlib import Path

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from mmv2m.registry import HOOKS

from ..errors import UserError
from ..records import save_record, training_record

__all__ = ['ResultRecordHook']

SECONDS_KEY = 'result_record_seconds'


@HOOKS.register_module()
class ResultRecordHook(Hook):
    """Write a result record (:class:`mmv2m.engine.records.Record`) when a training ends.

    The metrics are those of the last validation, which has to follow the last epoch or iteration.
    The time includes the parts before a resume, up to the checkpoint that was resumed.

    Args:
        out_dir: Folder of the records, or None for the work dir. Defaults to None.
    """

    # Behind the hook that saves the last checkpoint, which is part of the record.
    priority = 'LOWEST'

    def __init__(self, out_dir: str | None = None) -> None:
        self.out_dir = out_dir
        self._validated: tuple[int, dict[str, float]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Check, before any work is done, that there will be a result and a folder for it.

        Raises:
            UserError: If the run has no validation or saves no checkpoint at its end, its config
                comes from no file, or the folder cannot be made.
        """
        if runner._train_loop is None:
            return
        if runner._val_loop is None:
            raise UserError("ResultRecordHook records a validation's metrics: there is none")
        if not runner.cfg.filename:
            raise UserError('ResultRecordHook records the config file, and there is none')
        if not any(isinstance(hook, CheckpointHook) and hook.save_last for hook in runner.hooks):
            raise UserError(
                'ResultRecordHook records the last checkpoint, and none is saved at the end: the '
                'config needs default_hooks.checkpoint, with save_last=True'
            )
        try:
            Path(self.out_dir or runner.work_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'ResultRecordHook.out_dir cannot be made: {error}') from error

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._validated = None
        self._started = time.time() - runner.message_hub.runtime_info.get(SECONDS_KEY, 0.0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the time for a run that resumes the checkpoint."""
        # The checkpoint has the state of the message hub already, but without this time.
        seconds = time.time() - self._started
        runner.message_hub.update_info(SECONDS_KEY, seconds)
        checkpoint['message_hub']['runtime_info'][SECONDS_KEY] = seconds

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics, and how far the training was."""
        self._validated = (runner.iter, dict(metrics or {}))

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the record."""
        iteration, metrics = self._validated or (-1, {})
        if iteration != runner.iter:
            runner.logger.warning(
                'ResultRecordHook: nothing recorded, since no validation followed the last step'
            )
            return
        work_dir = Path(runner.work_dir)
        record = training_record(
            runner.cfg,
            metrics,
            Path((work_dir / 'last_checkpoint').read_text()),
            work_dir=work_dir,
            seed=runner.seed,
            gpus=get_world_size(),
            seconds=time.time() - self._started,
        )
        path = save_record(record, Path(self.out_dir) if self.out_dir else work_dir)
        runner.logger.info(f'The result record of this training is {path}')
