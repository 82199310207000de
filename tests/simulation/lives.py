"""Live through power cuts with a job until it is done, and check after each life what must hold.

After every cut: each file that stands under a final name is the one that a run without cuts writes, and a dataset or
predictions that say they are finished are whole, as `sixray verify` finds them. At the end: the bytes are those of a
run without cuts, and they are still there after one more cut.
"""

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from unittest import mock

from pipelines.runtime import process_pool
from pipelines.verify import main as verify
from shards import storage
from tests.corpora import make_corpus
from tests.golden import steps
from tests.shards.plain_calls import convert_plainly, verify_plainly
from tests.simulation.power import PowerCut, PowerCuts


@dataclass(frozen=True, slots=True)
class Job:
    """A job that writes into a folder, and how to see whether what it left can be trusted."""

    run: Callable[[Path], None]
    """Run it, or go on with it; raises if it cannot."""
    find_damage: Callable[[Path], str]
    """Say what is wrong with an output that claims to be finished; empty if nothing is."""
    volatile: tuple[str, ...] = ()
    """Files that say how a run went, and may differ between two."""


class BrokenPromiseError(AssertionError):
    """Something was lost, or is not what it says."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run without power cuts."""

    files: dict[str, bytes]
    """By path."""
    num_changes: int
    """Of the disk."""


def live(job: Job, seed: int, undisturbed: Undisturbed) -> tuple[int, PowerCuts]:
    """Live until the job is done; return the number of lives, and the cuts.

    Args:
        job: to run.
        seed: of when the power is cut and of what is lost.
        undisturbed: what a run without cuts writes.

    Raises:
        BrokenPromiseError: a promise does not hold; says the seed and the changes of the last life.
    """
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "disk"
        root.mkdir()
        cuts, output = PowerCuts(root, seed), root / "output"
        for life in range(1, 100):
            try:
                with cuts.power(moments.randrange(undisturbed.num_changes + 5)):
                    job.run(output)
            except (Exception, PowerCut) as error:
                if not cuts.is_off:
                    raise BrokenPromiseError(_say(seed, f"the job cannot go on: {error!r}", cuts)) from error
            was_cut = cuts.is_off
            cuts.lose()  # also if the job was done before the moment came
            _check(job, output, seed, cuts)
            found, expected = files_of(output, job), undisturbed.files
            if changed := sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name]):
                raise BrokenPromiseError(_say(seed, f"other bytes than without cuts: {changed}", cuts))
            if was_cut:
                continue
            if others := sorted(found.keys() ^ expected.keys()):
                raise BrokenPromiseError(_say(seed, f"done with other files than without cuts: {others}", cuts))
            return life, cuts
    raise BrokenPromiseError(_say(seed, "it did not end in 100 lives", cuts))


@dataclass(slots=True)
class Tally:
    """What many lives came to."""

    num_changes: int
    """Of the disk, by one run without cuts."""
    num_jobs: int = 0
    num_lives: int = 0
    num_broken: int = 0
    """Jobs in which a promise was broken."""
    num_lost: Counter[str] = field(default_factory=Counter)
    """By what the disk lost: content of files, changes of names."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.num_jobs} jobs of {self.num_changes} changes of the disk, {self.num_lives} lives "
            f"({self.num_lives / self.seconds * 3600:,.0f} an hour), lost: content of {self.num_lost['content']} "
            f"files, {self.num_lost['names']} changes of names; {self.num_broken} broken promises"
        )


def live_for(name: str, seed: int, seconds: float, max_lives: int | None = None) -> Tally:
    """Run a job with one seed after the other, at least once, until the time is over or there were enough lives.

    Prints the seed and the last life of each job in which a promise is broken.
    """
    nothing = mock.Mock()
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.multiple(os, fsync=nothing, fdatasync=nothing),  # the disk is simulated
        mock.patch.object(process_pool, "MAX_PROCESSES", 1),
    ):
        job = make_job(name, Path(scratch))
        undisturbed = run_undisturbed(job)
        tally, began = Tally(undisturbed.num_changes), time.monotonic()
        while not tally.num_jobs or (tally.seconds < seconds and tally.num_lives < (max_lives or tally.num_lives + 1)):
            try:
                num_lives, cuts = live(job, seed + tally.num_jobs, undisturbed)
                tally.num_lives += num_lives
                tally.num_lost.update(cuts.num_lost)
            except BrokenPromiseError as error:
                tally.num_broken += 1
                print(error, flush=True)
            tally.num_jobs += 1
            tally.seconds = time.monotonic() - began
    return tally


def run_undisturbed(job: Job) -> Undisturbed:
    """Run a job without power cuts."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "disk"
        root.mkdir()
        cuts = PowerCuts(root, 0)
        with cuts.power():
            job.run(root / "output")
        return Undisturbed(files_of(root / "output", job), len(cuts.trace))


