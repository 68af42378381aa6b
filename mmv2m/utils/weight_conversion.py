"""Shared parts of the converters of other code's weights. They account for every key."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = [
    'AFFINE',
    'BATCH_NORM',
    'ENTRIES',
    'Plan',
    'as_map',
    'convert_weights',
    'count_blocks',
    'find_weights',
    'keep',
    'keep_all',
    'save_converted',
    'strip_wrappers',
]

AFFINE = ('weight', 'bias')
BATCH_NORM = (*AFFINE, 'running_mean', 'running_var', 'num_batches_tracked')

Plan = dict[str, dict[str, Callable[[Tensor], Tensor]]]
"""For each key of the other code, the keys here that are made from it, and the functions."""


ENTRIES = ('state_dict', 'model', 'model_ema', 'ema_model')
"""Entries in which checkpoints keep weights. The first that exists is taken."""

WRAPPERS = ('module.', '_orig_mod.')
"""Prefixes of names from DataParallel, DistributedDataParallel and torch.compile."""


def find_weights(checkpoint: Mapping[str, Any], entry: str | None = None) -> dict[str, Tensor]:
    """Find the weights of a checkpoint, and remove the prefixes of wrappers.

    Args:
        checkpoint: The content of a file.
        entry: The entry to take. Defaults to the first of :data:`ENTRIES` that exists and is not
            None, or to the whole checkpoint.

    Raises:
        ValueError: If there is no such entry, it is None, or it holds anything but tensors.
    """
    if entry is not None and entry not in checkpoint:
        raise ValueError(
            f'there is no entry {entry!r}; there are {", ".join(map(str, checkpoint))}'
        )
    there = [name for name in ENTRIES if name in checkpoint]
    if entry is None and there:
        entry = next((name for name in there if checkpoint[name] is not None), there[0])
    held = checkpoint if entry is None else checkpoint[entry]
    problem = _problem(held)
    if problem is None:
        return strip_wrappers(held)
    others = [name for name, value in checkpoint.items() if _problem(value) is None]
    where = 'the file' if entry is None else f'the entry {entry!r}'
    hint = f'; weights are in {", ".join(map(str, others))}' if others else ''
    raise ValueError(f'{where} {problem}{hint}')


def _problem(held: Any) -> str | None:
    """The reason why an object is not the weights of a model, or None if it is."""
    if held is None:
        return 'is None'
    if not isinstance(held, Mapping) or not held:
        return 'holds no weights'
    odd = next((name for name, value in held.items() if not isinstance(value, Tensor)), None)
    return None if odd is None else f'holds {str(odd)!r}, which is no tensor'


def keep(x: Tensor) -> Tensor:
    """A tensor that only changes its name."""
    return x


def keep_all(names: Mapping[str, str], old: str = '', new: str = '') -> Plan:
    """Make the plan of tensors that only change their names.

    Args:
        names: Old names to new ones.
        old: Prefix of each old name.
        new: Prefix of each new name.
    """
    return {f'{old}{a}': {f'{new}{b}': keep} for a, b in names.items()}


def as_map(positions: Tensor) -> Tensor:
    """Reshape the position embedding of a square map, (1, L, D), to (1, H, W, D).

    Raises:
        ValueError: If L is no square number.
    """
    side = math.isqrt(positions.shape[1])
    if side * side != positions.shape[1]:
        raise ValueError(f'pos_embed has {positions.shape[1]} positions, which is no square')
    return positions.unflatten(1, (side, side))


def strip_wrappers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers, such as DistributedDataParallel, from a state dict."""
    pattern = re.compile(f'^(?:{"|".join(map(re.escape, WRAPPERS))})+')
    return {pattern.sub('', key): value for key, value in state_dict.items()}


def count_blocks(state_dict: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Count the blocks of each stage.

    Args:
        state_dict: Weights.
        pattern: Regular expression of the start of a block's keys. Its groups are the stage and the
            block, or the block alone if there are no stages.
    """
    found = {tuple(map(int, m.groups())) for key in state_dict if (m := re.match(pattern, key))}
    stages = max((key[0] for key in found if len(key) > 1), default=0) + 1
    return [sum(len(key) == 1 or key[0] == i for key in found) for i in range(stages)]


def convert_weights(state_dict: Mapping[str, Tensor], plan: Plan, model: str) -> dict[str, Tensor]:
    """Convert weights by a plan. The weights of the head may be missing, but only all together.

    Args:
        state_dict: The other code's weights.
        plan: The new keys of each of its keys.
        model: The model's name, for the error.

    Raises:
        ValueError: If a key is not in the plan, or a key of the plan is missing.
    """
    head = {old for old, parts in plan.items() if any(new.startswith('head.') for new in parts)}
    if not head & state_dict.keys():
        plan = {old: parts for old, parts in plan.items() if old not in head}
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


def save_converted(
    state_dict: Mapping[str, Tensor], family: str, src: str | Path, dst: str | Path
) -> None:
    """Write converted weights as a checkpoint of mmengine.

    Args:
        state_dict: The weights.
        family: Name of the model's family.
        src: The file that they were converted from.
        dst: The file to write.

    Raises:
        OSError: If the file cannot be written.
    """
    with open(dst, 'wb') as file:  # given a path, torch.save raises RuntimeErrors
        meta = dict(converted_from=str(src), family=family)
        torch.save(dict(state_dict=state_dict, meta=meta), file)
