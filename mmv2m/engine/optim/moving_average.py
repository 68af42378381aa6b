"""A moving average of weights whose update takes a few calls, not one for each tensor."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from mmv2m.registry import MODELS

__all__ = ['ForeachExponentialMovingAverage']


@MODELS.register_module()
class ForeachExponentialMovingAverage(ExponentialMovingAverage):
    """mmengine's ``ExponentialMovingAverage``, updated by PyTorch's foreach operators.

    Arguments, arithmetic and state dict are those of mmengine's class, with one difference: a
    parameter that a model has under two names is averaged once in a step. mmengine averages it
    twice if ``update_buffers`` is set.

    Example:
        >>> custom_hooks = [
        ...     dict(type='EMAHook', ema_type='mmv2m.ForeachExponentialMovingAverage')
        ... ]
    """

    _finders: 'tuple[_Finder, _Finder] | None' = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Bring the average up to date with a step of training.

        Args:
            model: The model whose weights are averaged.
        """
        if self.update_buffers:
            averages, sources = self._pairs_of_state(model)
        else:
            own, its = self._find(model)
            averages, sources = list(self.avg_parameters.values()), its.parameters()
            _copy(own.buffers(), its.buffers())
        if self.steps == 0:
            _copy(averages, sources)
        elif self.steps % self.interval == 0:
            self._average(averages, sources)
        self.steps += 1

    def _pairs_of_state(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """The pairs of entries of both state dicts. Shared tensors come once."""
        state = model.state_dict()
        pairs = {
            _memory(average): (average, state[k]) for k, average in self.avg_parameters.items()
        }
        return [average for average, _ in pairs.values()], [source for _, source in pairs.values()]

    def _find(self, model: nn.Module) -> 'tuple[_Finder, _Finder]':
        """Finders of the tensors of the average and of the model."""
        finders = self._finders
        if finders and finders[0].serves(self.module) and finders[1].serves(model):
            return finders
        parameters = list(self.avg_parameters)
        buffers = [name for name, _ in self.module.named_buffers()]
        self._finders = (
            _Finder(self.module, parameters, buffers),
            _Finder(model, parameters, buffers),
        )
        return self._finders

    def _average(self, averages: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        pairs = [
            pair for pair in zip(averages, sources, strict=True) if pair[0].is_floating_point()
        ]
        if pairs:
            floats, latest = ([pair[i] for pair in pairs] for i in (0, 1))
            if {value.device for value in floats} != {value.device for value in latest}:
                latest = [new.to(old.device) for old, new in pairs]
            torch._foreach_lerp_(floats, latest, self.momentum)


class _Finder:
    """Finds a model's tensors again without following their names from module to module.

    It looks into the modules' own dicts every time, because tensors may be replaced.

    Args:
        model: The model.
        parameters: Names of parameters.
        buffers: Names of buffers.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str], buffers: Sequence[str]) -> None:
        self._model = model
        paths = {path for name in (*parameters, *buffers) for path in _ancestors(name)}
        self._children = [(_parent(model, path)._modules, _last(path)) for path in sorted(paths)]
        self._modules = self._present()
        self._parameters = [(_parent(model, name)._parameters, _last(name)) for name in parameters]
        self._buffers = [(_parent(model, name)._buffers, _last(name)) for name in buffers]

    def serves(self, model: nn.Module) -> bool:
        """Whether this is the model, and its modules are those that it had."""
        return self._model is model and self._present() == self._modules

    def parameters(self) -> list[Tensor]:
        """The parameters as they are now."""
        return [tensors[name] for tensors, name in self._parameters]  # type: ignore[misc]

    def buffers(self) -> list[Tensor]:
        """The buffers as they are now."""
        return [tensors[name] for tensors, name in self._buffers]  # type: ignore[misc]

    def _present(self) -> list[nn.Module | None]:
        return [children.get(name) for children, name in self._children]


def _ancestors(name: str) -> Iterable[str]:
    """The paths of the modules that a name leads through."""
    parts = name.split('.')
    return ('.'.join(parts[:i]) for i in range(1, len(parts)))


def _parent(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition('.')[0])


def _last(name: str) -> str:
    return name.rpartition('.')[2]


def _memory(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
