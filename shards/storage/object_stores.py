"""What is particular to object stores: errors without secrets, listings page by page, uploads that nobody finished."""

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
    """Check that a URL holds no credentials: it will stand in manifests, rows and logs.

    Raises:
        ValueError: it names a user or a password, or is signed; the message shows neither.
    """
    if _USER_INFO.search(url) or _QUERY_SECRET.search(url):
        raise ValueError(
            f"URL must be without credentials, got {mask_secrets(url)}; give them by the environment or by "
            f"the store's own configuration file"
        )


def mask_secrets(text: str) -> str:
    """Return `text` with what may be a credential in it replaced by stars."""
    text = _QUERY_SECRET.sub(lambda found: f"{found.group(1)}=***", _USER_INFO.sub("***@", text))
    for name in _SECRET_VARIABLES:
        if len(value := os.environ.get(name, "")) >= 4:
            text = text.replace(value, "***")
    return text


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn what a store's library raises into the OSError that a disk would raise: with a number, without a secret.

    Raises:
        FileNotFoundError, PermissionError: as on a disk.
        ConnectionError: the store cannot be reached, or does not serve now.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise  # a plain one already, or a disk's own
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
    # What a store says by a status, 500 to 504 or 429, is "not now"; s3fs numbers those EBUSY or not at all.
    is_unreachable = isinstance(error, TimeoutError | ConnectionError) or number in (errno.EBUSY, errno.EIO)
    kind = ConnectionError if is_unreachable else OSError
    return kind(number, text, url)


class StoreReader(io.RawIOBase):
    """An fsspec file that raises what a file on a disk raises."""

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
        """Read what fits."""
        with plain_errors(self._url):
            data = self._handle.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read for it."""
        return int(self._handle.seek(offset, whence))

    def tell(self) -> int:
        """Return the position in bytes."""
        return int(self._handle.tell())

    def close(self) -> None:
        """Close both."""
        if not self.closed:
            self._handle.close()
        super().close()


def is_s3(fs: Any) -> bool:
    """Say whether a file system is s3fs, whose documented `call_s3` reaches every request of S3."""
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol) and hasattr(fs, "call_s3")


def list_s3(fs: Any, folder: str) -> Iterator[tuple[str, int]]:
    """Yield (path below the folder, size in bytes) of every object, a page of 1,000 at a time.

    s3fs' own listings hold all names of a folder at once, as a dict each: 1.5 GB for a million scans.

    Raises:
        FileNotFoundError: there is no object below the folder.
    """
    bucket, key, _ = fs.split_path(folder)
    prefix = f"{key.rstrip('/')}/" if key else ""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    is_empty = True
    while True:
        page = fs.call_s3("list_objects_v2", **request)
        for entry in page.get("Contents", []):
            is_empty = False
            if not entry["Key"].endswith("/"):  # such an object stands for a folder
                yield entry["Key"].removeprefix(prefix), int(entry["Size"])
        if not page.get("IsTruncated"):
            break
        request["ContinuationToken"] = page["NextContinuationToken"]
    if is_empty:
        raise FileNotFoundError(f"{bucket}/{prefix}")


def abort_uploads(fs: Any, folder: str, older_than_seconds: float) -> int:
    """Abort uploads below a folder that killed writers began and nobody can finish; return how many those were.

    They are invisible, but the store keeps and bills their parts. A younger one may be a living writer's.
    """
    bucket, key, _ = fs.split_path(folder)
    page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key.rstrip('/')}/" if key else "")
    limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    old = [upload for upload in page.get("Uploads", []) if upload["Initiated"] <= limit]
    for upload in old:
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(old)
