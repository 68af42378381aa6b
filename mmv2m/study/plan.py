"""The parts of a study: comparisons, their arms, and the arms' trainings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmv2m.engine.errors import UserError, did_you_mean
from mmv2m.reproduce.tables import Data, Metric, Row

__all__ = ['Arm', 'Comparison', 'Run', 'Study', 'load_study', 'plan_runs']

TASK, LABEL = 'Image Classification', 'Top 1 Accuracy'
KEYS = ('data', 'train_images', 'size', 'metric', 'comparisons')


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison.

    Attributes:
        name: Name of the arm in the comparison.
        config: File of the arm's config.
    """

    name: str
    config: Path


@dataclass(frozen=True)
class Comparison:
    """Arms that are compared with the first of them.

    Attributes:
        name: Name of the comparison on the command line.
        title: Title of the comparison.
        arms: The arms.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        path: File of the study.
        data: The data set and its metrics.
        comparisons: The comparisons.
    """

    path: Path
    data: Data
    comparisons: tuple[Comparison, ...]

    @property
    def metric(self) -> str:
        """Name of the metric in records."""
        return self.data.metrics[0].logged

    def select(self, names: Sequence[str]) -> tuple[Comparison, ...]:
        """Return the comparisons, or the parts of comparisons, with the given names.

        Args:
            names: Names of comparisons, which stand for all of their arms, or of single arms'
                config files without suffix; empty for everything.

        Raises:
            UserError: If there is no such comparison or config.
        """
        known = [c.name for c in self.comparisons]
        known += [arm.config.stem for c in self.comparisons for arm in c.arms]
        for name in names:
            if name not in known:
                raise UserError(
                    f'--runs: {self.path.name} has no {name}'
                    + (did_you_mean(name, known) or f', but {", ".join(dict.fromkeys(known))}')
                )
        chosen = []
        for c in self.comparisons:
            whole = not names or c.name in names
            arms = tuple(arm for arm in c.arms if whole or arm.config.stem in names)
            if arms:
                chosen.append(Comparison(c.name, c.title, arms))
        return tuple(chosen)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        config: File of the training's config.
        seed: Seed of the training.
    """

    config: Path
    seed: int

    @property
    def name(self) -> str:
        """The name of the run in lists."""
        return f'{self.config.stem}, seed {self.seed}'

    def row(self, data: Data) -> Row:
        """The run's model as a row of results."""
        return Row(
            name=self.config.stem,
            family='',
            config=self.config.name,
            data=data,
            size=data.size,
        )


def load_study(path: Path) -> Study:
    """Read and check a study's file. configs/studies/cifar10.yml explains its format.

    Args:
        path: The file.

    Raises:
        UserError: If the file cannot be read, an entry is missing or unknown, or a config does not
            exist.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f'the study cannot be read: {error}') from error
    _check_keys(str(path), content, KEYS)
    height, width = content['size']
    data = Data(
        name=content['data'],
        task=TASK,
        train_images=content['train_images'],
        size=(height, width),
        metrics=(Metric(name='top1', label=LABEL, task=TASK, logged=content['metric']),),
    )
    comparisons = []
    for name, value in content['comparisons'].items():
        _check_keys(f'{path}: {name}', value, ('title', 'arms'))
        arms = tuple(_arm(path, arm, config) for arm, config in value['arms'].items())
        comparisons.append(Comparison(name, value['title'], arms))
    return Study(path, data, tuple(comparisons))


def plan_runs(comparisons: Iterable[Comparison], seeds: Iterable[int]) -> list[Run]:
    """All trainings, each once, seed by seed, so that a study that was stopped still compares."""
    configs = list(dict.fromkeys(arm.config for c in comparisons for arm in c.arms))
    return [Run(config, seed) for seed in dict.fromkeys(seeds) for config in configs]


def _arm(path: Path, name: str, config: str) -> Arm:
    file = path.parent / config
    if not file.is_file():
        raise UserError(f'{path}: {name}: there is no {file}')
    return Arm(name, file)


def _check_keys(where: str, value: Any, keys: Sequence[str]) -> None:
    if not isinstance(value, Mapping) or sorted(value) != sorted(keys):
        raise UserError(f'{where}: {", ".join(keys)} are expected, and nothing else')
