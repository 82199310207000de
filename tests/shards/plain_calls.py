"""The conversion as plain calls without a runner, facts and batches in any order: fast, and as disorderly as asked."""

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards import storage
from shards.corpus.description import ListFile, Source
from shards.corpus.layouts.registry import LAYOUTS, choose_classes, find_corpus
from shards.corpus.policy import Policy
from shards.curation import contradictions, leakage, subsets
from shards.format.classes import ClassSet, load_class_set
from shards.format.dataset import open_dataset
from shards.format.manifest import DatasetManifest
from shards.verify import dataset as verification
from shards.verify.shard import Damage
from shards.writing import finish, sharding
from shards.writing.corpus_source import ScanSource
from shards.writing.finish import find_duplicates, find_equal, spread_checksums
from shards.writing.shard_writer import write_shard

CLASSES = load_class_set("sixray")


def convert_plainly(
    corpus_root: Path,
    output: Path | str,
    *,
    layout: str = "auto",
    subset: str = "all",
    shard_bytes: int = 20_000,
    seed: int | None = None,
    policy: Policy | None = None,
    classes: ClassSet | None = None,
    choice_seed: int = 0,
) -> DatasetManifest:
    """Convert a corpus; with a `seed` facts, batches and shards come in a random order, in random portions."""
    order = random.Random(seed)
    corpus = find_corpus(str(corpus_root), layout, subset)
    classes = classes or choose_classes(corpus, (), {})
    policy = LAYOUTS[corpus.layout].adapt_policy(policy or Policy())
    url = storage.normalise_url(output)
    facts: list[Any] = []
    parts: list[Source | ListFile] = [*corpus.sources, *corpus.lists]
    for part in parts:
        facts += LAYOUTS[corpus.layout].list_facts(part, corpus, classes, f"{url}/_drafts")
    fact_batches = _group(_mix(sharding.batch_facts(portion), order, seed) for portion in _split(facts, order, seed))
    if corpus.builds_subset:
        policy = replace(policy, boxes_are_exhaustive=True)
    wanted = "all" if corpus.builds_subset else subset
    refs = [
        sharding.join_batches(batches, corpus, wanted, policy, classes)
        for _, batches in _mix(fact_batches.items(), order, seed)
    ]
    if corpus.builds_subset:
        censuses = [subsets.census_of_records(batch, choice_seed) for batch in refs]
        selection = subsets.choose_subset(censuses, subset, choice_seed)
        refs = [subsets.select_records(batch, selection, len(classes.scored)) for batch in refs]
    found = contradictions.sum_contradictions([contradictions.find_contradictions(batch, classes) for batch in refs])
    findings = contradictions.make_findings(found, policy)
    tallies = sharding.sum_tallies(sharding.tally_splits(batch) for batch in refs)
    shards = _group(_mix(sharding.assign_shards(batch, tallies, shard_bytes), order, seed) for batch in refs)
    reader = ScanSource(classes, policy)
    written = [
        write_shard(url, split, name, sharding.unpack_records(batches), reader)
        for (split, name), batches in _mix(shards.items(), order, seed)
    ]
    checksums = _group(spread_checksums(shard, tallies) for shard in written)
    equal = [find_equal(batches) for batches in checksums.values()]
    duplicates = _group(find_duplicates(groups) for groups in equal)
    leaks = [leak for groups in equal for leak in leakage.find_byte_equal(groups)]
    finished = [
        finish.finish_shard(url, [shard.info], duplicates.get(shard.info.name, []), reader) for shard in written
    ]
    return finish.write_manifest(finished, tallies, url, reader, {"shard_bytes": shard_bytes}, findings, leaks)


def verify_plainly(root: Path | str) -> list[Damage]:
    """Return the damages of a dataset, as `sixray verify` finds them."""
    dataset = open_dataset(str(root))
    shards = [verification.verify_shard(dataset, info) for info in dataset.manifest.shards]
    damages = [damage for shard in shards for damage in shard.damages]
    damages += verification.verify_ledger(dataset, shards)
    for verify, batch_rows in (
        (verification.verify_duplicates, verification.batch_rows_by_checksum),
        (verification.verify_keys, verification.batch_rows_by_key),
    ):
        damages += verify([batch for shard in shards for _, batch in batch_rows(shard, 3)])
    return sorted(damages)


def _group(parts: Iterable[Iterable[tuple[Any, Any]]]) -> dict[Any, list[Any]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for part in parts:
        for key, value in part:
            groups[key].append(value)
    return groups


def _mix(items: Iterable[Any], order: random.Random, seed: int | None) -> list[Any]:
    found = list(items)
    if seed is not None:
        order.shuffle(found)
    return found


def _split(items: list[Any], order: random.Random, seed: int | None) -> list[list[Any]]:
    mixed = _mix(items, order, seed)
    num_parts = 1 if seed is None else order.randint(1, 5)
    return [mixed[first::num_parts] for first in range(num_parts)]
