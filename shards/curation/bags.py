"""Name the bag of each scan: scans that keys, groups or equal bytes connect are one observation."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc


def connect_keys(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first key of its group for each key that links connect."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, other in links:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return {key: root(key) for key in parent}


def name_bags(samples: pa.Table) -> pa.Array:
    """Return a name of each row's bag, string: equal for scans of one `group` and for scans with the same bytes.

    Both at once: a scan that lies a second time, to the byte, in another group makes one bag of the two.

    Args:
        samples: with `key`, `duplicate_of` and, unless the dataset has format 1, `group`.
    """
    own = pc.coalesce(samples["duplicate_of"], samples["key"]).combine_chunks()
    if "group" not in samples.column_names:
        return own
    # A group may be named like a scan.
    names = pc.coalesce(pc.binary_join_element_wise("bag", samples["group"], " "), own).combine_chunks()
    repeated = own.filter(pc.is_valid(samples["duplicate_of"].combine_chunks())).unique()
    is_linked = pc.is_in(own, value_set=repeated)
    first_of = connect_keys(zip(names.filter(is_linked).to_pylist(), own.filter(is_linked).to_pylist(), strict=True))
    coded = names.dictionary_encode()
    firsts = pa.array([first_of.get(name, name) for name in coded.dictionary.to_pylist()], pa.string())
    return firsts.take(coded.indices)
