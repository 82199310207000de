"""Train `plain`, `h`, `hr`, `ch` and `chr` with three seeds each, on generated and on real scans.

Each corpus is generated at one ratio of negatives to positives, split 4:1 as the paper has it; every network is trained
on the training split with plain sampling for the same number of epochs and evaluated on the test split. In place of
ImageNet's weights a backbone is trained on other generated scans, half of them positive. The real scans are those of
SIXRAY_SAMPLE. Results lie in SIXRAY_BENCH_CACHE (~/.cache/sixray-pipeline/bench): a stopped run resumes, and finished
cells are kept.

SIXRAY_BENCH_RATIOS, `10,100` by default, names the ratios, also 1000. SIXRAY_BENCH_MINUTES stops before the first cell
that would begin later than that; then nothing is rated yet.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

from model.artifacts.saved_model import load_model
from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from model.training.config import AdamW, TrainConfig
from model.training.losses import LossConfig
from model.training.trainer import train
from pipelines.convert import main as convert
from pipelines.score import ScoreConfig, score_datasets
from pipelines.synth import SynthConfig, generate_corpus
from shards.format.dataset import Dataset, open_dataset
from shards.predictions.run import open_predictions
from tests.bench.learning import NETWORKS, Learned, draw_learned, paper_gain, rate_runs, say_order, write_note
from tests.bench.measure import Measurement, describe_hardware

SEEDS = (0, 1, 2)
BACKBONE, IMAGE_PX = "resnet10t", 96
"""39 scans a second on one core that has AVX2 alone; ResNet-18 at 128 px 15."""
CLUTTER = 0.2
"""As in the demo: bags are packed lightly, else minutes of training teach nothing."""
CORPUS_SEED, PRETRAINING_SEED = 1, 2


@dataclass(frozen=True, slots=True)
class Corpus:
    """Scans to learn from."""

    name: str
    num_scans: int
    negatives_per_positive: int
    num_epochs: int


PRETRAINING = Corpus("pretraining", 1_100, 1, 6)
GENERATED = {
    10: Corpus("generated 1:10", 4_400, 10, 1),
    100: Corpus("generated 1:100", 10_100, 100, 1),
    1000: Corpus("generated 1:1000", 100_100, 1000, 1),
}
"""With 80, 20 and 20 positives to test on. One epoch: at the same cost more scans teach more than more epochs."""
REAL = Corpus("real scans", 0, 0, 2)
REAL_IN_PAPER = "sixray10"
"""What the real scans are held against: of the paper's subsets the one with most positives among its scans."""


def run(scratch: Path) -> Iterator[Measurement]:
    """Train what is missing, then rate all of it; write the chart and the note beside the figures."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    root = Path(os.environ.get("SIXRAY_BENCH_CACHE", Path.home() / ".cache/sixray-pipeline/bench")) / "learning"
    ratios = [int(text) for text in os.environ.get("SIXRAY_BENCH_RATIOS", "10,100").split(",")]
    found = learn(root, [GENERATED[ratio] for ratio in ratios], _deadline())
    if found is None:
        return
    paper_datasets = {GENERATED[ratio].name: f"sixray{ratio}" for ratio in ratios} | {REAL.name: REAL_IN_PAPER}
    folder = Path(__file__).parent
    (folder / "learning.svg").write_text(draw_learned(found))
    (folder / "learning.md").write_text(write_note(found, _say_how(ratios), paper_datasets))
    for corpus, of in found.items():
        for name, learned in of.items():
            for seed, value in zip(SEEDS, learned.by_seed, strict=True):
                yield Measurement(f"{corpus}, {name}, seed {seed}", value, "mean AP")
            low_high = f"{learned.interval.low:.4f} to {learned.interval.high:.4f}"
            yield Measurement(f"{corpus}, {name}", learned.mean, "mean AP", f"95 % {low_high}")
            if name != "plain":
                gain = learned.gain_over(of["plain"])
                value = learned.mean - of["plain"].mean
                paper = paper_gain(paper_datasets[corpus], name)
                beside = f"95 % {gain.low:+.4f} to {gain.high:+.4f}; the paper's {paper:+.4f}"
                yield Measurement(f"{corpus}, {name} over plain", value, "mean AP", beside)
        print(f"{corpus}: {say_order(of, paper_datasets[corpus])}")


def learn(root: Path, generated: list[Corpus], deadline: float) -> dict[str, dict[str, Learned]] | None:
    """Return what every network learned of every corpus; None where the deadline came first."""
    datasets = {corpus: make_dataset(root, corpus, CORPUS_SEED) for corpus in generated}
    if sample := os.environ.get("SIXRAY_SAMPLE"):
        datasets[REAL] = convert_corpus(Path(sample), root / "real-dataset")
    else:
        print("real scans are left out: SIXRAY_SAMPLE names no folder of them", file=sys.stderr)
    weights = pretrain(root)
    cells = [(corpus, name, seed) for corpus in datasets for seed in SEEDS for name in NETWORKS]
    for number, (corpus, name, seed) in enumerate(cells):
        if time.monotonic() > deadline:
            print(f"{number} of {len(cells)} cells are done: run it again to go on", file=sys.stderr)
            return None
        print(f"cell {number + 1} of {len(cells)}: {corpus.name}, {name}, seed {seed}", file=sys.stderr)
        finish_cell(root, datasets[corpus], corpus, name, seed, weights)
    return {
        corpus.name: {
            name: rate_runs([read_cell(root, dataset, corpus, name, seed) for seed in SEEDS], draw_seed)
            for draw_seed, name in enumerate(NETWORKS)
        }
        for corpus, dataset in datasets.items()
    }


def make_dataset(root: Path, corpus: Corpus, seed: int) -> Dataset:
    """Return a generated corpus as a dataset, made unless it is there."""
    folder = root / corpus.name.replace(" ", "-").replace(":", "-")
    if not (folder / "dataset/dataset.json").exists():
        generate_corpus(
            SynthConfig(
                output=str(folder / "corpus"),
                num_scans=corpus.num_scans,
                seed=seed,
                negatives_per_positive=corpus.negatives_per_positive,
                clutter=CLUTTER,
            )
        )
    return convert_corpus(folder / "corpus", folder / "dataset")


def convert_corpus(corpus: Path, output: Path) -> Dataset:
    """Return a corpus as a dataset, converted unless it is there."""
    if not (output / "dataset.json").exists():
        flags = ["--input", str(corpus), "--output", str(output), "--shard-bytes", "32000000"]
        if (code := convert(flags)) != 0:
            raise RuntimeError(f"sixray convert must end with 0, got {code} ({corpus})")
    return open_dataset(str(output))


def pretrain(root: Path) -> str:
    """Return a file with the weights that every cell's backbone begins with, made unless it is there."""
    path = root / "backbone.safetensors"
    if not path.exists():
        dataset = make_dataset(root, PRETRAINING, PRETRAINING_SEED)
        config = make_config("plain", 0, PRETRAINING.num_epochs, weights=None)
        model = train(dataset, str(root / "pretraining/run"), config).model
        prefix = "backbone."
        state = model.network.state_dict()
        weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        temporary = path.with_suffix(".tmp")
        safetensors.torch.save_file(weights, temporary)
        temporary.rename(path)
    return str(path)


