"""Describe the layout of PASCAL VOC: the folders of the SIXray release, with lists of names alone."""

from functools import partial

from shards.corpus.layouts.layout import Layout
from shards.corpus.layouts.sixray import IMAGE_FOLDERS, find_release

VOC = Layout(
    name="voc",
    expected=f"a folder {' or '.join(IMAGE_FOLDERS)}",
    find=partial(find_release, with_names=True),
    needs_classes=True,
    boxes_are_exhaustive=True,
)
