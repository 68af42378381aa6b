"""A study's results as Markdown: mean and spread of every arm, from the records."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmv2m.engine.errors import UserError
from mmv2m.reproduce.markdown import markdown_table, replace_marked, show_own
from mmv2m.reproduce.report import measure_row

from .outcome import Outcomes
from .plan import Arm, Comparison, Run, Study

__all__ = ['NO_RESULTS', 'Summary', 'update_page']

NO_RESULTS = 'There are no results yet: no run of the study has a record.'

MARKS = ('<!-- results -->', '<!-- end of results -->')
"""The marks around the results in a page."""


@dataclass(frozen=True)
class Summary:
    """The results of some comparisons of a study.

    Attributes:
        study: The study.
        comparisons: The chosen comparisons.
        outcomes: The records.
        seeds: The seeds that count.
    """

    study: Study
    comparisons: Sequence[Comparison]
    outcomes: Outcomes
    seeds: Sequence[int]

    @property
    def any_results(self) -> bool:
        """Whether there is a result at all."""
        return any(self.values(arm) for c in self.comparisons for arm in c.arms)

    def values(self, arm: Arm) -> dict[int, float]:
        """An arm's results in percent, by seed."""
        records = {seed: self.outcomes.of_run(Run(arm.config, seed)) for seed in self.seeds}
        return {seed: r.metrics[self.study.metric] for seed, r in records.items() if r is not None}

    def as_markdown(self, plot: str | None = None) -> str:
        """A table for each comparison, or a sentence if there are no results.

        Args:
            plot: Path of the plot from the page; None for no plot.
        """
        if not self.any_results:
            return NO_RESULTS
        parts = [f'### {c.title}\n\n{self._table(c)}' for c in self.comparisons]
        if plot:
            parts.insert(0, f'![Results of all runs, one dot each]({plot})')
        return '\n\n'.join([*parts, self._legend()])

    def _table(self, comparison: Comparison) -> str:
        first = comparison.arms[0]
        header = ['Arm', 'Params', f'{self.study.data.metrics[0].label}, %', f'less {first.name}']
        return markdown_table(header, [self._cells(arm, first) for arm in comparison.arms])

    def _cells(self, arm: Arm, first: Arm) -> list[str]:
        own = self.outcomes.of_arm(arm, self.seeds, self.study.metric)
        params = measure_row(arm.config, self.study.data.size).params / 1e6
        difference = '' if arm is first else self._difference(arm, first)
        return [arm.name, f'{params:.2f} M', show_own(own) if own else '–', difference]

    def _difference(self, arm: Arm, first: Arm) -> str:
        """Mean and standard deviation of the differences, seed by seed."""
        ours, theirs = self.values(arm), self.values(first)
        pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if not pairs:
            return '–'
        spread = f' ± {statistics.stdev(pairs):.2f}' if len(pairs) > 1 else ''
        return f'{statistics.fmean(pairs):+.2f}{spread} ({len(pairs)})'

    def _legend(self) -> str:
        runs = {Run(arm.config, s) for c in self.comparisons for arm in c.arms for s in self.seeds}
        records = [r for r in map(self.outcomes.of_run, runs) if r is not None]
        machines = ', '.join(sorted({record.hardware for record in records}))
        return (
            'Cells are mean ± standard deviation (number of seeds). The seeds are '
            f'{", ".join(map(str, self.seeds))}. Differences are taken seed by seed. '
            f'{len(records)} of {len(runs)} runs are done, on {machines}.'
        )


def update_page(page: Path, results: str) -> None:
    """Replace the results in a page.

    Args:
        page: The page, which has :data:`MARKS`.
        results: Markdown.

    Raises:
        UserError: If the page does not exist, or lacks a mark.
    """
    if not page.is_file():
        raise UserError(f'there is no page {page} to put the results into')
    page.write_text(replace_marked(page.read_text(), MARKS, results, str(page)))
