"""Start and stop the local cluster: `python -m deploy.local.cluster up | down | status`.

`up` fetches missing programs, starts missing servers and returns once every server answers; it can be repeated.
`down` stops all servers and removes their folder, including the buckets.
"""

import argparse
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from deploy.local import processes
from deploy.local.fetch import FOLDER, fetch
from deploy.local.processes import Service, await_ready, serves_tcp
from deploy.local.services import ClusterConfig, Ports, make_services, write_flink_config, write_hosts

STATE = FOLDER / "state"
CONFIG_NAME, VARIABLES_NAME = "cluster.json", "cluster.env"
_LIMIT_SECONDS = 120.0


class Cluster:
    """Flink, Beam's job server and workers, and an S3 store, all on loopback."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.folder = Path(config.folder)
        self.services = {service.name: service for service in make_services(config)}

    def up(self) -> None:
        """Start the missing servers and wait until all respond.

        Raises:
            ValueError: a port is taken by somebody else.
            RuntimeError: a server ended.
            TimeoutError: a server does not serve.
        """
        if all(processes.pid_of(name, self.folder) is None for name in self.services):
            check_ports(self.config.ports)
        write_flink_config(self.config)
        write_hosts(self.config)
        self._write_own(CONFIG_NAME, self.config.to_json())
        self._write_own(VARIABLES_NAME, describe_variables(self.config))
        for service in self.services.values():
            processes.start(service, self.folder)
        await_ready(list(self.services.values()), self.folder, _LIMIT_SECONDS)

    def down(self) -> None:
        """Stop all servers in reverse order and remove their files."""
        for name in processes.started_in(self.folder):
            processes.stop(name, self.folder)
        shutil.rmtree(self.folder)

    def kill(self, name: str) -> None:
        """Kill a server."""
        processes.kill(name, self.folder)

    def start(self, name: str) -> None:
        """Start a stopped server and wait until it responds."""
        service = self.services[name]
        processes.start(service, self.folder)
        await_ready([service], self.folder, _LIMIT_SECONDS)

    def status(self) -> dict[str, str]:
        """Return `serves`, `runs` (and does not answer) or `is down` of each server."""
        return {name: self._state_of(service) for name, service in self.services.items()}

    def _state_of(self, service: Service) -> str:
        if processes.pid_of(service.name, self.folder) is None:
            return "is down"
        return "serves" if service.is_ready() else "runs"

    def _write_own(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)  # it holds the store's key
        path.write_text(text)


def check_ports(ports: Ports) -> None:
    """Raise ValueError if a port is in use."""
    for one in fields(ports):
        if serves_tcp(port := getattr(ports, one.name)):
            raise ValueError(
                f"port must be free, got {port}, which something listens on; give another one: --port {one.name}=N"
            )


def describe_variables(config: ClusterConfig) -> str:
    """Return shell lines: the store's environment and the options that follow the lone `--`."""
    pairs = config.s3_variables() | {"BEAM_OPTIONS": " ".join(config.beam_options())}
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in pairs.items())


def read_cluster(folder: Path) -> Cluster | None:
    """Return the cluster whose files lie in `folder`, or None."""
    try:
        return Cluster(ClusterConfig.from_json((folder / CONFIG_NAME).read_text()))
    except FileNotFoundError:
        return None


def make_config(folder: Path, ports: Ports, num_task_managers: int) -> ClusterConfig:
    """Return a new cluster's configuration with a new key for its store."""
    return ClusterConfig(
        folder=str(folder),
        ports=ports,
        num_task_managers=num_task_managers,
        access_key="sixray",
        secret_key=secrets.token_hex(16),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if the cluster is in the requested state, else 1."""
    flags = _make_parser().parse_args(argv)
    folder = Path(flags.folder)
    cluster = read_cluster(folder)
    if flags.command == "up":
        return _up(cluster, folder, flags)
    if cluster is None:
        print(f"no cluster runs from {folder}")
        return int(flags.command == "status")
    if flags.command == "down":
        cluster.down()
        print("all is down, nothing is left")
        return 0
    states = cluster.status()
    print("\n".join(f"{name} {state}" for name, state in states.items()))
    return int(any(state != "serves" for state in states.values()))


def _up(cluster: Cluster | None, folder: Path, flags: argparse.Namespace) -> int:
    fetch()
    if cluster is None:
        ports = replace(Ports.free() if flags.free_ports else Ports(), **dict(flags.port))
        cluster = Cluster(make_config(folder.resolve(), ports, flags.task_managers))
    try:
        cluster.up()
    except (ValueError, RuntimeError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"ready: Flink at {cluster.config.flink_url}, S3 at {cluster.config.s3_url}; for a shell:")
    print(f"  . {os.path.relpath(folder / VARIABLES_NAME)}")
    print("  sixray convert --input s3://… --output s3://… -- $BEAM_OPTIONS")
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.cluster", allow_abbrev=False)
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--folder", default=str(STATE), help="for logs, scratch and buckets (%(default)s)")
    parser.add_argument("--task-managers", type=int, default=2, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--free-ports", action="store_true", help="take any ports that are free")
    parser.add_argument(
        "--port", action="append", default=[], type=_port, metavar="NAME=N", help="another port for one server"
    )
    return parser


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    known = [one.name for one in fields(Ports)]
    if name not in known or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"must be NAME=N with a NAME of {', '.join(known)}, got {text!r}")
    return name, int(number)


if __name__ == "__main__":
    sys.exit(main())
