"""Generate a corpus of X-ray scans in the SIXray layout."""

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Annotated

from pipelines.phantom.corpus_plan import CorpusPlan, deal_items, format_list, make_lists, negative_name, positive_name
from pipelines.phantom.scene import Scan, make_scan
from pipelines.runtime import command_line
from pipelines.runtime.flags import Flag, make_config
from pipelines.runtime.process_pool import block_interrupts
from pipelines.runtime.progress import Progress
from shards import storage
from shards.host import count_cores

_SCANS_PER_TASK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthConfig:
    """What to generate; the bytes of every file follow from it, whatever the number of workers."""

    output: str
    """Folder of the corpus: a path or an fsspec URL."""
    num_scans: int = 2000
    """Positives and negatives together."""
    seed: int = 0
    """Seed of all randomness."""
    negatives_per_positive: int = 10
    """Negative scans for each positive one."""
    clutter: float = 1.0
    """How full bags are, as a multiple of what stations see; below 1 items are easier to find."""
    num_workers: Annotated[int | None, Flag("--workers")] = None
    """Processes; all cores if not given."""


@dataclass(frozen=True, slots=True)
class GeneratedCorpus:
    """What `generate_corpus` wrote."""

    url: str
    num_positives: int
    num_negatives: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class _Task:
    output: str
    plan: CorpusPlan
    scans: tuple[tuple[str, tuple[str, ...]], ...]
    """Names, each with the classes of its items."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def generate_corpus(config: SynthConfig) -> GeneratedCorpus:
    """Write a generated corpus in the layout of the SIXray release; the lists come last.

    A run that was killed is finished by running it again.

    Raises:
        ValueError: a number is out of range, the output holds scans of another corpus, or several processes were to
            write to a store that lives within one.
    """
    plan = CorpusPlan(
        seed=config.seed,
        num_scans=config.num_scans,
        negatives_per_positive=config.negatives_per_positive,
        clutter=config.clutter,
    )
    num_workers = _check_workers(config.num_workers, config.output)
    root = storage.normalise_url(config.output)
    storage.sweep_temporaries(root)
    _refuse_other_corpus(root, plan)
    items = deal_items(plan)
    image_bytes = 0
    with Progress("synth", plan.num_scans) as progress:
        for num_done, num_bytes in _run_tasks(list(_make_tasks(root, plan, items)), num_workers):
            progress.advance(num_done, num_bytes)
            image_bytes += num_bytes
    for (subset, split), rows in make_lists(plan, items).items():
        storage.write_bytes(storage.join_url(root, "ImageSet", subset, f"{split}.csv"), format_list(rows))
    return GeneratedCorpus(root, plan.num_positives, plan.num_negatives, image_bytes)


def format_annotation(name: str, scan: Scan) -> bytes:
    """Return the VOC XML of a scan in the release's form: indented by tabs, no declaration, decimal coordinates."""
    head = [
        "<annotation>",
        "\t<folder>X_ray</folder>",
        f"\t<filename>{name}.jpg</filename>",
        "\t<source>",
        "\t\t<database>Generated X-ray scans</database>",
        "\t\t<annotation>Generated X-ray scans</annotation>",
        "\t\t<image>X_ray</image>",
        "\t\t<flickrid>0</flickrid>",
        "\t</source>",
        "\t<owner>",
        "\t\t<flickrid>0</flickrid>",
        "\t\t<name>sixray synth</name>",
        "\t</owner>",
        "\t<size>",
        f"\t\t<width>{scan.width_px}</width>",
        f"\t\t<height>{scan.height_px}</height>",
        "\t\t<depth>3</depth>",
        "\t</size>",
        "\t<segmented>0</segmented>",
    ]
    objects = [
        line
        for box in scan.boxes
        for line in (
            "\t<object>",
            f"\t\t<name>{box.name}</name>",
            "\t\t<pose>Unspecified</pose>",
            "\t\t<truncated>0</truncated>",
            "\t\t<difficult>0</difficult>",
            "\t\t<bndbox>",
            f"\t\t\t<xmin>{_format_coordinate(box.xmin_px)}</xmin>",
            f"\t\t\t<ymin>{_format_coordinate(box.ymin_px)}</ymin>",
            f"\t\t\t<xmax>{_format_coordinate(box.xmax_px)}</xmax>",
            f"\t\t\t<ymax>{_format_coordinate(box.ymax_px)}</ymax>",
            "\t\t</bndbox>",
            "\t</object>",
        )
    ]
    return ("\n".join([*head, *objects, "</annotation>"]) + "\n").encode()


def _format_coordinate(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _check_workers(num_workers: int | None, output: str) -> int:
    if num_workers is None:
        num_workers = count_cores()
    if num_workers < 1:
        raise ValueError(f"workers must be >= 1, got {num_workers}")
    if num_workers > 1 and storage.normalise_url(output).startswith("memory://"):
        raise ValueError(f"workers must be 1 for a store that lives within one process, got {num_workers} ({output})")
    return num_workers


def _refuse_other_corpus(root: str, plan: CorpusPlan) -> None:
    # A larger corpus that lay here before would leave scans that no list names, and XML that contradicts.
    known = set(plan.names())
    for folder, ending in (("JPEGImage", ".jpg"), ("Annotation", ".xml")):
        url = storage.join_url(root, folder)
        if not storage.is_folder(url):
            continue
        for info in storage.list_files(url):
            name = storage.base_name(info.url)
            if name.removesuffix(ending) not in known or not name.endswith(ending):
                raise ValueError(
                    f"output must be empty or hold this corpus, got a file of another ({info.url}); "
                    f"choose another folder, or remove that one"
                )


def _make_tasks(root: str, plan: CorpusPlan, items: Sequence[tuple[str, ...]]) -> Iterator[_Task]:
    scans = [(positive_name(index), names) for index, names in enumerate(items)]
    scans += [(negative_name(index), ()) for index in range(plan.num_negatives)]
    for start in range(0, len(scans), _SCANS_PER_TASK):
        yield _Task(root, plan, tuple(scans[start : start + _SCANS_PER_TASK]))


def _run_tasks(tasks: Sequence[_Task], num_workers: int) -> Iterator[tuple[int, int]]:
    """Yield how many scans, and bytes of images, each finished task has written."""
    if num_workers == 1 or len(tasks) == 1:
        yield from map(_write_scans, tasks)
        return
    # Spawned, not forked: a fork of a process with threads (progress, object stores) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(tasks)), mp_context=context) as pool:
        try:
            with block_interrupts():
                futures = [pool.submit(_write_scans, task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_scans(task: _Task) -> tuple[int, int]:
    num_bytes = 0
    for name, classes in task.scans:
        scan = make_scan(classes, task.plan.scan_rng(name), task.plan.clutter)
        storage.write_bytes(storage.join_url(task.output, "JPEGImage", f"{name}.jpg"), scan.jpeg)
        if classes:
            storage.write_bytes(
                storage.join_url(task.output, "Annotation", f"{name}.xml"), format_annotation(name, scan)
            )
        num_bytes += len(scan.jpeg)
    return len(task.scans), num_bytes


def _main(argv: Sequence[str]) -> int:
    corpus = generate_corpus(make_config(SynthConfig, make_parser().parse_args(argv)))
    print(
        f"{corpus.num_positives + corpus.num_negatives} scans ({corpus.num_positives} positive), "
        f"{corpus.image_bytes / 1e6:.1f} MB of images: {corpus.url}"
    )
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser("synth", SynthConfig, "Generate a corpus of X-ray scans in the SIXray layout.")


if __name__ == "__main__":
    sys.exit(main())
