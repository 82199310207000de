"""Name the parts of a corpus, tell its images from other files, and make their keys."""

import re
from dataclasses import dataclass, field
from typing import Literal

from shards import storage
from shards.format.keys import encode_key, stem_of

SUBSETS = ("all", "positives", "10", "100", "1000")
LISTS_IN_ORDER = ("10", "100", "1000")
"""The order in which the release's lists decide on the split and labels of a scan with `--subset all`.

SIXray10's positives and negatives are all in SIXray100; SIXray1000 draws its own positives."""

Presence = Literal["", "positive", "negative"]
_IMAGE_NAMES = "jpe?g|jpe|jfif|png"
# Hidden files, unless they may be images; what Office, editors and Windows' downloads leave beside a file; notes.
_JUNK_FILES = (
    rf"\._[^/]*|\.(?!(?:[^/]*\.)?(?:{_IMAGE_NAMES})$)[^/]*|(?:eh)?Thumbs\.db|desktop\.ini|Icon\r|~\$[^/]*|[^/]+~|"
    r"[^/]+:Zone\.Identifier|(?:readme|licen[cs]e|copying|citation|changelog|(?:md5|sha\d*)sums?)"
    r"(?:\.(?:md|txt|rst|html?|pdf|docx?))?"
)
_JUNK_FOLDERS = (
    r"__MACOSX|@eaDir|@Recycle|#recycle|\$RECYCLE\.BIN|System Volume Information|\.ipynb_checkpoints|\.git|\.Trashes|"
    r"\.Trash-\d+|\.Spotlight-V100|\.fseventsd|\.AppleDouble|\.thumbnails|lost\+found|__pycache__"
)
_JUNK = re.compile(rf"(?:^|/)(?:(?:{_JUNK_FILES})$|(?:{_JUNK_FOLDERS})/)", re.IGNORECASE)
_IMAGES = re.compile(_IMAGE_NAMES)
UNKNOWN_EXTENSION = 1
"""The `image_rank` of a name whose extension is not known, or that has none: it may be another scan."""
_OTHER_IMAGES = re.compile(
    "bmp|dib|gif|tiff?|webp|hei[cf]|avif|j[px][2l]|p[bgnp]m|svg|psd|dcm|dicom|dcs|dicos|raw|dng|nii|nrrd"
)
_NO_IMAGES = re.compile(
    "jsonl?|[ct]sv|txt|xml|ya?ml|md|rst|html?|pdf|log|ini|cfg|toml|names|data|cache|np[yz]|mat|pkl|parquet|xlsx?|docx?|db|py|"
    "sh|ipynb|zip|tar|t?gz|7z|rar|md5|sha1|sha256|lock|bak|tmp"
)


@dataclass(frozen=True, slots=True)
class ListFile:
    """One list: the names of a split's scans, with or without their labels."""

    url: str
    """The file, or the zip that holds it."""
    subset: str
    """10, 100 or 1000; empty for a list that belongs to none of the three."""
    split: str
    member: str = ""
    """Its name within the zip; empty for a file."""
    has_labels: bool = True
    """False for a VOC list, whose lines are names."""

    @property
    def uri(self) -> str:
        """Its name in messages and rows."""
        return f"zip://{self.member}::{storage.as_uri(self.url)}" if self.member else self.url


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or archive of images or of annotations."""

    kind: Literal["images", "annotations"]
    url: str
    """A folder, a zip, or the first file of a tar."""
    form: Literal["folder", "files", "zip", "tar", "document", "list"] = "folder"
    """`files`: only those right in the folder; `folder`: with everything below it; `document`: a file that annotates
    many images; `list`: a file that names images, or a folder that holds them, of a split."""
    parts: tuple[str, ...] = ()
    """All files of a tar that was split, in order."""
    split: str = ""
    """Of its scans, if no list says otherwise."""
    presence: Presence = ""
    """Of prohibited items in its scans, if no list says otherwise."""
    zip_encoding: str = ""
    """Of names that the zip does not mark as UTF-8; empty: guessed."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The parts of a corpus."""

    layout: str
    url: str
    sources: tuple[Source, ...]
    lists: tuple[ListFile, ...] = ()
    builds_subset: bool = False
    """No list names the scans of the requested subset: see `shards.curation.subsets`."""
    why: str = field(default="", compare=False)
    """What was found, for people."""
    class_names: tuple[str, ...] = ()
    """The classes that folders, documents or annotations name, in order; empty if the layout has classes of its own."""
    keeps_folders_in_keys: bool = False
    class_numbers: tuple[tuple[str, str], ...] = ()
    """Number as annotations write it and class name; empty if they write names."""


def make_key(path: str, *, keeps_folders: bool) -> str:
    """Return the key of an image: letters, digits and `_-~()+,=@%` alone.

    Every other character is percent-encoded (`.` is `%2E`): webdataset ends a key at the first dot, and
    fields of DALI's index end at spaces. A backslash separates folders: archives of Windows programs have them.

    Args:
        path: of the file below its source.
        keeps_folders: whether the key is the whole path, so that files of one name in two folders stay apart, or the
            file's stem.
    """
    folder, _, name = path.replace("\\", "/").strip("/").rpartition("/")
    return encode_key(f"{folder}/{stem_of(name)}" if folder and keeps_folders else stem_of(name))


def path_within(url: str) -> str:
    """Return the path of a file within its archive, or the URL of one that is in none."""
    return url.partition("::")[0] if url.startswith(("zip://", "tar://")) else url


def is_junk(path: str) -> bool:
    """Return whether a path below a corpus was made by an operating system or a tool."""
    return _JUNK.search(path) is not None


def extension_of(path: str) -> str:
    """Return what follows the last dot of a file name, in lower case; empty if there is none."""
    stem, _, extension = path.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem else ""


def is_no_image(path: str) -> bool:
    """Return whether the extension is one of files that are no images."""
    return _NO_IMAGES.fullmatch(extension_of(path)) is not None


def image_rank(path: str, size_bytes: int) -> int:
    """Return a number that is lower the likelier a file is the image among files of one key.

    JPEG and PNG by name come first, then names without a known extension, other image formats, empty files, and files
    that are no images.
    """
    extension = extension_of(path)
    if is_no_image(path):
        return 4
    if size_bytes == 0:
        return 3
    return 0 if _IMAGES.fullmatch(extension) else 2 if _OTHER_IMAGES.fullmatch(extension) else UNKNOWN_EXTENSION
