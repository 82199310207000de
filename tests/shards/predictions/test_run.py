"""Nobody reads predictions that are not the ones of their run."""

import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest

from model.evaluation.scans.scored_scans import join_predictions
from pipelines.alarms import AlarmsConfig, write_alarms
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet, write_parquet
from shards.predictions.run import open_predictions

GOLDEN = Path(__file__).parents[2] / "golden/format1"
(RECORDED,) = (path.parent for path in (GOLDEN / "predictions").rglob("run.json"))
READERS = {
    "rows": lambda url: open_predictions(url).read_rows(columns=["key"]),
    "evaluate": lambda url: join_predictions(open_predictions(url), open_dataset(str(GOLDEN / "dataset")), "test"),
    "alarms": lambda url: write_alarms(
        AlarmsConfig(predictions=url, output=f"{url}/../alarms", threshold={"Gun": "0.5"})
    ),
}


@pytest.fixture
def predictions(tmp_path):
    return Path(shutil.copytree(RECORDED, tmp_path / RECORDED.name))


@pytest.mark.parametrize("reader", READERS)
def test_a_part_with_other_scores_than_the_run_wrote_is_refused_with_the_command_to_run(predictions, reader):
    READERS[reader](str(predictions))
    for path in predictions.glob("test-*.parquet"):
        table = read_parquet(str(path))
        write_parquet(str(path), table.take(pc.sort_indices(table["key"], sort_keys=[("key", "descending")])))
    with pytest.raises(
        ValueError, match=r"sha256 [0-9a-f]{64}, as run.json says, got .*test-.*`sixray verify .*score`"
    ):
        READERS[reader](str(predictions))


@pytest.mark.parametrize("reader", READERS)
def test_a_part_that_is_gone_is_no_part_without_scans(predictions, reader):
    for path in predictions.glob("test-*.parquet"):
        path.unlink()
    with pytest.raises(ValueError, match=r"must have every file that run.json lists, got no test-.*it makes what is"):
        READERS[reader](str(predictions))
