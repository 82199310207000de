"""Open a split of a dataset as a `webdataset` pipeline."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shards import storage
from shards.format.classes import Box
from shards.format.dataset import open_dataset
from shards.images.decode import decode_image
from shards.images.inspect import EXTENSIONS

if TYPE_CHECKING:
    from webdataset import DataPipeline

_SHUFFLE_SAMPLES = 1000


def open_webdataset(
    url: str, split: str, *, seed: int | None = None, epoch: int = 0, decode: bool = True
) -> "DataPipeline":
    """Return a `webdataset` pipeline over the samples of a split.

    A sample is a dict of `__key__`, `__url__` (its tar), `image` (uint8, height x width x RGB), `labels` ({class: 1
    present, 0 absent, None unknown}) and `boxes` (a list of `Box`). `len()` is the exact number of this node's samples.

    Shards are split among nodes when the pipeline is opened (by RANK and WORLD_SIZE, or torch.distributed) and among
    the workers of a DataLoader when it is iterated, so nodes may differ in length. Images go through Pillow, one by
    one: use it for exploration, tools and frameworks that speak webdataset. Training and scoring read the same shards
    through DALI (`model.inputs`), which decodes several times as fast and gives every rank equally many batches.

    Args:
        url: of the dataset.
        split: its name.
        seed: shuffle shards and then samples, in a buffer of 1,000, by it; None: the order on disk.
        epoch: the first epoch: each iteration shuffles anew, but workers that start anew for each epoch begin with it.
        decode: False: `image` is the JPEG or PNG as bytes.

    Raises:
        ValueError: there is no such dataset or split; while iterating, an image cannot be decoded.
    """
    import webdataset as wds  # it loads PyTorch wherever that is installed
    from webdataset.tariterators import group_by_keys, tar_file_expander
    from webdataset.utils import pytorch_worker_info

    dataset = open_dataset(url)
    rank, world_size, *_ = pytorch_worker_info()
    shards = dataset.shards(split)[rank::world_size]
    tars = [dataset.tar_url(shard) for shard in shards]
    # detshuffle adds the epoch to the seed: shifted, so that epoch 1 of seed 1 is not epoch 0 of seed 2.
    shuffles = [] if seed is None else [partial(wds.detshuffle, seed=seed << 32, epoch=epoch - 1)]
    pipeline = wds.FluidWrapper(partial(iter, tars)).compose(
        *(shuffle(len(tars), len(tars)) for shuffle in shuffles),
        wds.split_by_worker,
        _open_tars,
        tar_file_expander,
        group_by_keys,
        partial(map, partial(_decode, decode=decode)),
        *(shuffle(_SHUFFLE_SAMPLES, _SHUFFLE_SAMPLES) for shuffle in shuffles),
    )
    return pipeline.with_length(sum(shard.num_scans for shard in shards), silent=True)


def _open_tars(urls: Iterable[str]) -> Iterator[dict[str, Any]]:
    for url in urls:
        with storage.open_reader(url) as stream:
            yield {"url": url, "stream": stream}


def _decode(components: dict[str, Any], *, decode: bool) -> dict[str, Any]:
    document = json.loads(components["json"])
    image = next(components[extension] for extension in EXTENSIONS if extension in components)
    key, url = components["__key__"], components["__url__"]
    return {
        "__key__": key,
        "__url__": url,
        "image": _decode_image(image, f"sample {key!r}, shard {url!r}") if decode else image,
        "labels": document["labels"],
        "boxes": [Box(box.pop("class"), **box) for box in document["boxes"]],
    }


def _decode_image(data: bytes, where: str) -> np.ndarray:
    try:
        return np.array(decode_image(data).convert("RGB"))  # a copy: PyTorch warns of arrays that are not writable
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"image must be a JPEG or PNG that Pillow decodes, got {error} ({where})") from error
