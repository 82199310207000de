"""Find the label lists of a corpus and pick those that a subset needs."""

import re
from collections.abc import Iterable, Sequence

from shards import storage
from shards.corpus.archives import list_zip
from shards.corpus.description import LISTS_IN_ORDER, ListFile
from shards.corpus.layouts.folders import SPLITS

_LIST_NAME = re.compile(r"(?:train_test_)?(?P<subset>10|100|1000)(?:-\d+)?")


def find_named_lists(urls: Sequence[str]) -> tuple[ListFile, ...]:
    """Return the lists in the folders, zips and files that the user named."""
    found = tuple(item for url in urls for item in list_files_in(storage.normalise_url(url), with_names=True))
    if not found:
        raise ValueError(
            f"lists must be a folder, zip or file with train.csv or test.csv, got none ({', '.join(urls)})"
        )
    return found


def list_files_in(url: str, *, with_names: bool) -> tuple[ListFile, ...]:
    """Return the lists below a folder, in a zip, or the one file; `with_names`: also VOC's lists without labels."""
    if url.lower().endswith(".zip"):
        pairs: Iterable[tuple[str, str]] = ((url, item.name) for item in list_zip(url))
    elif storage.is_folder(url):
        pairs = ((info.url, "") for info in storage.list_files(url))
    else:
        pairs = [(url, "")] if storage.exists(url) else []
    found = [_as_list(file, member, with_names) for file, member in pairs]
    return tuple(sorted((item for item in found if item is not None), key=_list_order))


def _list_order(item: ListFile) -> tuple[int, str, str]:
    order = [*LISTS_IN_ORDER, ""]
    return order.index(item.subset), item.split, item.uri


def _as_list(url: str, member: str, with_names: bool) -> ListFile | None:
    *folders, name = (member or url).split("/")
    stem, _, end = name.lower().rpartition(".")
    if stem not in SPLITS or end not in ("csv", "tsv", *(["txt"] if with_names else [])):
        return None
    match = _LIST_NAME.fullmatch(folders[-1]) if folders else None
    subset = match["subset"] if match else ""
    return ListFile(url, subset, SPLITS[stem], member, has_labels=end != "txt")


def pick_lists(lists: Sequence[ListFile], subset: str) -> tuple[ListFile, ...]:
    """Return the lists that a subset reads: its own, or those that belong to no subset; `all` reads every one.

    If a list exists in two spellings, `10` and `train_test_10-5`, the plain one is read.
    """
    plain = {item.subset for item in lists if _is_plain(item)}
    wanted = {"all": (*LISTS_IN_ORDER, ""), "positives": ("10", "")}.get(subset, (subset, ""))
    return tuple(item for item in lists if item.subset in wanted and (_is_plain(item) or item.subset not in plain))


def _is_plain(item: ListFile) -> bool:
    return (item.member or item.url).split("/")[-2:-1] == [item.subset]
