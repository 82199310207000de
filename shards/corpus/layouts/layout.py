"""Describe a layout: how its corpora are recognized, listed and read."""

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from shards.corpus import facts
from shards.corpus.annotations import MAX_ANNOTATION_BYTES, parse_annotation
from shards.corpus.boxes import Annotation
from shards.corpus.description import Corpus, ListFile, Source
from shards.corpus.facts import Fact
from shards.corpus.policy import Policy
from shards.corpus.tree.folders import RootFolder
from shards.corpus.tree.survey import Survey
from shards.format.classes import ClassSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a corpus that the user names; empty if they are to be found."""

    images: tuple[str, ...] = ()
    """Folder or archive of images; if given, none is looked for; repeatable."""
    annotations: tuple[str, ...] = ()
    """Folder or zip of annotations; if given, none is looked for; repeatable."""
    lists: tuple[str, ...] = ()
    """Folder, zip or file of lists; if given, none is looked for; repeatable."""
    zip_encoding: str = ""
    """Encoding of the names in a zip that are not marked as UTF-8, such as gbk or cp932; else it is guessed."""

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.zip_encoding or "utf-8")
        except LookupError as error:
            raise ValueError(f"zip_encoding must name an encoding such as gbk, got {self.zip_encoding!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was found in the folder of a corpus."""

    images: tuple[Source, ...]
    annotations: tuple[Source, ...] = ()
    lists: tuple[ListFile, ...] = ()
    class_names: tuple[str, ...] = ()
    class_numbers: tuple[tuple[str, str], ...] = ()
    keeps_folders_in_keys: bool = False
    remark: str = ""
    """Said instead of annotations and lists if the layout has none."""


def list_files(source: Source, corpus: Corpus, _classes: ClassSet, drafts_url: str) -> Iterator[Fact]:
    """Yield a fact for each file of a source, whatever the classes are."""
    return facts.list_source(source, corpus, drafts_url)


def list_rows(item: ListFile, classes: ClassSet) -> Iterator[Fact]:
    """Yield a fact for each line of a list with the columns `name` and one a class, or of names alone."""
    return facts.list_rows(item, classes.scored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One layout. `--layout` takes its name; `shards.corpus.layouts.registry` lists all."""

    name: str
    expected: str
    """What such a corpus must have, for the message if there are no images."""
    find: Callable[[RootFolder, Parts], Contents]
    """Find the parts of a corpus that has this layout."""
    detect: Callable[[RootFolder, Parts, Survey], Contents | None] = lambda _root, _parts, _survey: None
    """The same if the corpus clearly has this layout, else None. Without it `auto` never chooses the layout."""
    list_source: Callable[[Source, Corpus, ClassSet, str], Iterator[Fact]] = list_files
    """Yield a fact for each file of a source; the last argument is where to unpack streams."""
    list_rows: Callable[[ListFile, ClassSet], Iterator[Fact]] = list_rows
    """Yield a fact for each line of a list; give it for lists of another format."""
    parse_annotation: Callable[[bytes, Mapping[str, str]], Annotation] = parse_annotation
    class_set: str = "sixray"
    """Name of its classes in `shards.format.classes`; empty if it has none of its own."""
    max_annotation_bytes: int = MAX_ANNOTATION_BYTES
    has_any_classes: bool = False
    """Annotations may name any classes. Unless the user names them, or most are those of `class_set`, they are read."""
    boxes_are_exhaustive: bool = False
    """Every item has a box, so a class without one is absent."""
    has_lists: bool = True
    """Without lists there are no subsets either."""
    takes_parts: bool = True
    """Images, annotations and lists may be elsewhere, where the user says."""
    keeps_folders_in_keys: bool = False
    """Files of one name in two folders are two scans."""

    def list_facts(self, part: Source | ListFile, corpus: Corpus, classes: ClassSet, drafts_url: str) -> Iterator[Fact]:
        """Yield the facts of one part of a corpus; streams are unpacked below `drafts_url`."""
        if isinstance(part, ListFile):
            return self.list_rows(part, classes)
        return self.list_source(part, corpus, classes, drafts_url)

    def adapt_policy(self, policy: Policy) -> Policy:
        """Return the policy for a corpus of this layout."""
        return replace(policy, boxes_are_exhaustive=True) if self.boxes_are_exhaustive else policy
