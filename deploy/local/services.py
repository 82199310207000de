"""List the servers of the local cluster and the command that starts each.

Nothing here listens beyond loopback.
"""

import json
import socket
import sys
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.fetch import FOLDER
from deploy.local.processes import Service, free_port, serves_tcp
from deploy.local.versions import read_versions

LOG_CONFIG = Path(__file__).with_name("log4j2.properties")
POOL = Path(__file__).with_name("pool.py")
WORKERS_STAY_MS = 5000
"""Idle timeout of a worker, shorter than the restart delay of a job: else it would meet its dead workers again."""
RESTART_DELAY_SECONDS = 8
POOL_HOST = "beam-workers"
"""Host name by which each TaskManager reaches its own worker pool."""
REGION = "us-east-1"

# Flink reads its own classes by reflection; since Java 17 that must be allowed (the list of Flink's own config.yaml).
_OPENS = (
    *("java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text", "java.time"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"),
)
_JVM_OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS]
_JVM_EXPORTS = [f"--add-exports=java.base/{package}=ALL-UNNAMED" for package in ("sun.net.util", "sun.security.util")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Loopback port of each server."""

    flink_rest: int = 8081
    flink_rpc: int = 6123
    job_server: int = 8099
    artifacts: int = 8098
    expansion: int = 8097
    workers: int = 50000
    s3: int = 7070

    @classmethod
    def free(cls) -> "Ports":
        """Return free ports."""
        return cls(**{name: free_port() for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """One cluster on this machine."""

    folder: str
    """For logs, scratch, the store's buckets and the files of running servers."""
    ports: Ports = field(default_factory=Ports)
    num_task_managers: int = 2
    slots: int = 2
    """Per TaskManager: with two, one TaskManager alone can continue a job of two."""
    access_key: str
    secret_key: str
    store_url: str = ""
    """Replaces the store's own URL: a proxy in tests."""
    restart_attempts: int = 6
    """Restarts before a job fails; half a minute without a TaskManager costs several."""
    programs: str = str(FOLDER)
    """Folder of `deploy.local.fetch`."""

    def to_json(self) -> str:
        """Return the JSON that later commands read."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ClusterConfig":
        """Parse the output of `to_json`."""
        facts = json.loads(text)
        return cls(**facts | {"ports": Ports(**facts["ports"])})

    @property
    def s3_url(self) -> str:
        """URL of the store."""
        return self.store_url or f"http://127.0.0.1:{self.ports.s3}"

    @property
    def flink_url(self) -> str:
        """URL of Flink's web interface and REST API."""
        return f"http://127.0.0.1:{self.ports.flink_rest}"

    def s3_variables(self) -> dict[str, str]:
        """Return the environment variables for the store."""
        return {
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }

    def beam_options(self, parallelism: int | None = None) -> list[str]:
        """Return the Beam options that run a job here."""
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint=127.0.0.1:{self.ports.job_server}",
            *self.worker_options(POOL_HOST),
            f"--parallelism={parallelism or self.num_task_managers}",
            # Workers stay between the stages of a job; otherwise each stage starts its own, seconds each.
            f"--environment_cache_millis={WORKERS_STAY_MS}",
        ]

    def worker_options(self, host: str) -> list[str]:
        """Return the Beam options that name an engine's worker pool."""
        return [
            "--environment_type=EXTERNAL",
            f"--environment_config={host}:{self.ports.workers}",
            "--experiments=disable_logging_submission_environment",  # it asks pip, which uv's environments do not have
        ]


def make_services(config: ClusterConfig) -> list[Service]:
    """Return the servers in start order."""
    numbers = range(1, config.num_task_managers + 1)
    workers = [_workers(config, index) for index in numbers]
    task_managers = [_task_manager(config, index) for index in numbers]
    return [_s3(config), *workers, _job_manager(config), *task_managers, _job_server(config)]


def write_flink_config(config: ClusterConfig) -> None:
    """Write Flink's `config.yaml`, which JobManager and TaskManagers read."""
    folder = Path(config.folder)
    settings = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": config.ports.flink_rpc,
        "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": config.ports.flink_rest,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": config.slots,
        "taskmanager.load-balance.mode": "SLOTS",
        # Sizes that Flink's start scripts derive; the Python package has no such scripts.
        "taskmanager.cpu.cores": float(config.slots),
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "128m",
        "taskmanager.memory.jvm-overhead.max": "128m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.task.off-heap.size": "128m",
        "taskmanager.memory.network.min": "256m",
        "taskmanager.memory.network.max": "256m",
        # Of each shuffle; Flink's 512 are 16 MB, times the shuffles of `convert` and the slots.
        "taskmanager.network.sort-shuffle.min-buffers": 64,
        "taskmanager.memory.managed.size": "128m",
        # The runner's classes lie on the cluster's class path, so that a job brings none to be loaded twice.
        "classloader.resolve-order": "parent-first",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": config.restart_attempts,
        "restart-strategy.fixed-delay.delay": f"{RESTART_DELAY_SECONDS} s",
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 20000,
        # A job that waits longer for a slot fails its attempt; a lost TaskManager returns sooner.
        "slot.request.timeout": 120000,
        "io.tmp.dirs": str(folder / "scratch"),
        "web.upload.dir": str(folder / "scratch" / "upload"),
        "web.submit.enable": False,
    }
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    (folder / "scratch" / "upload").mkdir(parents=True, exist_ok=True)
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "conf" / "config.yaml").write_text("".join(lines))


