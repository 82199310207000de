"""Tests of the local servers: start, stop, occupied ports, the version file."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from deploy.local import processes
from deploy.local.cluster import check_ports, describe_variables, main, make_config
from deploy.local.processes import Service, await_ready, members_of, pid_of, start, stop
from deploy.local.services import ClusterConfig, Ports, make_services, write_flink_config, write_hosts
from deploy.local.versions import read_versions

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
# A child in its own process group that ignores SIGTERM, as a careless server leaves behind.
PARENT = f"""
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child], process_group=0)
{SLEEPER}
"""


def service(code=SLEEPER, is_ready=lambda: True):
    return Service(name="one", words=[sys.executable, "-c", code], variables={}, is_ready=is_ready)


def started(code, folder):
    """Start a server; return its process."""
    start(service(code), folder)
    pid = pid_of("one", folder)
    assert pid is not None
    return pid


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """A running server with a child that ignores SIGTERM; its process."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)
    pid = started(PARENT, tmp_path)
    wait_for(lambda: len(members_of(pid)) == 2)
    return pid


@pytest.fixture
def orphan(parent, tmp_path):
    """The same server, killed: only the child is left."""
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: pid_of("one", tmp_path) is None)
    assert len(members_of(parent)) == 1
    return parent


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_server_starts_once_and_stops(tmp_path):
    pid = started(SLEEPER, tmp_path)
    start(service(), tmp_path)
    assert pid_of("one", tmp_path) == pid
    assert stop("one", tmp_path)
    assert pid_of("one", tmp_path) is None and members_of(pid) == []
    assert not stop("one", tmp_path)


def test_children_of_a_server_end_with_it(parent, tmp_path):
    assert stop("one", tmp_path)
    assert members_of(parent) == []


def test_a_killed_server_is_down_and_its_children_are_found(orphan, tmp_path):
    assert not stop("one", tmp_path)
    assert members_of(orphan) == []


def test_another_process_with_the_same_number_is_not_taken_for_the_server(tmp_path):
    (tmp_path / "one.pid").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    assert pid_of("one", tmp_path) is None


def test_a_session_that_has_the_number_of_a_server_by_now_is_left_alone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True) as stranger:
        (tmp_path / "one.pid").write_text(json.dumps({"pid": stranger.pid, "started": "1"}))
        assert not stop("one", tmp_path)
        processes.kill("one", tmp_path)
        assert members_of(stranger.pid) == [stranger.pid]
        assert not (tmp_path / "one.pid").exists()
        stranger.kill()


def test_what_a_dead_server_left_ends_before_it_starts_again(orphan, tmp_path):
    after = started(SLEEPER, tmp_path)
    assert members_of(orphan) == [] and members_of(after) == [after]
    stop("one", tmp_path)


def test_a_server_that_ends_is_named_with_its_last_words(tmp_path):
    broken = service("raise SystemExit('no room')", is_ready=lambda: False)
    start(broken, tmp_path)
    with pytest.raises(RuntimeError, match=r"one must run until it is stopped, it ended: no room \(.*one\.log\)"):
        await_ready([broken], tmp_path, 10)
    assert not stop("one", tmp_path)


def test_a_server_that_never_serves_is_named(tmp_path):
    slow = service(is_ready=lambda: False)
    start(slow, tmp_path)
    with pytest.raises(TimeoutError, match="one must serve within 1 s"):
        await_ready([slow], tmp_path, 1)
    stop("one", tmp_path)


def test_a_taken_port_is_named_with_the_flag_that_mends_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"port must be free, got {port}, .*--port s3=N"):
            check_ports(Ports(**(vars_of(Ports.free()) | {"s3": port})))


def vars_of(ports):
    return {name: getattr(ports, name) for name in Ports.__dataclass_fields__}


def test_a_configuration_survives_its_file(tmp_path):
    config = make_config(tmp_path, Ports.free(), 3)
    assert ClusterConfig.from_json(config.to_json()) == config
    assert config.secret_key not in repr(describe_variables(config).partition("AWS_SECRET_ACCESS_KEY")[0])


def test_each_task_manager_has_a_worker_pool_of_its_own(tmp_path):
    config = make_config(tmp_path, Ports.free(), 2)
    write_flink_config(config)
    write_hosts(config)
    services = {service.name: service for service in make_services(config)}
    assert {"workers-1", "workers-2", "task-manager-1", "task-manager-2"} <= services.keys()
    hosts = [(tmp_path / "conf" / f"hosts-{index}").read_text() for index in (1, 2)]
    assert "127.0.0.1 beam-workers" in hosts[0] and "127.0.0.2 beam-workers" in hosts[1]
    assert f"--address=127.0.0.2:{config.ports.workers}" in services["workers-2"].words


def test_nothing_listens_beyond_loopback(tmp_path):
    config = make_config(tmp_path, Ports.free(), 2)
    write_flink_config(config)
    settings = (tmp_path / "conf" / "config.yaml").read_text()
    for name in ("rest.bind-address", "jobmanager.bind-host", "taskmanager.bind-host"):
        assert f'{name}: "127.0.0.1"' in settings
    assert all("0.0.0.0" not in word for service in make_services(config) for word in service.words)


def test_commands_without_a_cluster_say_so(tmp_path, capsys):
    assert main(["down", "--folder", str(tmp_path)]) == 0
    assert main(["status", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("no cluster runs from") == 2


@pytest.mark.parametrize("text", ["s4=1", "s3", "s3=x"])
def test_a_port_that_is_none_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit):
        main(["up", "--port", text])
    assert "must be NAME=N with a NAME of flink_rest" in capsys.readouterr().err


def test_a_line_that_is_no_version_is_named(tmp_path):
    path = tmp_path / "versions.env"
    path.write_text("# fine\nA=1\nB 2\n")
    with pytest.raises(ValueError, match=r"line must be NAME=value, got 'B 2' \(.* line 3\)"):
        read_versions(path)
