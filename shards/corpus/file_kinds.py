"""Tell images, files beside them, and junk apart by their names."""

import re

_JUNK_FILES = r"\._[^/]*|\.DS_Store|(?:eh)?Thumbs\.db|desktop\.ini|Icon\r|\.directory"
_JUNK_FOLDERS = (
    r"__MACOSX|@eaDir|@Recycle|#recycle|\$RECYCLE\.BIN|System Volume Information|\.ipynb_checkpoints|\.git|\.Trashes|"
    r"\.Trash-\d+|\.Spotlight-V100|\.fseventsd|\.AppleDouble|\.thumbnails|lost\+found|__pycache__"
)
_JUNK = re.compile(rf"(?:^|/)(?:(?:{_JUNK_FILES})$|(?:{_JUNK_FOLDERS})/)", re.IGNORECASE)
_OTHER_IMAGES = re.compile("bmp|dib|gif|tiff?|webp|hei[cf]|avif|jp2|p[bgnp]m|svg")
_NO_IMAGES = re.compile(
    "jsonl?|[ct]sv|txt|xml|ya?ml|md|rst|html?|pdf|log|ini|cfg|toml|names|data|cache|np[yz]|mat|pkl|parquet|xlsx?|docx?|db|py|"
    "sh|ipynb|zip|tar|t?gz|7z|rar|md5|sha1|sha256|lock|bak|tmp"
)


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

    JPEG, PNG and names without a known extension come first, then other image formats, empty files, and files that are
    no images.
    """
    if is_no_image(path):
        return 3
    return 2 if size_bytes == 0 else int(_OTHER_IMAGES.fullmatch(extension_of(path)) is not None)
