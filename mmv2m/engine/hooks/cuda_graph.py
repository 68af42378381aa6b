"""A backbone's training pass as CUDA graphs."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from mmv2m.registry import HOOKS

from ..cuda_graphs import GraphedForward

__all__ = ['CUDAGraphHook']


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Run the backbone's forward and backward pass as CUDA graphs while the model trains.

    A step of a model with hundreds of small kernels waits for Python, which launches them one by
    one. A CUDA graph launches all of them at once. A graph is for one image size and batch size, so
    that this hook is for classifiers. Detectors and segmentors whose images vary in size run
    eagerly. :class:`mmv2m.engine.cuda_graphs.GraphedForward` describes what else runs eagerly.

    Without an NVIDIA GPU, and under wrappers other than PyTorch's DistributedDataParallel, the hook
    does nothing, and a line of the log says so.

    Args:
        module: Name of the model's attribute that is captured. Defaults to ``'backbone'``.

    Example:
        >>> custom_hooks = [dict(type='CUDAGraphHook')]
    """

    def __init__(self, module: str = 'backbone') -> None:
        self.module = module
        self._graphed: GraphedForward | None = None

    def before_train(self, runner: Runner) -> None:
        """Let the backbone's training passes be captured.

        Raises:
            AttributeError: If the model has no such module.
        """
        model = runner.model
        if is_model_wrapper(model):
            if not isinstance(model, DistributedDataParallel):
                runner.logger.warning(
                    f'no CUDA graphs: {type(model).__name__} changes what parameters are'
                )
                return
            model = model.module
        module = getattr(model, self.module)
        if not any(p.is_cuda for p in module.parameters()):
            runner.logger.warning('no CUDA graphs: the model is not on an NVIDIA GPU')
            return
        self._graphed = GraphedForward(module)
        module.forward = self._graphed

    def after_train(self, runner: Runner) -> None:
        """Give the backbone its own forward pass back, and free the graphs."""
        if self._graphed is not None:
            self._graphed.remove()
            self._graphed = None
