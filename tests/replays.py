"""What tests of replays share: a function that counts its calls, and arguments for it."""

import torch
from cuda_emulation import DEVICE


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


def draw(seed, channels=8, bias=True, odd=False):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        numbers = torch.randn(*size, generator=generator)
        storage = torch.empty(numbers.numel() + odd, device=DEVICE)
        return storage[int(odd) :].copy_(numbers.flatten()).view(size)

    x, gate = normal(1, 2, 3, 2 * channels).chunk(2, -1)
    weight = normal(channels, 4)
    return x, gate, weight, normal(channels) if bias else None, normal(2, 1, 2, 3, channels)
