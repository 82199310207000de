"""Tests of metrics and logs on Flink: names with units as in `run.json`; log lines name job, shard and key."""

import base64
import json

import pytest

from tests.cluster.site import convert_words
from tests.cluster.test_jobs import score_words


def counters_of(get, job_id):
    """Return what the counters of a job say in Flink's REST API, by namespace and name."""
    found: dict[tuple[str, str], int] = {}
    for vertex in get(f"/jobs/{job_id}")["vertices"]:
        for accumulator in get(f"/jobs/{job_id}/vertices/{vertex['id']}/accumulators")["user-accumulators"]:
            if accumulator["name"] != "__metricscontainers":
                continue
            for metric in json.loads(accumulator["value"])["metrics"].get("attempted", []):
                if metric["urn"] == "beam:metric:user:sum_int64:v1":
                    labels = metric["labels"]
                    name = labels["NAMESPACE"], labels["NAME"]
                    found[name] = found.get(name, 0) + read_varint(base64.b64decode(metric.get("payload", "AA==")))
    return found


def read_varint(data):
    """Return the integer that Beam's VarInt coder wrote."""
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(data))


@pytest.fixture(scope="module")
def converted(site, dataset, on_flink):
    """The job of a conversion on Flink."""
    result, job = on_flink(*convert_words(site, "flink-ds"))
    assert result.code == 0, result.log
    return job


def test_counters_arrive_in_flink_under_names_with_units(site, dataset, converted, flink_get):
    manifest = json.loads(dataset["dataset.json"])
    ledger = manifest["splits"].values() if isinstance(manifest["splits"], dict) else manifest["splits"]
    assert ledger
    counters = counters_of(flink_get, converted["jid"])
    tar_bytes = sum(len(data) for name, data in dataset.items() if name.endswith(".tar"))
    assert counters["convert", "written-bytes"] == tar_bytes
    assert counters["convert", "quarantined-scans"] == 3
    assert counters["convert", "converted-scans"] == 481
    assert counters.get(("convert", "reused-shards"), 0) == 0


def test_run_json_has_the_same_figures(site, dataset, flink_get, on_flink):
    result, job = on_flink(*score_words(site, "scored-flink"))
    assert result.code == 0, result.log
    (run,) = [json.loads(data) for name, data in site.files("scored-flink").items() if name.endswith("run.json")]
    in_flink = {name: num for (kind, name), num in counters_of(flink_get, job["jid"]).items() if kind == "score"}
    assert run["timings"]["counters"] == in_flink
    assert in_flink["scored-scans"] == run["counts"]["num_scored"] == 481
    assert in_flink["read-bytes"] > 481 * 500


def test_a_job_is_called_by_its_name(converted):
    assert converted["name"].startswith("sixray-convert")


def test_findings_arrive_in_flink_by_kind(site, dataset, flink_get, flink_jobs):
    hit = min(name for name in dataset if name.endswith(".tar"))
    site.put("found", dataset | {hit: dataset[hit][:700] + b"x" + dataset[hit][701:]})
    result = site.run("verify", "--report", site.url("found.json"), site.url("found"), beam=site.flink)
    assert result.code == 1, result.log
    counters = counters_of(flink_get, flink_jobs()[0]["jid"])
    tar_bytes = sum(len(data) for name, data in dataset.items() if name.endswith(".tar"))
    assert {name: num for (job, name), num in counters.items() if job == "verify"} == {
        "verified-scans": 481,
        "read-bytes": tar_bytes,
        "checksum-mismatch-findings": 1,
    }
    log = "".join(path.read_text() for path in site.cluster.folder.glob("task-manager-*.log"))
    (key,) = [item["key"] for item in json.loads((site.bucket / "found.json").read_text())]
    assert f"found: job=verify file={hit} key={key} reason=checksum_mismatch" in log
    assert f"verified: job=verify shard={hit.partition('/')[2].removesuffix('.tar')} " in log


def test_logs_of_workers_name_job_shard_and_key(site, converted):
    logs = [path.read_text() for path in site.cluster.folder.glob("task-manager-*.log")]
    lines = [line for log in logs for line in log.splitlines() if "job=convert" in line]
    refused = [line for line in lines if "refused" in line]
    assert any("shard=unlisted-00000-of-00001 key=N90001 reason=empty_file" in line for line in refused)
    assert any("written: job=convert shard=train-00000-of-" in line and "tar_bytes=" in line for line in lines)
