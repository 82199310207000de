"""Describe the findings of a conversion, and say in which ways its corpus is of no use although nothing was lost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow.compute as pc

from shards import storage
from shards.corpus.description import Corpus
from shards.corpus.facts import UNLISTED
from shards.format.dataset import Dataset
from shards.prefetch import map_prefetched

_READ_THREADS = 16


def _describe_leakage(leakage: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of scans that lie in several splits."""
    for kind, found in leakage.get("kinds", {}).items():
        groups = ", ".join(found["examples"])
        more = ", …" if found["num_groups"] > len(found["examples"]) else ""
        counts = f"{found['num_groups']} {kind} groups of {found['num_scans']} scans"
        yield f"leakage: {counts} cross splits ({groups}{more})"


def describe_findings(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of contradiction, repair and skipped file, and of scans that lie in several splits."""
    for kind, found in document.get("contradictions", {}).items():
        keys = [example["key"] for example in found["examples"]] + ["…"] * (found["count"] > len(found["examples"]))
        yield f"contradictions: {found['count']} {kind} ({', '.join(keys)})"
    for kind, found in document.get("repairs", {}).items():
        first = found["examples"][0]
        yield f"repairs: {found['count']} {kind}, such as {first['key']}: {first['detail']}"
    for kind, found in document.get("skipped", {}).items():
        first = found["examples"][0]["detail"]
        yield f"skipped: {found['count']} {kind}, such as {first}"
    yield from _describe_leakage(document.get("leakage", {}))


def describe_groups(dataset: Dataset) -> Iterator[str]:
    """Yield a line if scans have groups."""
    counts = pc.value_counts(dataset.read_samples(columns=["group"])["group"].drop_null()).field("counts")
    if num_groups := pc.sum(pc.greater(counts, 1)).as_py():
        num_scans = pc.sum(counts.filter(pc.greater(counts, 1))).as_py()
        yield f"groups: {num_scans} scans are in {num_groups} groups of one bag each"


def describe_mixed_formats(dataset: Dataset) -> Iterator[str]:
    """Yield a line if the tars hold both JPEG and PNG, by their indexes; they are read until both are found."""
    urls = map(dataset.index_url, dataset.shards())
    extensions: set[str] = set()
    with closing(map_prefetched(_read_extensions, urls, _READ_THREADS, _READ_THREADS)) as found:
        for more in found:
            extensions |= more
            if len(extensions) > 1:
                yield (
                    "formats: shards mix JPEG and PNG, which the WebDataset loader of Hugging Face datasets refuses; "
                    "convert again with --transcode to make all of them JPEG"
                )
                return


def _read_extensions(index_url: str) -> set[str]:
    return {line.partition(" ")[0] for line in storage.read_bytes(index_url).decode().splitlines()[1:]}


@dataclass(frozen=True, slots=True)
class Summary:
    """What became, or would become, of the scans of a corpus."""

    scans: Counter[str] = field(default_factory=Counter)
    """Samples by split."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Refused scans by split and reason."""
    positives: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Samples by split and class that is present."""
    num_labelled: int = 0
    """Samples of which the label of at least one class is known."""

    @property
    def num_listed(self) -> int:
        """Samples and refused scans."""
        return self.scans.total() + self.refused.total()


def summarise_dataset(dataset: Dataset) -> Summary:
    """Return the summary of a dataset, from its ledger and the labels of its rows."""
    ledger = dataset.manifest.ledger
    refused = {(split, reason): n for split in ledger for reason, n in ledger[split].quarantined_by_reason.items()}
    positives: Counter[tuple[str, str]] = Counter()
    num_labelled = 0
    for split in ledger:
        labels = dataset.read_samples(split, columns=["labels"])["labels"].combine_chunks()
        columns = [labels.field(name) for name in dataset.manifest.classes] if len(labels) else []
        positives.update(
            {(split, name): pc.sum(pc.equal(column, 1)).as_py() or 0
             for name, column in zip(dataset.manifest.classes, columns, strict=False)}
        )  # fmt: skip
        if columns:
            num_labelled += len(labels) - pc.coalesce(*columns).null_count
    scans = {split: counts.converted for split, counts in ledger.items()}
    return Summary(Counter(scans), Counter(refused), positives, num_labelled)


class Shortcoming(NamedTuple):
    """A way in which a dataset may be of no use."""

    text: str
    is_loss: bool
    """The corpus names what the dataset lacks, so something went wrong; else the corpus itself has none of it."""


def find_shortcomings(summary: Summary, corpus: Corpus, scored_classes: Sequence[str]) -> Iterator[Shortcoming]:
    """Yield each reason why nobody may be able to work with the dataset as it is.

    A folder of images alone needs neither splits nor labels: it is there to be scored. A corpus with a test list alone
    is there to be rated, and lists name all classes of a release although a part of it may hold a few.
    """
    reasons: Counter[str] = Counter()
    for (_, reason), count in summary.refused.items():
        reasons[reason] += count
    for reason, count in reasons.most_common(1):
        if 2 * count > summary.num_listed:
            yield Shortcoming(f"{count} of {summary.num_listed} scans are refused as {reason}", is_loss=True)
    splits = {*summary.scans, *(split for split, _ in summary.refused)} | {item.split for item in corpus.lists}
    if splits - {UNLISTED, ""} and not summary.scans["train"]:
        named = ", ".join(sorted(split for split in splits if summary.scans[split])) or "none"
        text = f"no scan is in train, though the corpus has splits (with scans: {named})"
        yield Shortcoming(text, is_loss="train" in splits)
    if corpus.layout == "images" or not summary.scans.total():
        return
    if not summary.num_labelled:
        yield Shortcoming("no label of any scan is known", is_loss=True)
    elif any(item.has_labels for item in corpus.lists):
        present = {name for (_, name), count in summary.positives.items() if count}
        if absent := [name for name in scored_classes if name not in present]:
            has_refused = summary.refused.total() > 0
            yield Shortcoming(f"no scan has {' or '.join(absent)}, which the lists name", has_refused)
