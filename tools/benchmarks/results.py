"""What the benchmarks write: their measurements as JSON."""

import json
from datetime import date
from typing import Any

import torch
import triton
from machine import gpu_name

__all__ = ['Results']


class Results(list[dict[str, Any]]):
    """Measurements, written to a file after each: a run that is stopped leaves what it has.

    The file holds the device, torch's and triton's versions, the date, the facts, and the
    measurements as ``results``.

    Args:
        path: Of the file, or None for none.
        device: What was measured; by default the GPU's name.
        facts: What is true of all measurements.
    """

    def __init__(self, path: str | None, device: str | None = None, **facts: Any) -> None:
        super().__init__()
        self.path = path
        self.device = device
        self.facts = facts

    def append(self, measurement: dict[str, Any]) -> None:
        """Add one, and write all."""
        super().append(measurement)
        self.write()

    def write(self) -> None:
        """Write all to the file, if there is one; also after a measurement has changed."""
        if self.path:
            with open(self.path, 'w') as file:
                json.dump(self.content(), file, indent=1)

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        return dict(
            device=self.device or gpu_name(),
            torch=torch.__version__,
            triton=triton.__version__,
            date=date.today().isoformat(),
            **self.facts,
            results=self,
        )
