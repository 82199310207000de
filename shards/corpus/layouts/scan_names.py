"""Find the scans that a table of metadata means: by key, by path, or by file name alone where one scan has it."""

import urllib.parse
from collections.abc import Iterator

from shards import storage
from shards.corpus.description import Corpus, make_key, path_within
from shards.corpus.facts import ImageFact
from shards.corpus.layouts.registry import LAYOUTS
from shards.corpus.tree.survey import ImageIndex
from shards.format.classes import ClassSet
from shards.format.keys import encode_key

_IMAGE_ENDS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class ScanNames:
    """The scans of a corpus, by the names that people write for them."""

    def __init__(self, corpus: Corpus, classes: ClassSet) -> None:
        """List the images of a corpus whose keys have folders; of others the key follows from the name."""
        self._corpus = corpus
        images = list(_list_images(corpus, classes)) if corpus.keeps_folders_in_keys else []
        self._keys = {key for _, key in images}
        self._index = ImageIndex(images)

    def find_key(self, name: str, *, is_key: bool = False) -> str:
        """Return the key of a scan; one that no scan has if the name means none or several.

        Args:
            name: as it is written; folders may be those of another machine.
            is_key: whether a name that can be a key is one, in place of the name of a file that looks like it.
        """
        path = name.strip().replace("\\", "/")
        if is_key and (path in self._keys or encode_key(urllib.parse.unquote(path)) == path):
            return path
        # A stem may have a dot; a name without an extension is one.
        path = path if path.lower().endswith(_IMAGE_ENDS) else f"{path}.jpg"
        found = self._index.find_keys(path)
        if len(found) == 1:
            return found.pop()
        written = name.strip()
        return written if written in self._keys else make_key(path, keeps_folders=self._corpus.keeps_folders_in_keys)


def _list_images(corpus: Corpus, classes: ClassSet) -> Iterator[tuple[str, str]]:
    layout = LAYOUTS[corpus.layout]
    for source in corpus.sources:
        if source.kind == "images" and source.form != "tar":  # a stream is read once, when it is converted
            for fact in layout.list_source(source, corpus, classes, ""):
                if isinstance(fact, ImageFact):
                    path = storage.path_below(path_within(fact.url).removeprefix("zip://"), corpus.url)
                    yield path, fact.key
