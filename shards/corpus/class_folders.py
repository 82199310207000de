"""What do its folders say of an image? Its split and its one class: `train/n01440764/n01440764_10026.JPEG`.

The layout of ILSVRC2012 and of every corpus that torchvision's `ImageFolder` reads.
"""

from collections.abc import Iterator

from shards import storage
from shards.corpus import description as corpora
from shards.corpus.description import Source
from shards.corpus.records import Fact, ImageFact, ProblemFact, RowFact
from shards.format.classes import ClassSet


def list_class_folders(source: Source, classes: ClassSet) -> Iterator[Fact]:
    """Yield what is known of each image below the folder of a split: that it is there, and its labels, exactly one 1.

    Its class is the first folder on its way, however deep it lies. Its key is the whole path from the split's folder
    on, so that files of one name in two splits or classes stay apart.
    """
    names = list(classes.scored)
    # One tuple a class: whatever pickles a batch of facts writes each of them once.
    labels_of = {name: tuple(int(name == other) for other in names) for name in names}
    for info in storage.list_files(source.url):
        below = info.url.removeprefix(source.url).strip("/")
        folder = below.rpartition("/")[0].partition("/")[0]
        key = corpora.make_key("imagefolder", f"{storage.base_name(source.url)}/{below}")
        class_name = classes.spellings.get(folder.lower())
        if info.size_bytes < 0:
            yield ImageFact(key, info.url, info.size_bytes, source.split)
        elif class_name is None:
            words = f"the class folder {folder!r} is none of the classes" if folder else "it lies in no class folder"
            yield ProblemFact(key, info.url, "unknown_class", words, source.split)
        else:
            yield ImageFact(key, info.url, info.size_bytes, source.split)
            folder_url = storage.join_url(source.url, folder)
            yield RowFact(key, folder_url, 0, source.split, labels_of[class_name], "")
