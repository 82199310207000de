"""Fetch the programs of a cluster from PyPI, Maven and Go, in the versions of `deploy/versions.env`.

    python -m deploy.local.fetch [NAME …]

Flink's jars come from PyPI, where Flink's own Python package has them; Beam's job server from Maven; the S3 server, the
Prism runner and kustomize are built by Go. The operators' own schemas come from Maven (Flink's) and Go (Prometheus').
Programs already present in their version are skipped.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.versions import read_versions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bootstrap" / "cluster"
GO_PROGRAMS = {
    "prism": ("github.com/apache/beam/sdks/v2/go/cmd/prism", "PRISM_VERSION"),
    "versitygw": ("github.com/versity/versitygw/cmd/versitygw", "VERSITYGW_VERSION"),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", "KUSTOMIZE_VERSION"),
}
CLUSTER = ("flink", "job-server", "versitygw")
"""Programs of a local cluster."""
SCHEMAS = ("operator", "prometheus-operator")
"""Programs and schemas that check manifests."""
_PROMETHEUS_MODULE = "github.com/prometheus-operator/prometheus-operator"


def fetch(names: Sequence[str] = CLUSTER, folder: Path = FOLDER) -> None:
    """Fetch the named programs into `folder`.

    Raises:
        FileNotFoundError: Java, Maven, Go or uv is not on this machine.
        subprocess.CalledProcessError: one of them failed, and has said why.
    """
    versions = read_versions()
    makers: dict[str, tuple[str, Callable[[Path, dict[str, str]], None]]] = {
        "flink": ("FLINK_VERSION", _fetch_flink),
        "job-server": ("BEAM_JOB_SERVER_VERSION", _fetch_job_server),
        "operator": ("FLINK_OPERATOR_VERSION", _fetch_operator),
        "prometheus-operator": ("PROMETHEUS_OPERATOR_VERSION", _fetch_prometheus_operator),
    }
    for name in names:
        version_name, make = makers[name] if name in makers else (GO_PROGRAMS[name][1], _go_maker(name))
        stamp = folder / "fetched" / f"{name}-{versions[version_name]}"
        if stamp.exists():
            continue
        print(f"fetch: {name} {versions[version_name]}", file=sys.stderr, flush=True)
        make(folder, versions)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _fetch_flink(folder: Path, versions: dict[str, str]) -> None:
    target = folder / "flink"
    shutil.rmtree(target, ignore_errors=True)
    package = f"apache-flink-libraries=={versions['FLINK_VERSION']}"
    uv = os.environ.get("UV", "uv")  # `uv run` says which it is
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(target), package)


def _fetch_job_server(folder: Path, versions: dict[str, str]) -> None:
    target = folder / "job-server"
    shutil.rmtree(target, ignore_errors=True)
    _run(
        *("mvn", "--quiet", "--batch-mode", "--file", str(Path(__file__).with_name("job-server.pom.xml"))),
        *("dependency:copy-dependencies", f"-DoutputDirectory={target}"),
        f"-Dbeam.artifact={versions['BEAM_JOB_SERVER_ARTIFACT']}",
        f"-Dbeam.version={versions['BEAM_JOB_SERVER_VERSION']}",
    )
    # Separate, because JobManager and TaskManagers load Flink's classes from Flink itself.
    (target / "flink").mkdir()
    for jar in target.glob("flink-*.jar"):
        jar.rename(target / "flink" / jar.name)


def _fetch_operator(folder: Path, versions: dict[str, str]) -> None:
    artifact = f"org.apache.flink:flink-kubernetes-operator-api:{versions['FLINK_OPERATOR_VERSION']}"
    target = folder / "operator"
    _run("mvn", "--quiet", "--batch-mode", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false")
    _run("mvn", "--quiet", "--batch-mode", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}")


def _fetch_prometheus_operator(folder: Path, versions: dict[str, str]) -> None:
    target = folder / "prometheus-operator"
    shutil.rmtree(target, ignore_errors=True)
    module = f"{_PROMETHEUS_MODULE}@{versions['PROMETHEUS_OPERATOR_VERSION']}"
    _run("go", "mod", "download", "-modcacherw", module, GOMODCACHE=str(target))


def _go_maker(name: str) -> Callable[[Path, dict[str, str]], None]:
    path, version_name = GO_PROGRAMS[name]

    def make(folder: Path, versions: dict[str, str]) -> None:
        _run("go", "install", f"{path}@{versions[version_name]}", GOBIN=str(folder / "bin"))

    return make


def _run(*words: str, **variables: str) -> None:
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(f"program must be on the PATH, got none: {words[0]}; install it and run this again")
    subprocess.run(words, check=True, env=os.environ | variables, stdout=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch the named programs, by default those of a cluster; return the exit code."""
    known = sorted({*CLUSTER, *SCHEMAS, *GO_PROGRAMS})
    parser = argparse.ArgumentParser(prog="python -m deploy.local.fetch", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    flags = parser.parse_args(argv)
    if unknown := sorted(set(flags.names) - set(known)):
        parser.error(f"name must be one of {known}, got {unknown}")
    fetch(flags.names or CLUSTER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
