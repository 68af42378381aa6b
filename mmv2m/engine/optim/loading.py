"""Checks of an optimizer with named groups when it loads a state."""

from typing import Any

from torch.optim import Optimizer

__all__ = ['check_groups_on_load']

HOW = ('foreach', 'fused', 'capturable', 'differentiable')
"""Settings of a group that change how a step is computed, but not its result."""


def check_groups_on_load(optimizer: Optimizer) -> None:
    """Let an optimizer load only states of its own groups, and keep its own way of computing.

    PyTorch matches parameters by their place alone, so that the moments of a state with other
    groups could go to the wrong parameters. PyTorch also takes over whether the saved optimizer was
    fused.

    Args:
        optimizer: An optimizer whose groups have ``param_names``.
    """
    optimizer.register_load_state_dict_pre_hook(_check_groups)


def _check_groups(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    groups, saved = optimizer.param_groups, state['param_groups']
    if not _same_groups(groups, saved):
        raise ValueError(
            f'the saved optimizer has its parameters in other groups ({len(saved)}) than this one '
            f'({len(groups)}): resume with tools/train.py, or with '
            "dict(type='mmv2m.ResumeGroupsHook') in the config's custom_hooks"
        )
    ways = [{key: group[key] for key in HOW if key in group} for group in groups]
    return dict(state, param_groups=[{**s, **way} for s, way in zip(saved, ways, strict=True)])


def _same_groups(groups: list[dict], saved: list[dict]) -> bool:
    if len(saved) == len(groups) == 1 and 'param_names' not in saved[0]:
        # mmengine's constructor without paramwise_cfg: all parameters in the model's order.
        return len(saved[0]['params']) == len(groups[0]['params'])
    names = [group['param_names'] for group in groups]
    return names == [group.get('param_names') for group in saved]
