"""Live through power cuts with a job until it is done, and check after each life what must hold.

After every cut: a dataset or predictions that say they are finished are whole, as `sixray verify` finds them. At the
end: the bytes are those of a run without cuts, and they are still there after one more cut.
"""

import random
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

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
            if was_cut:
                continue
            found = files_of(output, job)
            expected = undisturbed.files
            if found != expected:
                names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
                raise BrokenPromiseError(_say(seed, f"other bytes than without cuts: {names}", cuts))
            return life, cuts
    raise BrokenPromiseError(_say(seed, "it did not end in 100 lives", cuts))


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


def plain_conversion(corpus: Path) -> Job:
    """Return a conversion of a generated corpus without Beam: a life takes some hundredths of a second."""
    if not corpus.exists():
        make_corpus(corpus, num_train=9, num_test=3)

    def run(output: Path) -> None:
        storage.sweep_temporaries(output)
        convert_plainly(corpus, output, shard_bytes=4_000)

    return Job(run, _find_damage_of_dataset)


(_PREDICTIONS,) = (path.parent for path in steps.PREDICTIONS.rglob("run.json"))
JOBS: dict[str, Job] = {
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
"""The commands themselves, on the datasets, models and predictions of `tests.golden`."""
