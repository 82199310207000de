"""Look through the folders of a corpus for its documents and images, and list pairs of image and annotation."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from shards import storage
from shards.corpus.annotations import as_utf8
from shards.corpus.description import Source, extension_of, is_junk, is_no_image, make_key
from shards.corpus.facts import ARCHIVE, JUNK, AnnotationFact, Fact, ImageFact, RowFact, SkippedFact
from shards.corpus.tree.folders import is_any_archive, list_names
from shards.format.keys import decode_name, stem_of

_ROLE_WORD = re.compile(
    r"(?:^|[_. -])(?:images?|imgs?|jpegimages?|labels?|annotations?|annos?|jsons?|xmls?|txts?|labelme)(?=$|[_. -])",
    re.IGNORECASE,
)
"""In the name of a folder: what its files are, not which scan they are of. `images/train/7.png` belongs to
`labels/train/7.txt`, and `train_images/7.png` to `train_labels/7.txt`."""
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_TEST_NAMES = ("easy", "hard", "hidden")
"""The names of PIDray's three test sets."""

_UNREADABLE = {
    "parts of RAR or 7z archives": (
        re.compile(r".*\.(rar|r\d\d|7z|(7z|zip)\.\d{3}|z\d\d)", re.IGNORECASE),
        "unpack them with `unrar x` or `7z x`, and convert the folder",
    ),
    "DICOM or DICOS files": (
        re.compile(r".*\.(dcm|dicom|dcs|dicos)", re.IGNORECASE),
        "export the pixels as PNG first, for example with `dcm2img` of DCMTK",
    ),
    "videos": (
        re.compile(r".*\.(mp4|avi|mov|mkv|wmv|mpe?g|m4v|webm|flv|ts)", re.IGNORECASE),
        "take single frames as images first, for example with `ffmpeg -i VIDEO frames/%06d.png`",
    ),
    "archives": (
        re.compile(r".*\.(zip|tar|t[bgx]z|tzst|tar\.\w+)", re.IGNORECASE),
        "unpack them where they lie (`unzip`, `tar xf`), so that annotations are found beside their images; one that "
        "holds images alone is read in place by --images",
    ),
}
"""What is no corpus of images, by extension, and what to do about it."""

_MAX_DEPTH = 4
_MAX_FOLDERS = 300
_MAX_IMAGES = 50
_MAX_DOCUMENTS = 2000
_MAX_TRIED = 200
_SNIFF_BYTES = 64 * 1024


def scan_key(path: str) -> str:
    """Return the key of an image or annotation: its path without extension and without folders such as `images`."""
    *folders, name = path.strip("/").split("/")
    kept = [_ROLE_WORD.sub("", folder).strip("_. -") for folder in folders]
    return make_key("/".join(filter(None, [*kept, name])), keeps_folders=True)


def split_of_name(name: str) -> str:
    """Return the split that the name of a file or folder says, such as `instances_val2017`; empty if it says none."""
    words = re.findall("[a-z]+", name.lower())
    found = next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "")
    return found or ("test" if words and words[-1] in _TEST_NAMES else "")


def split_of_path(path: str) -> str:
    """Return the split that a folder of a path says, the first from the left; empty if none does."""
    folders = path.strip("/").split("/")[:-1]
    return next((split for folder in folders if (split := split_of_name(folder))), "")


