"""Label the level of each scan for Meta Fusion, from the predictions of a trained CHR (MF-N).

Paper: B. Hu et al., ACCV 2020, Section 3.2, "Ground-truth Generation": "each image is forwarded through all levels of
feature pyramid by CHR [...] 1 indicating this pyramid level yielding the minimal classification loss". Predictions hold
the logits of every level, so it is enough to score the training split.

The labels are a Parquet file with a row a scan, `key` and `level` (1 the finest), and their origin in its metadata.

Shapes: N scans  K classes  L levels
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.inputs.sample_table import SampleTable, load_sample_table
from model.metrics.operating_points import any_item_labels
from shards import storage
from shards.format.classes import UNKNOWN
from shards.format.dataset import Dataset
from shards.format.json_document import parse_document
from shards.format.parquet import read_parquet, write_parquet
from shards.predictions.run import Predictions

METADATA_KEY = b"sixray-level-labels"
FORMAT_VERSION = 1
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("level", pa.int8(), nullable=False, metadata={"what": "of the least loss, from 1, the finest"}),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsInfo:
    """The origin of a table of labels."""

    model_id: str
    dataset_digest: str
    split: str
    num_by_level: tuple[int, ...]
    """Scans labelled with each level, the finest first (Figure 4, left)."""
    num_unlabelled: int
    """Scans of the split without a label: not scored, or without known labels."""
    per_class: bool
    """The loss is of each class; else, if model and dataset differ in classes, of any item."""
    trim_margins: bool
    """Whether the model cut white margins off. False for predictions and tables of earlier releases, which do not
    record it: a CHR of SIXray takes whole scans."""


def label_levels(predictions: Predictions, dataset: Dataset, split: str) -> tuple[pa.Table, LabelsInfo]:
    """Return the label of each scan of a split that was scored and whose labels are known, in the dataset's order.

    The paper labels OPIXray with a CHR of SIXray, which has other classes (Table 4, right column), and does not define
    the classification loss then. Ours: if a class of the dataset is not among the model's, a level's logit for "any
    item" is its maximum over classes, and the label is whether the scan has any.

    Raises:
        ValueError: the predictions are of another dataset, or have no part of that split.
    """
    digests = {predictions.run["dataset_digest"], *(d["digest"] for d in predictions.run.get("datasets", ()))}
    if dataset.manifest.digest not in digests:
        raise ValueError(
            f"predictions must be of the dataset with digest {dataset.manifest.digest}, got predictions of "
            f"{predictions.run['dataset_digest']} ({predictions.url}); score split {split!r} of {dataset.url} first"
        )
    samples = load_sample_table(dataset, split)
    rows = predictions.read_rows(split, columns=["key", "level_logits"])
    per_class = set(samples.classes) <= set(predictions.run["classes"])
    row_of_sample = pc.index_in(samples.keys, value_set=rows["key"].combine_chunks())
    scored_N = np.flatnonzero(row_of_sample.is_valid().to_numpy(zero_copy_only=False))
    rows, samples = rows.take(row_of_sample.drop_null()), samples.take(scored_N)
    names = samples.classes if per_class else tuple(predictions.run["classes"])
    level_logits_LNK = _read_levels(rows["level_logits"].combine_chunks(), names)
    labels_NK = samples.labels_NK
    if not per_class:
        level_logits_LNK, labels_NK = level_logits_LNK.max(axis=2, keepdims=True), any_item_labels(labels_NK)[:, None]
    levels_N = least_loss_levels(level_logits_LNK, labels_NK)
    labelled_N = np.flatnonzero(levels_N)
    info = LabelsInfo(
        model_id=predictions.model_id,
        dataset_digest=dataset.manifest.digest,
        split=split,
        num_by_level=tuple(np.bincount(levels_N, minlength=len(level_logits_LNK) + 1)[1:].tolist()),
        num_unlabelled=len(row_of_sample) - len(labelled_N),
        per_class=per_class,
        trim_margins=predictions.run.get("trim_margins", False),
    )
    columns = [samples.keys.take(pa.array(labelled_N)), pa.array(levels_N[labelled_N], pa.int8())]
    return pa.table(columns, schema=_SCHEMA), info


def least_loss_levels(level_logits_LNK: np.ndarray, labels_NK: np.ndarray) -> np.ndarray:
    """Return the level with the least binary cross-entropy, summed over known classes; ties go to the finest.

    Args:
        level_logits_LNK: finest level first.
        labels_NK: 1 present, 0 absent, -1 unknown.

    Returns:
        int8 (N,), from 1 to L; 0 for a scan without known labels.
    """
    logits_LNK, known_NK = level_logits_LNK.astype(np.float64), labels_NK != UNKNOWN
    # -log sigmoid(x) where present, -log(1 - sigmoid(x)) where absent
    losses_LNK = np.logaddexp(0.0, logits_LNK) - logits_LNK * np.where(known_NK, labels_NK, 0.0)
    levels_N = 1 + np.where(known_NK, losses_LNK, 0.0).sum(axis=2).argmin(axis=0)
    return np.where(known_NK.any(axis=1), levels_N, 0).astype(np.int8)


def write_level_labels(url: str, labels: pa.Table, info: LabelsInfo) -> None:
    """Write a table of labels; equal arguments give equal bytes."""
    text = json.dumps({"format": FORMAT_VERSION} | asdict(info), sort_keys=True)
    write_parquet(url, labels.replace_schema_metadata({METADATA_KEY: text}))


def read_level_labels(
    url: str, samples: SampleTable, num_levels: int, dataset_digest: str, *, trim_margins: bool
) -> SampleTable:
    """Return the samples with the labels of a table; samples that are not in it get none.

    Args:
        url: the table.
        samples: of the training split.
        num_levels: of the network to train.
        dataset_digest: of the samples' dataset.
        trim_margins: whether the network to train gets scans without their white margins.

    Raises:
        ValueError: the table is invalid, of another dataset, or of a model with another number of levels or another
            trimming, or has none of the samples.
    """
    table, info = _read_table(url)
    if info.dataset_digest != dataset_digest:
        raise ValueError(
            f"level labels must be of the dataset with digest {dataset_digest}, got {info.dataset_digest} ({url}); "
            f"score this dataset and run `sixray label-levels` again"
        )
    if len(info.num_by_level) != num_levels:
        raise ValueError(f"level labels must be of {num_levels} levels, got {len(info.num_by_level)} ({url})")
    if info.trim_margins != trim_margins:
        raise ValueError(
            f"level labels must be by a model with trim_margins {trim_margins}, as the recipe, got one with "
            f"{info.trim_margins} ({url}): an item covers another share of what it saw; write "
            f'"trim_margins": {str(trim_margins).lower()} beside "network" in the config.json of a copy of '
            f"{info.model_id}, score the dataset with that and run `sixray label-levels` again"
        )
    found = pc.index_in(samples.keys, value_set=table["key"].combine_chunks())
    if len(samples) and found.null_count == len(found):
        raise ValueError(
            f"level labels must name scans of the training split, got none of them ({url}); they are of split "
            f"{info.split!r}"
        )
    return samples.with_levels(pc.fill_null(table["level"].combine_chunks().take(found), 0).to_numpy())


def read_labels_info(url: str) -> LabelsInfo:
    """Return the origin of a table of labels; ValueError if it is invalid."""
    return _read_table(url)[1]


def level_labels_sha256(url: str) -> str:
    """Return the sha256 of a table's file, in hex; equal labels of equal origin have equal bytes."""
    try:
        return storage.sha256_of(url)
    except FileNotFoundError as error:
        raise _no_table(url, error) from error


def _read_table(url: str) -> tuple[pa.Table, LabelsInfo]:
    try:
        table = read_parquet(url)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise _no_table(url, error) from error
    text = (table.schema.metadata or {}).get(METADATA_KEY, b"{}")
    document = parse_document(text, FORMAT_VERSION, "level labels", url, "write them with `sixray label-levels`")
    del document["format"]
    return table, LabelsInfo(**{"trim_margins": False} | document | {"num_by_level": tuple(document["num_by_level"])})


def _no_table(url: str, error: Exception) -> ValueError:
    return ValueError(f"level labels must be a Parquet file that `sixray label-levels` wrote, got {error} ({url})")


def _read_levels(levels: pa.ListArray, classes: Sequence[str]) -> np.ndarray:
    flat = levels.flatten()
    columns = [flat.field(name).to_numpy(zero_copy_only=False).reshape(len(levels), -1).T for name in classes]
    return np.stack(columns, axis=2)
