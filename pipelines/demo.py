"""Run every command on generated scans, from the corpus to the report."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from model.artifacts.model_files import read_model_files
from pipelines import cli
from pipelines.runtime import command_line
from pipelines.runtime.flags import make_config
from shards import storage

NUM_SCANS = 1400
CLUTTER = 0.2
"""Bags are packed lightly: in two minutes a network learns little from a hundred items in full ones."""
SHARD_BYTES = 8 * 1024 * 1024
"""Small, so that the demo's dataset has several shards a split, as a real one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    output: str = "demo"
    """Folder for everything the demo makes."""
    num_scans: int = NUM_SCANS
    """Scans to generate."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of the last table."""

    command: str
    num_scans: int
    seconds: float


def run_demo(output: str, num_scans: int = NUM_SCANS, seed: int = 0) -> list[Stage]:
    """Run every command in turn, as a user would type it; return what each took.

    Run again after a kill, it resumes.

    Raises:
        RuntimeError: a command ended with another code than 0.
    """
    corpus, dataset, run, predictions, report = (
        storage.join_url(output, name) for name in ("corpus", "dataset", "run", "predictions", "report")
    )
    model = storage.join_url(run, "model")
    stages: list[Stage] = []

    def step(command: str, *flags: str) -> None:
        stages.append(_run(command, flags, num_scans))

    step("synth", "--output", corpus, "--num-scans", str(num_scans), "--seed", str(seed), "--clutter", str(CLUTTER))
    step("convert", "--input", corpus, "--output", dataset, "--shard-bytes", str(SHARD_BYTES))
    step("verify", dataset)
    # One device, since its small batches are not worth sharing out, and not every number of GPUs divides them.
    step("train", "--data", dataset, "--output", run, "--recipe", "demo", "--devices", "1")
    step("score", "--model", model, "--input", dataset, "--output", predictions)
    scored = storage.join_url(predictions, read_model_files(model).model_id)
    step("verify", scored)
    step("evaluate", "--predictions", scored, "--data", dataset, "--output", report)
    return stages


def _run(command: str, flags: Sequence[str], num_scans: int) -> Stage:
    print(f"\n$ sixray {command} {shlex.join(flags)}", flush=True)
    started = time.monotonic()
    code = cli.main([command, *flags])
    if code != command_line.OK:
        raise RuntimeError(f"sixray {command} must end with 0, got {code}; run the demo again, it resumes")
    return Stage(command, num_scans, time.monotonic() - started)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    flags = make_config(_Flags, make_parser().parse_args(argv))
    stages = run_demo(flags.output, flags.num_scans)
    _print_stages(stages)
    _print_result(storage.join_url(flags.output, "report"))
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser("demo", _Flags, "Generate scans, convert, verify, train, score and report.")


def _print_stages(stages: Sequence[Stage]) -> None:
    table = Table("stage", "scans", "seconds", "scans/s")
    for stage in stages:
        rate = stage.num_scans / stage.seconds
        table.add_row(f"sixray {stage.command}", f"{stage.num_scans:,}", f"{stage.seconds:.1f}", f"{rate:,.0f}")
    table.add_row("all", "", f"{sum(stage.seconds for stage in stages):.1f}", "")
    print()
    Console(highlight=False).print(table)


def _print_result(report_url: str) -> None:
    metrics = json.loads(storage.read_bytes(storage.join_url(report_url, "metrics.json")))
    prevalences = [of["prevalence"] for of in metrics["classes"].values() if of["num_positive"]]
    mean_prevalence = sum(prevalences) / len(prevalences)
    mean_ap = metrics["mean"]["average_precision"]["non_interpolated"]
    print(
        f"mean AP {mean_ap:.3f} on {metrics['num_scans']} test scans, {mean_ap / mean_prevalence:.1f} times the mean "
        f"prevalence of {mean_prevalence:.3f}, which is what guessing gets"
    )
    print(f"report: {storage.join_url(report_url, 'report.html')}")


if __name__ == "__main__":
    sys.exit(main())