def write_hosts(config: ClusterConfig) -> None:
    """Write the hosts file of each TaskManager: this machine and its own worker pool."""
    for index in range(1, config.num_task_managers + 1):
        lines = [f"127.0.0.1 localhost {socket.gethostname()}", f"{_pool_address(index)} {POOL_HOST}", ""]
        Path(config.folder, "conf", f"hosts-{index}").write_text("\n".join(lines))


def num_registered(config: ClusterConfig) -> int:
    """Return the number of TaskManagers that Flink knows; 0 without an answer."""
    try:
        with urllib.request.urlopen(f"{config.flink_url}/overview", timeout=2) as answer:
            return int(json.load(answer)["taskmanagers"])
    except (OSError, ValueError):
        return 0


def _s3(config: ClusterConfig) -> Service:
    buckets = Path(config.folder) / "buckets"
    buckets.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{config.ports.s3}"
    program = f"{config.programs}/bin/versitygw"
    return Service(
        name="s3",
        words=[program, "--port", address, "--region", REGION, "--quiet", "posix", str(buckets)],
        variables={"ROOT_ACCESS_KEY": config.access_key, "ROOT_SECRET_KEY": config.secret_key},
        is_ready=lambda: serves_tcp(config.ports.s3),
    )


def _java(config: ClusterConfig, heap: str, flink: str, *words: str) -> list[str]:
    """Return the command of a Java program: JVM flags, main class, arguments; `flink` is a class path."""
    logging = sorted(str(path) for path in Path(config.programs, "flink/pyflink/lib").glob("log4j-*.jar"))
    return [
        *("java", f"-Xmx{heap}", *_JVM_OPENS, *_JVM_EXPORTS, f"-Dlog4j.configurationFile={LOG_CONFIG}"),
        f"-Djava.io.tmpdir={config.folder}/scratch",
        *("-cp", ":".join([f"{config.programs}/{flink}", f"{config.programs}/job-server/*", *logging])),
        *words,
    ]


def _flink(config: ClusterConfig, *words: str) -> list[str]:
    jar = f"flink/pyflink/lib/flink-dist-{read_versions()['FLINK_VERSION']}.jar"
    return _java(config, "512m", jar, *words, "--configDir", f"{config.folder}/conf")


def _job_manager(config: ClusterConfig) -> Service:
    main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    return Service(
        name="job-manager",
        words=_flink(config, main),
        variables={},
        is_ready=lambda: serves_tcp(config.ports.flink_rest),
    )


def _task_manager(config: ClusterConfig, index: int) -> Service:
    main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    hosts = f"-Djdk.net.hosts.file={config.folder}/conf/hosts-{index}"
    resource = f"-Dtaskmanager.resource-id=task-manager-{index}"
    return Service(
        name=f"task-manager-{index}",
        words=[*_flink(config, hosts, main), resource],
        variables={},
        is_ready=lambda: num_registered(config) >= index,
    )


def _workers(config: ClusterConfig, index: int) -> Service:
    # Workers are started by `python` of the PATH; unless this environment comes first, a job hangs.
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    host, port = _pool_address(index), config.ports.workers
    return Service(
        name=f"workers-{index}",
        words=[sys.executable, str(POOL), f"--address={host}:{port}"],
        variables={"PATH": path, "TMPDIR": f"{config.folder}/scratch", **config.s3_variables()},
        is_ready=lambda: serves_tcp(port, host),
    )


def _pool_address(index: int) -> str:
    return f"127.0.0.{index}"  # all of 127/8 is loopback


def _job_server(config: ClusterConfig) -> Service:
    ports = config.ports
    return Service(
        name="job-server",
        words=[
            # A job's jars are those of this class path, and travel with it: Flink's client, not all of Flink.
            *_java(config, "512m", "job-server/flink/*", "org.apache.beam.runners.flink.FlinkJobServerDriver"),
            f"--flink-master=127.0.0.1:{ports.flink_rest}",
            *("--job-host=127.0.0.1", f"--job-port={ports.job_server}"),
            *(f"--artifact-port={ports.artifacts}", f"--expansion-port={ports.expansion}"),
            f"--artifacts-dir={config.folder}/artifacts",
            f"--flink-conf-dir={config.folder}/conf",
        ],
        variables={},
        is_ready=lambda: serves_tcp(ports.job_server),
    )
