"""What the converters of other code's weights share: every key is accounted for."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = [
    'Plan',
    'convert_weights',
    'count_blocks',
    'keep',
    'keep_all',
    'save_converted',
    'strip_prefixes',
]

Plan = dict[str, dict[str, Callable[[Tensor], Tensor]]]
"""For each key of the other code the keys here that are made of it, and how."""


def keep(x: Tensor) -> Tensor:
    """A tensor that only changes its name."""
    return x


def keep_all(names: Mapping[str, str], old: str = '', new: str = '') -> Plan:
    """The plan of tensors that only change their names.

    Args:
        names: Old names to new ones.
        old: What stands in front of each old name.
        new: What stands in front of each new name.
    """
    return {f'{old}{a}': {f'{new}{b}': keep} for a, b in names.items()}


def strip_prefixes(state_dict: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """A state dict without what wrappers such as DistributedDataParallel put before each key."""
    pattern = re.compile(f'^(?:{"|".join(map(re.escape, prefixes))})+')
    return {pattern.sub('', key): value for key, value in state_dict.items()}


def count_blocks(state_dict: Mapping[str, Tensor], pattern: str) -> list[int]:
    """How many blocks each stage has.

    Args:
        state_dict: Weights.
        pattern: Regular expression of the start of a block's keys, with the stage and the block
            as groups, or the block alone where there are no stages.
    """
    found = {tuple(map(int, m.groups())) for key in state_dict if (m := re.match(pattern, key))}
    stages = max((key[0] for key in found if len(key) > 1), default=0) + 1
    return [sum(len(key) == 1 or key[0] == i for key in found) for i in range(stages)]


def convert_weights(state_dict: Mapping[str, Tensor], plan: Plan, model: str) -> dict[str, Tensor]:
    """Convert weights as planned.

    Args:
        state_dict: The other code's weights.
        plan: What becomes of each of its keys.
        model: The model's name, for the error.

    Raises:
        ValueError: If a key is not in the plan, or one of the plan's is missing.
    """
    unknown, missing = sorted(state_dict.keys() - plan), sorted(plan.keys() - state_dict)
    if unknown or missing:
        raise ValueError(
            f'not the weights of a {model}: unknown keys {unknown[:3]}, missing {missing[:3]}'
        )
    return {
        new: make(state_dict[old]).contiguous()
        for old, parts in plan.items()
        for new, make in parts.items()
    }


def save_converted(state_dict: Mapping[str, Tensor], src: str | Path, dst: str | Path) -> None:
    """Write converted weights as a checkpoint of mmengine.

    Args:
        state_dict: The weights.
        src: The file that they were converted from.
        dst: The file to write.

    Raises:
        OSError: If it cannot be written.
    """
    with open(dst, 'wb') as file:  # given a path, torch.save raises RuntimeErrors
        torch.save(dict(state_dict=state_dict, meta=dict(converted_from=str(src))), file)
