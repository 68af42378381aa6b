"""The records that are results of a study's trainings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmv2m.engine.config import load_config
from mmv2m.engine.records import Record, changed_settings, config_digest, config_id
from mmv2m.reproduce.placement import global_batch
from mmv2m.reproduce.results import FREE, Own

from .plan import Arm, Run

__all__ = ['Outcomes']


@dataclass(frozen=True)
class Outcomes:
    """The records of a study, and its results.

    Attributes:
        records: All records of the study's folder.
        options: Settings that replace the configs', by dotted key. Records with other settings are
            no results.
    """

    records: Sequence[Record]
    options: Mapping[str, Any]

    def of_run(self, run: Run) -> Record | None:
        """The record of a training, or None. Of several records, the last one counts.

        It needs the digest of the present config, the seed, and the same settings.
        """
        found = [r for r in self._of_config(run.config) if r.seed == run.seed]
        return found[-1] if found else None

    def of_arm(self, arm: Arm, seeds: Iterable[int], metric: str) -> Own | None:
        """An arm's results in percent, one for each seed with a record; None without records."""
        found = [self.of_run(Run(arm.config, seed)) for seed in dict.fromkeys(seeds)]
        values = tuple(record.metrics[metric] for record in found if record is not None)
        return Own(values) if values else None

    def seconds(self, config: Path) -> list[float]:
        """Seconds that the trainings of a config took."""
        return [record.seconds for record in self._of_config(config) if record.seconds is not None]

    def _of_config(self, path: Path) -> list[Record]:
        before = _config(path)
        after = before.copy()
        after.merge_from_dict(dict(self.options))
        batch = self.options.get('train_dataloader.batch_size', global_batch(before))
        wanted = (config_id(path), config_digest(before), _without_free(before, after), batch)
        return [
            r
            for r in self.records
            if r.kind == 'training'
            and (r.config, r.config_digest, _not_free(r.options), r.global_batch) == wanted
        ]


@cache
def _config(path: Path) -> Config:
    return load_config(str(path))


def _without_free(before: Config, after: Config) -> dict[str, Any]:
    return _not_free(changed_settings(before, after))


def _not_free(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that a run may change without a change of the recipe."""
    return {key: value for key, value in options.items() if key not in FREE}
