"""What the benchmarks write: their measurements as JSON."""

import json
from typing import Any

import torch

__all__ = ['Results']


class Results(list[dict[str, Any]]):
    """Measurements, written to a file after each: a run that is stopped leaves what it has.

    Args:
        path: Of the file, or None for none.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self.path = path

    def append(self, measurement: dict[str, Any]) -> None:
        """Add one, and write all."""
        super().append(measurement)
        if self.path:
            with open(self.path, 'w') as file:
                json.dump(dict(device=torch.cuda.get_device_name(), results=self), file, indent=1)
