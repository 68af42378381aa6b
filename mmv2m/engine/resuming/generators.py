"""The states of the random generators of a process, as tensors and numbers."""

import random
from typing import Any

import numpy as np
import torch

__all__ = ['generator_states', 'restore_generators']


def generator_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators of this process.

    Returns:
        The states, as tensors, numbers, strings and tuples, so that
        ``torch.load(..., weights_only=True)`` reads them. ``cuda`` is the state of the current
        device, and is missing without a GPU.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = dict(
        python=(version, torch.tensor(words), gauss),
        numpy=(
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Set the generators of this process to states from :func:`generator_states`.

    Args:
        states: The states. Their tensors may be on any device.
    """
    version, words, gauss = states['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *others = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *others))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())
