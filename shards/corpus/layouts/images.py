"""Describe a folder of images without any labels: the layout of every corpus that has no other."""

from shards.corpus.description import Source
from shards.corpus.layouts.layout import Contents, Layout, Parts
from shards.corpus.tree.folders import RootFolder, source_at


def _find(root: RootFolder, parts: Parts) -> Contents:
    named = tuple(source_at("images", url) for url in parts.images)
    return Contents(
        images=named or (Source("images", root.url),),
        remark="neither annotations nor lists are beside them, so labels stay unknown",
    )


IMAGES = Layout(name="images", expected="a folder of images", find=_find, has_lists=False, keeps_folders_in_keys=True)
