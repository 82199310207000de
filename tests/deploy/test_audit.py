"""The audit of the locked packages, against a server on loopback that speaks as a database of vulnerabilities does."""

import json
import os
import shutil
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.audit import age_days, main

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".bootstrap/uv")
HOLE = {"id": "TEST-1", "modified": "2026-01-01T00:00:00Z", "summary": "a hole", "affected": []}


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    if not Path(UV).exists():
        pytest.skip("uv is not installed: make test")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


@pytest.fixture
def database():
    """The address of a database, and the packages for which it knows a hole."""
    holes: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            known = [{"id": HOLE["id"], "modified": HOLE["modified"]}]
            self.answer({"results": [{"vulns": known} if it["package"]["name"] in holes else {} for it in asked]})

        def do_GET(self):
            self.answer(HOLE)

        def answer(self, document):
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", holes
    server.shutdown()
    server.server_close()


def test_a_database_that_knows_no_hole_is_an_all_clear(database):
    assert main([UV, "--service-url", database[0]]) == 0


def test_a_known_hole_is_named(database, capsys):
    database[1].add("jinja2")
    assert main([UV, "--service-url", database[0]]) == 1
    assert "TEST-1" in (said := capsys.readouterr().out) and "jinja2" in said


def test_no_database_is_no_all_clear(capsys):
    assert main([UV, "--service-url", "http://127.0.0.1:9/"]) == 3
    assert "no database of vulnerabilities was reached; the oldest of" in capsys.readouterr().out


def test_the_age_of_a_release_is_that_of_its_first_file(tmp_path):
    lock = tmp_path / "uv.lock"
    lock.write_text(
        '[[package]]\nname = "a"\nversion = "1.0"\nsdist = { upload-time = "2026-01-03T00:00:00Z" }\n'
        'wheels = [{ upload-time = "2026-01-02T12:00:00Z" }, { upload-time = "2026-02-01T00:00:00Z" }]\n'
        '[[package]]\nname = "ours"\nversion = "0.1"\nsource = { editable = "." }\n'
    )
    assert age_days(lock, datetime(2026, 1, 12, tzinfo=UTC)) == {"a==1.0": 9}
