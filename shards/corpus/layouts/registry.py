"""Find the parts of a corpus, in the layout that is named or detected."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from shards import storage
from shards.corpus.boxes import AnnotationError, SeenClasses
from shards.corpus.description import Corpus, ListFile, extension_of, is_junk
from shards.corpus.facts import AnnotationFact
from shards.corpus.layouts.coco import COCO
from shards.corpus.layouts.dvxray import DVXRAY
from shards.corpus.layouts.imagefolder import IMAGEFOLDER
from shards.corpus.layouts.images import IMAGES
from shards.corpus.layouts.labelme import LABELME
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.layouts.opixray import OPIXRAY
from shards.corpus.layouts.sixray import ANNOTATION_FOLDERS, LIST_FOLDERS, SIXRAY
from shards.corpus.layouts.voc import VOC
from shards.corpus.layouts.yolo import YOLO
from shards.corpus.read_annotations import read_text
from shards.corpus.tree.folders import RootFolder, explain_archive, is_archive, pick_lists, read_root
from shards.corpus.tree.survey import Survey
from shards.format.classes import ClassSet, load_class_set, make_class_set

AUTO = "auto"
"""The classes that annotations name."""
LAYOUTS = {layout.name: layout for layout in (SIXRAY, OPIXRAY, VOC, COCO, YOLO, LABELME, DVXRAY, IMAGEFOLDER, IMAGES)}
LAYOUT_CHOICES = ("auto", *LAYOUTS)
# `auto` tries the others before these, from the last to the first: they need not look through all folders.
_BY_CONTENT = (DVXRAY, COCO, LABELME, VOC, YOLO)
_READ_THREADS = 8
_MAX_NESTING = 6
"""Folders within each other, with nothing else in them, around a release."""


def find_corpus(
    url: str, layout: str, subset: str, parts: Parts | None = None, class_names: Sequence[str] = ()
) -> Corpus:
    """Find the parts of a corpus; `why` describes what was found.

    Args:
        url: folder of the corpus.
        layout: its name, or `auto`.
        subset: the scans to take.
        parts: what the user names.
        class_names: of the user; `auto` reads them from the annotations, and so do layouts without their own.

    Raises:
        ValueError: the folder is missing, or a part that the layout or subset needs is.
    """
    root_url = storage.normalise_url(url)
    if not storage.is_folder(root_url):
        is_packed = is_archive(storage.base_name(root_url)) and storage.exists(root_url)
        remedy = "; unpack the archive and convert its folder" if is_packed else ""
        raise ValueError(f"corpus must be a folder, got none there ({root_url}){remedy}")
    parts = parts or Parts()
    root = read_root(root_url)
    if parts == Parts(zip_encoding=parts.zip_encoding):
        root = _enter(root, [LAYOUTS[layout]] if layout != "auto" else _told_by_names())
    candidates = (
        _find_candidates(root, parts) if layout == "auto" else [(LAYOUTS[layout], LAYOUTS[layout].find(root, parts))]
    )
    for at, (chosen, contents) in enumerate(candidates):
        if layout == "auto" and not (contents.annotations and contents.lists):
            _refuse_packed_labels(root, contents)
        if not chosen.takes_parts and (named := (*parts.images, *parts.annotations, *parts.lists)):
            raise ValueError(
                f"parts of a {chosen.name} corpus must lie below --input, got {', '.join(named)} by name ({root.url}); "
                f"move them there, or say by --layout how else to read the corpus"
            )
        corpus = _make_corpus(root, chosen, contents, subset, parts.zip_encoding)
        needs_names = chosen.has_any_classes and not class_names and not corpus.class_names
        if needs_names or tuple(class_names) == (AUTO,):
            with_names, problem = _read_classes(corpus, chosen)
            if with_names is None and at + 1 < len(candidates):
                if problem and candidates[at + 1][0] is IMAGES:
                    raise ValueError(f"annotations must be readable, got none that is and has an object: {problem}")
                continue  # files without a single object do not make this layout
            corpus = with_names or corpus
        break
    others = [item.name for item, _ in candidates[at + 1 :] if item is not IMAGES]
    hint = f"; it could also be read as {others[0]}: --layout {others[0]}" if others else ""
    where = f"in {storage.path_below(root.url, root_url)}: " if root.url != root_url else ""
    return replace(corpus, why=where + corpus.why + hint)


def _make_corpus(root: RootFolder, layout: Layout, contents: Contents, subset: str, zip_encoding: str) -> Corpus:
    lists = pick_lists(contents.lists, subset)
    _check(root, layout, contents, lists, subset)
    builds_subset = subset != "all" and not lists
    if builds_subset:
        lists = pick_lists(contents.lists, "all")  # for their labels
    why = _describe(root.url, layout, contents, lists) + _describe_unread(root, contents)
    if builds_subset:
        why += f"; no list says who is in subset {subset}, so it is built by Section 3.1 of the paper"
    return Corpus(
        layout.name,
        root.url,
        tuple(replace(source, zip_encoding=zip_encoding) for source in (*contents.images, *contents.annotations)),
        lists,
        builds_subset,
        why,
        contents.class_names,
        layout.keeps_folders_in_keys or contents.keeps_folders_in_keys,
        contents.class_numbers,
    )


def choose_classes(corpus: Corpus, class_names: Sequence[str], spellings: Mapping[str, str]) -> ClassSet:
    """Return the classes that the user names, else those found in the corpus, else those of its layout."""
    names = () if tuple(class_names) == (AUTO,) else class_names
    if corpus.layout == YOLO.name and names:
        numbers = {f"class_{number}": name for number, name in enumerate(names)}
        return make_class_set(names, numbers | dict(spellings))
    if corpus.class_names:
        own = _make_found(corpus)
    else:
        class_set = LAYOUTS[corpus.layout].class_set
        own = load_class_set(class_set) if class_set else ClassSet(())
    if not own.all and not names:
        raise ValueError(f"annotations must name a class, got none ({corpus.url}); name the classes by --classes")
    return make_class_set(names, spellings, own)


def _make_found(corpus: Corpus) -> ClassSet:
    """Return the classes that a corpus names, each as a name that a column may have."""
    spellings: dict[str, list[str]] = {}
    by_lower: dict[str, str] = {}
    column_of: dict[str, str] = {}
    for name in corpus.class_names:
        column = re.sub(r"[^\w-]+", "_", name).strip("_") or "class"
        column_of[name] = by_lower.setdefault(column.lower(), column)
        spellings.setdefault(column_of[name], []).append(name)
    for number, name in corpus.class_numbers:
        spellings[column_of[name]].append(number)
    return ClassSet(tuple(spellings), (), {name: tuple(texts) for name, texts in spellings.items()})


def _read_classes(corpus: Corpus, layout: Layout) -> tuple[Corpus | None, str]:
    """Return the corpus with the classes of its annotations, and why the first unreadable annotation cannot be read.

    The corpus is as it was if most objects are of the layout's own classes, and None if there are no objects.
    """
    counts, problem = _count_classes(corpus, layout)
    own = load_class_set(layout.class_set).spellings if layout.class_set else {}
    num_own = sum(num for name, num in counts.items() if name.lower() in own)
    if own and 2 * num_own >= counts.total() and layout.has_any_classes:
        return corpus, problem
    names = tuple(sorted(counts, key=_natural_order))
    text = ", ".join(names[:20]) + ", …" * (len(names) > 20)
    found = replace(corpus, class_names=names, why=f"{corpus.why}; classes read from the annotations: {text}")
    return (found if names else None), problem


def _count_classes(corpus: Corpus, layout: Layout) -> tuple[Counter[str], str]:
    def count(fact: AnnotationFact) -> tuple[Counter[str], str]:
        seen = SeenClasses()
        try:
            layout.parse_annotation(read_text(fact.url, fact.place, layout.max_annotation_bytes), seen)
        except AnnotationError as error:
            return seen.counts, f"{error} ({fact.url})"
        return seen.counts, ""

    sources = [source for source in corpus.sources if source.form not in ("tar", "list")]
    listed = (fact for source in sources for fact in layout.list_source(source, corpus, ClassSet(()), ""))
    total, first_problem = Counter[str](), ""
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="read-classes") as pool:
        for counts, problem in pool.map(count, (fact for fact in listed if isinstance(fact, AnnotationFact))):
            total += counts
            first_problem = first_problem or problem
    return total, first_problem


def _natural_order(name: str) -> list[tuple[int, str]]:
    return [(int(text), "") if text.isdigit() else (-1, text) for text in re.split(r"(\d+)", name) if text]


def _enter(root: RootFolder, layouts: Sequence[Layout]) -> RootFolder:
    """Return the folder that holds a release if there is nothing around it but folders, as some archives have them."""
    inner = root
    for _ in range(_MAX_NESTING + 1):
        survey = Survey(inner.url)
        if any(_has_labels(*found) for found in _detect(layouts, inner, Parts(), survey)):
            return inner
        if len(inner.folders) != 1 or survey.has_images_at_top:
            break  # an archive beside the folder is what it was unpacked from
        inner = read_root(inner.at(inner.folders[0]))
    return root


def _has_labels(layout: Layout, found: Contents) -> bool:
    return layout is not SIXRAY or bool(found.annotations or found.lists)


def _told_by_names() -> list[Layout]:
    return [layout for layout in reversed(LAYOUTS.values()) if layout not in _BY_CONTENT]


def _find_candidates(root: RootFolder, parts: Parts) -> list[tuple[Layout, Contents]]:
    """Return the layouts that a corpus may have, the likeliest first; plain images are always possible."""
    survey = Survey(root.url)
    first = next(_detect(_told_by_names(), root, parts, survey), None)
    if first is not None and _has_labels(*first):
        return [first]
    found = [*_detect(_BY_CONTENT, root, parts, survey), *([first] if first else [])]
    if not found and not (root.unreadable_archives and not root.has_other_files):  # `_check` explains those
        survey.refuse_what_holds_no_images()
    plain = IMAGES.find(root, parts)
    if names := survey.documents:
        more = ", …" if len(names) > 3 else ""
        plain = replace(plain, remark=f"{plain.remark}; not understood: {', '.join(names[:3])}{more}")
    return [*found, (IMAGES, plain)]


def _detect(
    layouts: Iterable[Layout], root: RootFolder, parts: Parts, survey: Survey
) -> Iterator[tuple[Layout, Contents]]:
    for layout in layouts:
        contents = layout.detect(root, parts, survey)
        if contents is not None:
            yield layout, contents


def _check(root: RootFolder, layout: Layout, contents: Contents, lists: Sequence[ListFile], subset: str) -> None:
    if root.unreadable_archives and _lies_beside_nothing(root, contents):
        url = root.at(root.unreadable_archives[0])
        raise ValueError(f"images must be files, or in a zip or tar, got none but {url}; {explain_archive(url)}")
    if not contents.images:
        remedy = "name it by --images" if layout.takes_parts else "its parts must lie below --input, unpacked"
        raise ValueError(f"{layout.name} corpus must have {layout.expected}, got none ({root.url}); {remedy}")
    if subset == "all":
        return
    if not layout.has_lists:
        raise ValueError(f"subset must be 'all' for a corpus without lists, got {subset!r} ({root.url})")
    if lists and not {"train", "test"} <= {item.split for item in lists}:
        names = ", ".join(sorted(item.uri for item in lists))
        raise ValueError(f"subset {subset!r} must have lists of train and test, got {names} alone ({root.url})")


def _refuse_packed_labels(root: RootFolder, contents: Contents) -> None:
    """Raise ValueError if annotations or lists, by their name, are in an archive that cannot be read in place."""
    wanted = [*([] if contents.annotations else ANNOTATION_FOLDERS), *([] if contents.lists else LIST_FOLDERS)]
    for name in (*root.archives, *root.unreadable_archives):
        if name.partition(".")[0].lower() in {one.lower() for one in wanted} and not name.lower().endswith(".zip"):
            raise ValueError(
                f"annotations and lists must be in folders or zips, got {root.at(name)}; unpack it where it lies, or "
                f"take the images without it by --layout images"
            )


def _lies_beside_nothing(root: RootFolder, contents: Contents) -> bool:
    """Return whether there are no images but what may be within the archives at the root."""
    if contents.images and any(source.url != root.url for source in contents.images):
        return False
    return not root.has_other_files and not set(root.folders) - set(root.named(*ANNOTATION_FOLDERS, *LIST_FOLDERS))


def _describe_unread(root: RootFolder, contents: Contents) -> str:
    """Return which archives at the root are no part of the corpus; empty if none."""
    read = {url for source in (*contents.images, *contents.annotations) for url in source.parts or (source.url,)}
    read |= {item.url for item in contents.lists}
    names = [name for name in (*root.archives, *root.unreadable_archives) if root.at(name) not in read]
    more = ", …" if len(names) > 3 else ""
    text = f"; not read: {', '.join(names[:3])}{more}: unpack what belongs to the corpus" if names else ""
    if others := [storage.path_below(url, root.url) for url in _other_lists(root) if url not in read]:
        more = ", …" if len(others) > 3 else ""
        text += f"; not read: {', '.join(others[:3])}{more}: lists are called train.csv, val.csv or test.csv"
    return text


def _other_lists(root: RootFolder) -> Iterator[str]:
    for name in set(root.named(*LIST_FOLDERS)) - set(root.archives):
        for info in storage.list_files(root.at(name)):
            if extension_of(info.url) in ("csv", "tsv", "xlsx", "xls") and not is_junk(info.url):
                yield info.url


def _describe(root_url: str, layout: Layout, contents: Contents, lists: Sequence[ListFile]) -> str:
    def names(items: Iterable[str]) -> str:
        short = [storage.path_below(item, root_url) or "the folder itself" for item in items]
        return f"{short[0]} to {short[-1]} ({len(short)})" if len(short) > 6 else ", ".join(short) or "none"

    images = names(url for source in contents.images for url in source.parts or (source.url,))
    text = f"layout {layout.name}: images in {images}"
    if contents.remark:
        return f"{text}; {contents.remark}"
    annotations = names(source.url for source in contents.annotations)
    return f"{text}; annotations in {annotations}; lists {names(item.member or item.url for item in lists)}"
