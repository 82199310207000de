"""Count the object-store requests of convert, verify and score for a million scans, and the bytes stored.

Two corpora, of one and of two shards of the default size; their difference is the cost of a further shard. Images only;
an annotation is one more request.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
from aiobotocore.client import AioBaseClient  # type: ignore[import-untyped]

from pipelines import convert, score, verify
from pipelines.runtime import process_pool
from pipelines.steps.dataset_plan import DEFAULT_SHARD_BYTES
from shards import storage
from tests.bench.measure import Measurement
from tests.corpora import jpeg_bytes
from tests.pipelines.scoring import make_model
from tests.services import ACCESS_KEY, SECRET_KEY, run_s3

READS = ("GetObject", "HeadObject", "HeadBucket")
FREE = ("DeleteObject", "DeleteObjects", "AbortMultipartUpload")
"""All else is a write or a listing: stores sell those at one price, some ten times that of reads."""
_BUCKET = "s3://requests"
_COMMENT = b"\xff\xfe\x00\x0a00000000"
"""A JPEG's comment segment: no two scans are alike."""


def run(scratch: Path) -> Iterator[Measurement]:
    """Count what both corpora take, command by command."""
    image = jpeg_bytes(7, (800, 600))
    num_scans = DEFAULT_SHARD_BYTES // (len(image) + len(_COMMENT))
    model_url = str(scratch / "model")
    make_model(scratch / "model")
    with run_s3(scratch) as server:
        os.environ |= {"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        fsspec.filesystem("s3").call_s3("create_bucket", Bucket=_BUCKET.removeprefix("s3://"))
        for number in range(2 * num_scans):
            comment = _COMMENT[:-8] + b"%08d" % number
            for corpus in ("few", "many") if number < num_scans else ("many",):
                storage.write_bytes(f"{_BUCKET}/{corpus}/N{number:07d}.jpg", image[:2] + comment + image[2:])
        few, many = (count_commands(f"{_BUCKET}/{corpus}", model_url) for corpus in ("few", "many"))
        few_bytes, many_bytes = (
            sum(file.size_bytes for file in storage.list_files(f"{_BUCKET}/{corpus}-dataset"))
            for corpus in ("few", "many")
        )
    scan_bytes = (many_bytes - few_bytes) / num_scans - len(image) - len(_COMMENT)
    yield Measurement("dataset: beside the images", scan_bytes, "bytes/scan", "frames in the tar, index, row")
    for command, counts in many.items():
        further = counts - few[command]
        num_reads = sum(further[name] for name in READS)
        num_writes = further.total() - num_reads - sum(further[name] for name in FREE)
        beside = ", ".join(f"{num} {name}" for name, num in sorted(further.items()))
        yield Measurement(f"{command}: reads", num_reads / num_scans * 1e6, "requests/million scans", beside)
        yield Measurement(
            f"{command}: writes and listings", num_writes / num_scans * 1e6, "requests/million scans", beside
        )


def count_commands(corpus_url: str, model_url: str) -> dict[str, Counter[str]]:
    """Return how often each command asks the store for what; they follow one another."""
    dataset_url, predictions_url = f"{corpus_url}-dataset", f"{corpus_url}-predictions"
    engine = ("--engine", "eager", "--dtype", "float32")
    return {
        "convert": count(convert.main, "--input", corpus_url, "--output", dataset_url, "--layout", "images"),
        "verify": count(verify.main, dataset_url),
        "score": count(score.main, "--model", model_url, "--input", dataset_url, "--output", predictions_url, *engine),
    }


def count(main: Any, *words: str) -> Counter[str]:
    """Return how often a command asks the store for what."""
    requests: Counter[str] = Counter()
    ask = AioBaseClient._make_api_call

    async def note(client: Any, operation: str, parameters: Any) -> Any:
        requests[operation] += 1
        return await ask(client, operation, parameters)

    # What other processes ask for would not be counted.
    alone = patch.object(process_pool, "MAX_PROCESSES", 1)
    with alone, patch.object(AioBaseClient, "_make_api_call", note), redirect_stdout(sys.stderr):
        code = main(words)
    if code != 0:
        raise RuntimeError(f"command must end well, got exit code {code} ({' '.join(words)})")
    return requests
