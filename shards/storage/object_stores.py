"""Handle what is specific to object stores: errors without secrets, paged listings, unfinished uploads."""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

_STORE_PACKAGES = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}
_SECRET_VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FSSPEC_S3_SECRET", "FSSPEC_S3_TOKEN", "FSSPEC_S3_KEY"),
    "AZURE_STORAGE_KEY",
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY_SECRET = re.compile(
    r"(?i)(?<=[?&])(x-amz-[\w-]+|x-goog-[\w-]+|awsaccesskeyid|signature|sig|token|access_token|key|secret)=[^&\s\"')]+"
)


def check_url(url: str) -> None:
    """Check that a URL holds no credentials, since it is written to manifests, rows and logs.

    Raises:
        ValueError: it has a user or password, or is signed; the message shows neither.
    """
    if _USER_INFO.search(url) or _QUERY_SECRET.search(url):
        raise ValueError(
            f"URL must be without credentials, got {mask_secrets(url)}; set them in the environment or in "
            f"the store's configuration file"
        )


def mask_secrets(text: str) -> str:
    """Return `text` with possible credentials replaced by stars."""
    text = _QUERY_SECRET.sub(lambda found: f"{found.group(1)}=***", _USER_INFO.sub("***@", text))
    for name in _SECRET_VARIABLES:
        if len(value := os.environ.get(name, "")) >= 4:
            text = text.replace(value, "***")
    return text


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn exceptions of a store's library into the OSError that a disk would raise, with errno and without secrets.

    Raises:
        FileNotFoundError, PermissionError: as on a disk.
        ConnectionError: the store cannot be reached or is unavailable.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise  # already converted, or from a disk
        raise _as_plain_error(error, mask_secrets(url)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORE_PACKAGES:
            raise
        text = f"{type(error).__name__}: {error}"
        raise ConnectionError(errno.ECONNABORTED, mask_secrets(text), mask_secrets(url)) from error


def _as_plain_error(error: OSError, url: str) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "No such file or folder", url)
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, mask_secrets(str(error)), url)
    text = mask_secrets(f"{type(error).__name__}: {error.strerror or error}")
    number = error.errno or errno.EIO
    # Statuses 500 to 504 and 429 mean "retry later"; s3fs gives them EBUSY or no errno.
    is_unreachable = isinstance(error, TimeoutError | ConnectionError) or number in (errno.EBUSY, errno.EIO)
    kind = ConnectionError if is_unreachable else OSError
    return kind(number, text, url)


class StoreReader(io.RawIOBase):
    """An fsspec file that raises the exceptions of a local file."""

    def __init__(self, handle: Any, url: str) -> None:
        self._handle = handle
        self._url = url

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        with plain_errors(self._url):
            data = self._handle.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position without reading."""
        return int(self._handle.seek(offset, whence))

    def tell(self) -> int:
        """Return the position in bytes."""
        return int(self._handle.tell())

    def close(self) -> None:
        """Close the file and its handle."""
        if not self.closed:
            self._handle.close()
        super().close()


def is_s3(fs: Any) -> bool:
    """Return whether a file system is s3fs, whose documented `call_s3` gives access to all S3 requests."""
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol) and hasattr(fs, "call_s3")


def list_s3(fs: Any, folder: str) -> Iterator[tuple[str, int]]:
    """Yield (path below the folder, size in bytes) of every object, in pages of 1,000.

    s3fs' listings hold all names of a folder at once, each as a dict: 1.5 GB for a million scans.

    Raises:
        FileNotFoundError: no object is below the folder.
    """
    bucket, key, _ = fs.split_path(folder)
    prefix = f"{key.rstrip('/')}/" if key else ""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    is_empty = True
    while True:
        page = fs.call_s3("list_objects_v2", **request)
        for entry in page.get("Contents", []):
            is_empty = False
            if not entry["Key"].endswith("/"):  # a folder placeholder
                yield entry["Key"].removeprefix(prefix), int(entry["Size"])
        if not page.get("IsTruncated"):
            break
        request["ContinuationToken"] = page["NextContinuationToken"]
    if is_empty:
        raise FileNotFoundError(f"{bucket}/{prefix}")


def abort_uploads(fs: Any, folder: str, older_than_seconds: float) -> int:
    """Abort uploads below a folder that killed writers left; return how many.

    They are invisible, but the store keeps and bills their parts. Younger ones may belong to a running writer.
    """
    bucket, key, _ = fs.split_path(folder)
    page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key.rstrip('/')}/" if key else "")
    limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    old = [upload for upload in page.get("Uploads", []) if upload["Initiated"] <= limit]
    for upload in old:
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(old)
