"""A hook that resumes checkpoints whose optimizer had other parameter groups."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmv2m.registry import HOOKS

from ..optim.regrouping import regroup_checkpoint
from ..resuming import tell_differences

__all__ = ['ResumeGroupsHook']


@HOOKS.register_module()
class ResumeGroupsHook(Hook):
    """Resume checkpoints that were saved with other parameter groups.

    Checkpoints of mmengine's default constructor have one group for each parameter. Before they are
    resumed, their moments, settings and schedules go to the groups that
    :class:`mmv2m.engine.GroupedOptimWrapperConstructor` has made. With any other constructor
    nothing changes. ``tools/train.py`` registers this hook in every run.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Regroup a checkpoint that is being resumed.

        Args:
            runner: The runner.
            checkpoint: The checkpoint that the runner has loaded. It is changed in place.

        Raises:
            UserError: If the checkpoint does not fit the run.
        """
        if not runner._resume or 'optimizer' not in checkpoint:
            return
        if isinstance(runner.optim_wrapper, dict):
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):  # several wrappers, each for a part of the model
            return
        if all('param_names' in group for group in wrapper.optimizer.param_groups):
            model = getattr(runner.model, 'module', runner.model)
            regroup_checkpoint(checkpoint, wrapper, model)
        tell_differences(runner, checkpoint, wrapper)
