"""Say what a conversion would make of a corpus: read all but the images, in this process, and write nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.runtime import progress
from shards.corpus.description import Corpus
from shards.corpus.policy import Policy
from shards.curation import contradictions, forecast, subsets
from shards.curation.findings import describe_findings
from shards.curation.forecast import REMEDIES, Forecast
from shards.format.classes import ClassSet
from shards.writing import sharding

_WIDTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What would be converted, and by which rules."""

    corpus: Corpus
    sources: Sequence[Any]
    """Of facts: images, annotations, lists, metadata."""
    list_facts: Callable[[Any], Iterable[tuple[int, bytes]]]
    classes: ClassSet
    policy: Policy
    subset: str
    seed: int
    num_metadata_rows: int = 0

    def read(self) -> tuple[Forecast, dict[str, Any]]:
        """Return what would become of the scans, and what the manifest would say of contradictions and the like.

        Raises:
            ValueError: the conversion would stop for it.
        """
        ranges: defaultdict[int, list[bytes]] = defaultdict(list)
        with progress.Progress("convert", unit="scans"):
            for source in self.sources:
                for number, batch in self.list_facts(source):
                    ranges[number].append(batch)
            subset = "all" if self.corpus.builds_subset else self.subset
            refs = [
                sharding.join_batches(ranges.pop(number), self.corpus, subset, self.policy, self.classes)
                for number in sorted(ranges)
            ]
        if self.corpus.builds_subset:
            census = [subsets.census_of_records(batch, self.seed) for batch in refs]
            selection = subsets.choose_subset(census, self.subset, self.seed)
            refs = [subsets.select_records(batch, selection, len(self.classes.scored)) for batch in refs]
        found = contradictions.sum_contradictions(
            contradictions.find_contradictions(batch, self.classes) for batch in refs
        )
        findings = contradictions.make_findings(found, self.policy, self.num_metadata_rows)
        parts = (forecast.forecast_records(batch, self.classes, self.policy) for batch in refs)
        return forecast.sum_forecasts(parts), findings


def print_forecast(found: Forecast, findings: dict[str, Any], classes: Sequence[str]) -> None:
    """Print scans by split and class, refusals with examples and what mends them, and what sources disagree on."""
    summary = found.summary
    table = Table("split", "scans", "refused", *classes)
    splits = sorted({*summary.scans, *(split for split, _ in summary.refused)})
    for split in splits:
        refused = sum(count for (of, _), count in summary.refused.items() if of == split)
        positives = (f"{summary.positives[split, name]:,}" for name in classes)
        table.add_row(split, f"{summary.scans[split]:,}", f"{refused:,}", *positives)
    Console(highlight=False, width=_WIDTH).print(table)
    for reason, keys in sorted(found.examples.items()):
        count = sum(n for (_, of), n in summary.refused.items() if of == reason)
        more = ", …" if count > len(keys) else ""
        remedy = f"; to mend: {REMEDIES[reason]}" if reason in REMEDIES else ""
        print(f"refused: {count} {reason} ({', '.join(keys)}{more}){remedy}")
    for kind, (count, (key, detail)) in sorted(found.repairs.items()):
        print(f"repairs: {count} {kind}, such as {key}: {detail}")
    for line in describe_findings(findings):
        print(line)
    print("not looked at: the images themselves, their sizes against the boxes, and which scans are equal")
