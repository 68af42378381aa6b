"""The JSON files to which the benchmarks write their measurements."""

import json
from datetime import date
from typing import Any

import torch
import triton
from machine import gpu_name

__all__ = ['Results']


class Results(list[dict[str, Any]]):
    """A list of measurements that is written to a file after each one.

    A run that is stopped therefore leaves the measurements that it has made.

    The file holds the device, torch's and triton's versions, the date, the facts, and the
    measurements as ``results``.

    Args:
        path: Path of the file, or None for no file.
        device: Name of the measured device; by default the GPU's name.
        facts: Values that hold for all measurements.
    """

    def __init__(self, path: str | None, device: str | None = None, **facts: Any) -> None:
        super().__init__()
        self.path = path
        self.device = device
        self.facts = facts

    def append(self, measurement: dict[str, Any]) -> None:
        """Add a measurement, and write the file."""
        super().append(measurement)
        self.write()

    def write(self) -> None:
        """Write all measurements to the file, if there is one; call it after changing one."""
        if self.path:
            with open(self.path, 'w') as file:
                json.dump(self.content(), file, indent=1)

    def content(self) -> dict[str, Any]:
        """Return the content of the file."""
        return dict(
            device=self.device or gpu_name(),
            torch=torch.__version__,
            triton=triton.__version__,
            date=date.today().isoformat(),
            **self.facts,
            results=self,
        )
