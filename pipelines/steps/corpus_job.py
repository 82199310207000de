"""Find what the corpus of a conversion holds, and say how a dataset is made of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from pipelines.runtime import log, process_pool, progress
from pipelines.runtime.flags import NAMES, PAIRS, Flag
from pipelines.steps.dataset_plan import DEFAULT_SHARD_BYTES, DatasetPlan
from shards import storage
from shards.corpus import description as corpora
from shards.corpus.description import Corpus, ListFile, Source
from shards.corpus.facts import Fact, ImageFact
from shards.corpus.layouts.layout import Parts
from shards.corpus.layouts.registry import LAYOUT_CHOICES, LAYOUTS, choose_classes, find_corpus
from shards.corpus.layouts.scan_names import ScanNames
from shards.corpus.metadata import MetadataFile, join_fields, list_metadata, open_list_metadata, open_metadata
from shards.corpus.policy import Policy
from shards.curation import near_duplicates
from shards.curation.neighbours import NEIGHBOURS
from shards.format.classes import ClassSet
from shards.format.json_document import DamagedDocumentError
from shards.format.keys import escape_control_characters
from shards.format.manifest import MANIFEST_NAME, DatasetManifest
from shards.writing import sharding
from shards.writing.corpus_source import ScanSource
from shards.writing.output_folder import check_output

_IMAGES_A_REPORT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertConfig:
    """What to convert and how."""

    input: str
    """Folder of the corpus: a path or an fsspec URL."""
    output: str
    """Folder of the dataset; an unfinished one is resumed."""
    layout: Annotated[str, Flag(choices=LAYOUT_CHOICES)] = "auto"
    """Layout of the corpus; auto detects it and says what it found."""
    parts: Parts = field(default_factory=Parts)
    subset: Annotated[str, Flag(choices=corpora.SUBSETS)] = "all"
    """Scans to take: by the corpus' lists if it has them, else as the paper defines the subset."""
    seed: int = 0
    """Seed of the choice if a subset must be built."""
    split_policy: Literal["keep", "group"] = "keep"
    """group: equal scans, and those of one group, go to one split together, whatever the lists say."""
    near_duplicates: bool = False
    """Take scans that look the same, by a perceptual hash, as equal too; every image is decoded once more for it."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes instead of the layout's own: A,B,C; all are scored. auto: those that the annotations name."""
    class_map: Annotated[Mapping[str, str], PAIRS] = field(default_factory=dict)
    """More spellings of classes: caidao=Knife,pilers=Pliers."""
    policy: Annotated[Policy, Flag(without=["boxes_are_exhaustive"])] = field(default_factory=Policy)
    metadata: str = ""
    """Table of further columns, CSV or Parquet: a row a scan, which a column key, name or path names."""
    group_by: Annotated[str, Flag(metavar="COLUMN")] = ""
    """Column of the metadata or of a list, equal for scans of one bag: their `group`, which goes to one split with
    --split-policy group. neighbours: scans whose numbers are near and that look alike; decodes every image for it."""
    overwrite: bool = False
    """Replace the output if it is the dataset of another corpus or of other options; else that is refused."""
    shard_bytes: int = DEFAULT_SHARD_BYTES
    """Image bytes in a shard on average; a shard is the unit of shuffling, of scoring and of retry."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUT_CHOICES:
            raise ValueError(f"layout must be one of {LAYOUT_CHOICES}, got {self.layout!r}")
        if self.subset not in corpora.SUBSETS:
            raise ValueError(f"subset must be one of {corpora.SUBSETS}, got {self.subset!r}")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was found in the corpus of a config."""

    corpus: Corpus
    classes: ClassSet
    metadata: tuple[MetadataFile, ...] = ()
    """The table that the user names, if any, and the further columns of lists."""
    metadata_fields: Mapping[str, str] = field(default_factory=dict)
    """The columns of all these tables and their types."""

    @property
    def sources(self) -> list[Source | ListFile | MetadataFile]:
        """All that facts are listed from."""
        return [*self.corpus.sources, *self.corpus.lists, *self.metadata]

    @property
    def num_metadata_rows(self) -> int:
        """Rows of the table of metadata, if there is one."""
        return sum(file.num_rows for file in self.metadata)