def make_config(network: str, seed: int, num_epochs: int, weights: str | None) -> TrainConfig:
    """Return the settings of a cell: networks differ in levels, refinement and loss, as in Table 4, and in no more."""
    return TrainConfig(
        recipe="bench_learning",
        network=network,
        backbone=BACKBONE,
        num_levels=1 if network == "plain" else 3,
        pretrained=weights is not None,
        backbone_weights=weights,
        image_size_px=IMAGE_PX,
        resize_px=IMAGE_PX * 9 // 8,
        batch_size=16,
        max_epochs=num_epochs,
        learning_rate=5e-4,
        optimizer=AdamW(),
        loss=LossConfig(balanced=network in ("ch", "chr")),
        validation_fraction=0.0,
        seed=seed,
    )


def finish_cell(root: Path, dataset: Dataset, corpus: Corpus, name: str, seed: int, weights: str) -> None:
    """Train and score one network, as far as that is not done."""
    folder = _cell_folder(root, corpus, name, seed)
    if (folder / "predictions/done").exists():
        return
    result = train(dataset, str(folder / "run"), make_config(name, seed, corpus.num_epochs, weights))
    score_datasets(
        ScoreConfig(
            model=result.model_url,
            inputs=(dataset.url,),
            output=str(folder / "predictions"),
            split="test",
            engine="eager",
            dtype="float32",
        )
    )
    (folder / "predictions/done").touch()


def read_cell(root: Path, dataset: Dataset, corpus: Corpus, name: str, seed: int) -> ScoredScans:
    """Return the scored test split of a finished cell."""
    folder = _cell_folder(root, corpus, name, seed)
    model_id = load_model(str(folder / "run/model")).model_id
    return join_predictions(open_predictions(str(folder / "predictions" / model_id)), dataset, "test")


def _cell_folder(root: Path, corpus: Corpus, name: str, seed: int) -> Path:
    return root / "cells" / corpus.name.replace(" ", "-").replace(":", "-") / f"{name}-seed-{seed}"


def _deadline() -> float:
    minutes = os.environ.get("SIXRAY_BENCH_MINUTES")
    return time.monotonic() + 60 * float(minutes) if minutes else float("inf")


def _say_how(ratios: list[int]) -> list[str]:
    sizes = ", ".join(
        f"{GENERATED[r].name}: {GENERATED[r].num_scans:,} scans, {GENERATED[r].num_epochs} epoch(s)" for r in ratios
    )
    left_out = [
        f"{corpus.name}, {corpus.num_scans:,} scans a cell" for r, corpus in GENERATED.items() if r not in ratios
    ]
    return [
        f"{BACKBONE} at {IMAGE_PX} px, AdamW, seeds {', '.join(map(str, SEEDS))}; on {describe_hardware()}",
        f"sizes: {sizes}; {REAL.name}: {REAL.num_epochs} epochs, held against the paper's {REAL_IN_PAPER}",
        *(f"not run here: {words}" for words in left_out),
        f"backbones begin with the weights of a `plain` network that learned the same classes of "
        f"{PRETRAINING.num_scans:,} other generated scans, one in two positive: nearer to the task than ImageNet's "
        f"are, and nearest to `plain`'s",
        "in each round of the bootstrap the test scans are drawn anew, alike for all networks, and the seeds too",
        "written by `python -m tests.bench learning`; every figure is in the CSV beside it",
    ]