@dataclass(frozen=True)
class Survey:
    """The files of a corpus, as far as they tell its layout: all documents of a folder, and some images."""

    url: str

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths below the corpus, sorted."""
        found: list[str] = []
        folders = [("", 0)]
        for folder, depth in folders:
            num_images = num_documents = 0
            for name, is_folder in list_names(storage.join_url(self.url, folder) if folder else self.url):
                path = f"{folder}/{name}" if folder else name
                if is_junk(f"{path}/" if is_folder else path):
                    continue
                if is_folder:
                    if depth < _MAX_DEPTH and len(folders) < _MAX_FOLDERS:
                        folders.append((path, depth + 1))
                elif is_no_image(name):
                    num_documents += 1
                    if num_documents <= _MAX_DOCUMENTS:
                        found.append(path)
                else:
                    num_images += 1
                    if num_images <= _MAX_IMAGES:
                        found.append(path)
        return tuple(sorted(found))

    def with_extension(self, *extensions: str) -> tuple[str, ...]:
        """Return the paths that end in one of some extensions."""
        return tuple(path for path in self.paths if extension_of(path) in extensions)

    def sample(self, *extensions: str) -> tuple[str, ...]:
        """Return up to some hundred of the paths that end in one of some extensions, from all of them alike."""
        paths = self.with_extension(*extensions)
        return paths[:: 1 + len(paths) // _MAX_TRIED]

    @property
    def documents(self) -> tuple[str, ...]:
        """Return the paths of what may be annotations or lists."""
        return self.with_extension("json", "xml", "txt", "csv", "tsv", "xlsx", "xls", "yaml", "yml")

    @cached_property
    def has_images(self) -> bool:
        """Whether there are files that may be images."""
        return any(not is_no_image(path) for path in self.paths)

    @property
    def has_images_at_top(self) -> bool:
        """Whether there are files that may be images right in the folder."""
        return any("/" not in path and not is_no_image(path) for path in self.paths)

    def refuse_what_holds_no_images(self) -> None:
        """Raise ValueError if there are no images, but something that they can be made of."""
        for kind, (pattern, remedy) in _UNREADABLE.items():
            is_dicom = kind.startswith("DICOM")
            mine = [path for path in self.paths if pattern.fullmatch(path) or (is_dicom and self._is_dicom(path))]
            others = (path for path in self.paths if not is_no_image(path) and path not in mine)
            if mine and not any(others):
                raise ValueError(f"corpus must hold images, got {kind} such as {mine[0]} ({self.url}); {remedy}")

    def _is_dicom(self, path: str) -> bool:
        """Return whether a file without extension is DICOM: scanners number them."""
        return not extension_of(path) and self.read_start(path)[128:132] == b"DICM"

    def read_start(self, path: str) -> bytes:
        """Return the first 64 kB of a file, in UTF-8 if it is UTF-16."""
        return as_utf8(storage.read_range(self.at(path), 0, _SNIFF_BYTES))

    def at(self, path: str) -> str:
        """Return the URL of a path."""
        return storage.join_url(self.url, path)


def read_lines(url: str) -> list[str]:
    """Return the lines of a text that people wrote, without blanks at their ends, and without empty ones."""
    text = decode_name(as_utf8(storage.read_bytes(url)).removeprefix(codecs.BOM_UTF8))
    return list(filter(None, map(str.strip, text.splitlines())))


def list_image(source: Source, path: str, url: str, size_bytes: int) -> Fact | None:
    """Return the fact of a file below a corpus if it is an image, junk or an archive, else None."""
    if is_junk(path):
        return SkippedFact(scan_key(path), url, JUNK)
    if is_any_archive(storage.base_name(path)):
        return SkippedFact(scan_key(path), url, ARCHIVE)
    if is_no_image(path):
        return None
    return ImageFact(scan_key(path), url, size_bytes, source.split or split_of_path(path))


def list_pairs(
    source: Source,
    extension: str,
    *,
    is_annotation: Callable[[str], bool] = lambda _path: True,
    key_of_lone: Callable[[str, str], str] = lambda _url, path: scan_key(path),
) -> Iterator[Fact]:
    """Yield facts of the images below a corpus, and of the annotations beside them or in folders beside theirs.

    Args:
        source: the folder of the corpus.
        extension: of the annotations.
        is_annotation: whether a file without an image is an annotation all the same, given its path.
        key_of_lone: the key of an annotation whose name is no image's, given its URL and path.
    """
    keys: set[str] = set()
    annotations: list[tuple[str, str]] = []
    for info in storage.list_files(source.url):
        path = storage.path_below(info.url, source.url)
        fact = list_image(source, path, info.url, info.size_bytes)
        if isinstance(fact, ImageFact):
            keys.add(fact.key)
        if fact is not None:
            yield fact
        elif extension_of(path) == extension:
            annotations.append((info.url, path))
    for url, path in annotations:
        key = scan_key(path)
        if key in keys:
            yield AnnotationFact(key, url)
        elif is_annotation(path):
            yield AnnotationFact(key_of_lone(url, path), url)


class ImageIndex:
    """The images below a corpus, to be found by names that other people wrote."""

    def __init__(self, images: Iterable[tuple[str, str]]) -> None:
        """Take the path of each image below the corpus, and its key."""
        self._images: dict[str, list[tuple[str, str]]] = {}
        for path, key in images:
            self._images.setdefault(stem_of(path).lower(), []).append((path, key))

    @classmethod
    def below(cls, url: str) -> "ImageIndex":
        """Return the images below a folder, with the keys of `scan_key`."""
        paths = (storage.path_below(info.url, url) for info in storage.list_files(url))
        return cls((path, scan_key(path)) for path in paths if not is_junk(path) and not is_no_image(path))

    def list_row(self, name: str, source: Source, list_rank: int) -> RowFact:
        """Return the row of a list of names; it is a bad one if the name may be of several images."""
        keys = self.find_keys(name, source.split)
        problem = f"{name!r} may be any of {', '.join(sorted(keys)[:3])}" if len(keys) > 1 else ""
        return RowFact(min(keys, default=scan_key(name)), source.url, list_rank, source.split, (), problem)

    def find_keys(self, name: str, split: str = "", folder: str | None = None) -> set[str]:
        """Return the keys of the images that a name means: none, one, or several that it fits equally well.

        Folders in the name and the extension may differ from the file's.

        Args:
            name: path or file name.
            split: of the list or file that names it, to choose between files of one name.
            folder: of that file.
        """
        name = name.replace("\\", "/")
        found = self._images.get(stem_of(name).lower(), [])
        if len(found) < 2:
            return {key for _, key in found}
        folders = name.strip("/").split("/")[:-1][::-1]

        def score(path: str) -> tuple[bool, int, bool, bool]:
            own = path.split("/")[:-1][::-1]
            same = next((at for at, pair in enumerate(zip(own, folders, strict=False)) if pair[0] != pair[1]), None)
            num_same = min(len(own), len(folders)) if same is None else same
            is_same = path == name.strip("/")
            return is_same, num_same, split_of_path(path) == split, path.rpartition("/")[0] == folder

        scores = {image: score(image[0]) for image in found}
        best = max(scores.values())
        return {key for path, key in found if scores[path, key] == best}