def find_job(config: ConvertConfig) -> Job:
    """Return what is in the corpus of a config, and say it."""
    storage.check_url(config.input)
    check_is_no_dataset(config.input)
    corpus = find_corpus(config.input, config.layout, config.subset, config.parts, config.classes)
    classes = choose_classes(corpus, config.classes, config.class_map)
    if config.near_duplicates:
        near_duplicates.check_library()
    log.status(f"convert: {escape_control_characters(corpus.why)}")
    group_column = "" if config.group_by == NEIGHBOURS else config.group_by
    tables = (
        *([open_metadata(config.metadata, group_column)] if config.metadata else []),
        *open_list_metadata(corpus.lists, classes.scored, group_column),
    )
    fields = join_fields(tables, group_column)
    if config.group_by == NEIGHBOURS and NEIGHBOURS in fields:
        raise ValueError(f"group_by must be clear, got {NEIGHBOURS!r}, which is a column too: rename the column")
    for table in tables:
        if table.item and table.fields:
            names = escape_control_characters(", ".join(table.fields))
            log.status(f"convert: columns of {table.url} that are no classes are kept as metadata: {names}")
    return Job(corpus=corpus, classes=classes, metadata=tables, metadata_fields=fields)


def last_change_of(corpus: Corpus, config: ConvertConfig) -> float | None:
    """Return when a file of a corpus or its metadata was last changed, added or removed; None for a store."""
    urls = {url for source in corpus.sources for url in source.parts or (source.url,)}
    found = [storage.last_change(url) for url in {*urls, *(item.url for item in corpus.lists)}]
    found += [storage.last_change(config.metadata)] if config.metadata else []
    return None if None in found else max(when for when in found if when is not None)


def check_is_no_dataset(url: str) -> None:
    """Raise ValueError if the input is a dataset: its tars would be taken for scans."""
    if storage.exists(manifest_url := storage.join_url(url, MANIFEST_NAME)):
        try:
            DatasetManifest.from_json(storage.read_bytes(manifest_url), manifest_url)
        except DamagedDocumentError:
            return
        raise ValueError(f"input must be a corpus, got a dataset ({url}); use `sixray reshard` to make others of it")


def check_places(corpus: Corpus, output: str) -> None:
    """Raise ValueError if the output holds something else, or lies in a folder that the corpus is listed from.

    The next run would list its own shards as scans.
    """
    root = f"{storage.normalise_url(output)}/"
    for source in corpus.sources:
        if source.form == "folder" and root.startswith(f"{storage.normalise_url(source.url)}/"):
            raise ValueError(f"output must be a folder apart from the scans, got {output} within {source.url}")
    check_output(output)


def adapt_policy(corpus: Corpus, config: ConvertConfig) -> Policy:
    """Return the policy of the config for this corpus."""
    policy = LAYOUTS[corpus.layout].adapt_policy(config.policy)
    return replace(policy, boxes_are_exhaustive=True) if corpus.builds_subset else policy


def plan_dataset(job: Job, config: ConvertConfig) -> DatasetPlan:
    """Return what a conversion writes where."""
    return DatasetPlan(
        label="convert",
        output=storage.normalise_url(config.output),
        source=ScanSource(job.classes, adapt_policy(job.corpus, config), job.metadata_fields),
        shard_bytes=config.shard_bytes,
        options_record=_record_options(job.corpus, config),
    )


def _record_options(corpus: Corpus, config: ConvertConfig) -> dict[str, Any]:
    """Return what the manifest says of how the dataset was made."""
    return {
        "input": storage.as_uri(config.input),
        "layout": corpus.layout,
        "found": escape_control_characters(corpus.why),
        "subset": config.subset,
        "subset_from": "nothing" if config.subset == "all" else "paper" if corpus.builds_subset else "lists",
        "seed": config.seed,
        "split_policy": config.split_policy,
        "near_duplicates": config.near_duplicates,
        "shard_bytes": config.shard_bytes,
        "classes": list(config.classes),
        "class_map": dict(config.class_map),
        **({"metadata": storage.as_uri(config.metadata)} if config.metadata else {}),
        **({"group_by": config.group_by} if config.group_by else {}),
        **asdict(LAYOUTS[corpus.layout].adapt_policy(config.policy)),
    }


def list_facts(source: Source | ListFile | MetadataFile, job: Job, drafts_url: str) -> Iterator[tuple[int, bytes]]:
    """Yield the facts of one source in batches: images, annotations, a list, or metadata."""
    facts: Iterable[Fact]
    if isinstance(source, MetadataFile):
        names = ScanNames(job.corpus, job.classes)
        facts = list_metadata(source, job.metadata_fields, lambda name, is_key: names.find_key(name, is_key=is_key))
    else:
        facts = LAYOUTS[job.corpus.layout].list_facts(source, job.corpus, job.classes, drafts_url)
    return sharding.batch_facts(_report_images(facts))


def _report_images(facts: Iterable[Fact]) -> Iterator[Fact]:
    progress.begin("convert", "listing")
    num_images = num_bytes = 0
    for fact in facts:
        if isinstance(fact, ImageFact):
            num_images += 1
            num_bytes += fact.size_bytes
        if num_images == _IMAGES_A_REPORT:
            process_pool.set_job_size(num_images)
            progress.advance("convert", num_images, num_bytes)
            num_images = num_bytes = 0
        yield fact
    progress.advance("convert", num_images, num_bytes)