def files_of(output: Path, job: Job) -> dict[str, bytes]:
    """Return the files of an output by path, without temporary ones."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in job.volatile and not path.name.endswith(storage.TEMPORARY_SUFFIX)
    }


def _check(job: Job, output: Path, seed: int, cuts: PowerCuts) -> None:
    try:
        damage = job.find_damage(output)
    except Exception as error:  # whatever a damaged file makes of its reader
        damage = repr(error)
    if damage:
        raise BrokenPromiseError(_say(seed, damage, cuts))


def _say(seed: int, what: str, cuts: PowerCuts) -> str:
    return "\n".join([f"seed {seed}: {what}; the last life:", *(f"  {line}" for line in cuts.trace)])


def _find_damage(output: Path, marker: str) -> str:
    markers = [output / marker, *output.glob(f"*/{marker}")]
    for path in markers:
        if path.exists():
            said = StringIO()
            with redirect_stdout(said), redirect_stderr(said):
                code = verify([str(path.parent)])
            if code != 0:
                return f"{path.parent.name} says that it is finished, and is not: {said.getvalue()[-400:]}"
    return ""


def _find_damage_of_dataset(output: Path) -> str:
    if not (output / "dataset.json").exists():
        return ""
    return "; ".join(map(str, verify_plainly(output)))


def _command(step: Callable[[Path], int]) -> Callable[[Path], None]:
    def run(output: Path) -> None:
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = step(output)
        if code not in (0, 1):
            raise BrokenPromiseError(f"the command must go on, got exit code {code}: {said.getvalue()[-600:]}")

    return run


def make_job(name: str, scratch: Path) -> Job:
    """Return one of `JOBS`."""
    return _plain_conversion(scratch / "corpus") if name == "plain" else _COMMANDS[name]


def _plain_conversion(corpus: Path) -> Job:
    make_corpus(corpus, num_train=9, num_test=3)

    def run(output: Path) -> None:
        storage.sweep_temporaries(output)
        convert_plainly(corpus, output, shard_bytes=4_000)

    return Job(run, _find_damage_of_dataset)


(_PREDICTIONS,) = (path.parent for path in steps.PREDICTIONS.rglob("run.json"))
_COMMANDS: dict[str, Job] = {
    "convert": Job(_command(steps.convert), lambda output: _find_damage(output, "dataset.json")),
    "reshard": Job(
        _command(lambda output: steps.reshard("where", output)), lambda output: _find_damage(output, "dataset.json")
    ),
    "score": Job(
        _command(lambda output: steps.score(steps.MODEL, output)),
        lambda output: _find_damage(output, "run.json"),
        ("run.json",),
    ),
    "evaluate": Job(_command(lambda output: steps.evaluate(_PREDICTIONS, output)), lambda output: ""),
    "alarms": Job(_command(lambda output: steps.list_alarms(_PREDICTIONS, output)), lambda output: ""),
}
JOBS = ("plain", *_COMMANDS)
"""A conversion without Beam, a life of which takes some hundredths of a second, and the commands themselves.

The commands run on the datasets, models and predictions of `tests.golden`.
"""
