"""Are files whole or absent, and do listings see every file and no more, on a disk and in a store?"""

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from shards import storage
from shards.storage import FileInfo


@pytest.fixture
def memory():
    """An empty store in memory, which fsspec shares by class."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/../b", "/b"),
        ("/a//b", "/a/b"),
        ("/a/.hidden", "/a/.hidden"),
        ("/", "/"),
        ("file:///a/b/", "/a/b"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("memory://a", "memory://a"),
    ],
)
def test_a_url_has_one_form(url, expected):
    assert storage.normalise_url(url) == expected


def test_relative_paths_and_homes_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/x")
    assert storage.normalise_url("a/b") == f"{tmp_path}/a/b"
    assert storage.normalise_url("~/a") == "/home/x/a"
    assert storage.normalise_url(Path("a")) == f"{tmp_path}/a"


def test_urls_are_joined_and_taken_apart():
    assert storage.join_url("s3://b/", "a/", "/c.tar") == "s3://b/a/c.tar"
    assert storage.base_name("s3://b/a/c.tar") == "c.tar"
    assert storage.as_uri("/a/b") == "file:///a/b"
    assert storage.as_uri("gs://b/c") == "gs://b/c"
    assert storage.local_path("s3://b") is None
    assert storage.local_path("file:///a") == Path("/a")


@pytest.fixture(params=["disk", "memory"])
def root(request, tmp_path, memory):
    """A folder on a disk, and one in a store."""
    return str(tmp_path / "root") if request.param == "disk" else "memory://root"


def test_what_was_written_is_read_back_whole_and_in_ranges(root):
    url = storage.join_url(root, "deep/er/a.bin")
    storage.write_bytes(url, b"0123456789")
    assert storage.exists(url) and not storage.is_folder(url)
    assert storage.is_folder(root)
    assert storage.read_bytes(url) == b"0123456789"
    assert storage.read_range(url, 3, 4) == b"3456"
    assert storage.read_range(url, 8, 99) == b"89"
    with storage.open_reader(url) as handle:
        assert handle.read(2) == b"01"
    assert storage.sha256_of(url) == hashlib.sha256(b"0123456789").hexdigest()


def test_a_second_write_replaces_the_first(root):
    url = storage.join_url(root, "a")
    storage.write_bytes(url, b"first, and longer")
    storage.write_bytes(url, b"second")
    assert storage.read_bytes(url) == b"second"
    assert [info.size_bytes for info in storage.list_files(root)] == [6]


def test_what_is_absent_is_removed_without_a_word(root):
    storage.remove(storage.join_url(root, "absent"))
    storage.remove_tree(storage.join_url(root, "absent"))
    storage.write_bytes(storage.join_url(root, "a/b"), b"x")
    storage.write_bytes(storage.join_url(root, "c"), b"x")
    storage.remove_tree(storage.join_url(root, "a"))
    storage.remove(storage.join_url(root, "c"))
    assert list(storage.list_files(root)) == [] if storage.exists(root) else True


def test_a_listing_sees_every_file_below_with_its_size(root):
    for name, data in {"a": b"1", "b/c": b"22", "b/d/e f": b"", ".hidden": b"4444"}.items():
        storage.write_bytes(storage.join_url(root, name), data)
    assert sorted(storage.list_files(root), key=lambda info: info.url) == [
        FileInfo(storage.join_url(root, name), size)
        for name, size in [(".hidden", 4), ("a", 1), ("b/c", 2), ("b/d/e f", 0)]
    ]


@pytest.mark.parametrize("root", ["memory://x", "memory:///x", "memory://x/"])
def test_a_listing_spells_urls_as_the_caller_spelt_the_root(memory, root):
    memory.pipe("/x/y/z.jpg", b"123")
    (info,) = storage.list_files(root)
    assert info == FileInfo(storage.join_url(root, "y/z.jpg"), 3)
    assert info.url.startswith(storage.normalise_url(root))
    assert storage.read_bytes(info.url) == b"123"


def test_a_folder_that_cannot_be_listed_is_no_empty_one(memory, monkeypatch):
    memory.pipe({"/x/a/1.jpg": b"1", "/x/b/2.jpg": b"2"})
    listing = memory.ls

    def refuse(path, *args, **kwargs):
        if path.endswith("b"):
            raise PermissionError(f"no access to {path}")
        return listing(path, *args, **kwargs)

    monkeypatch.setattr(type(memory), "ls", lambda self, path, *args, **kwargs: refuse(path, *args, **kwargs))
    with pytest.raises(PermissionError, match="no access to x/b"):
        list(storage.list_files("memory://x"))


def test_an_absent_folder_cannot_be_listed(root):
    with pytest.raises(FileNotFoundError):
        list(storage.list_files(storage.join_url(root, "absent")))


def test_a_loop_of_links_ends_and_a_link_to_a_file_counts_as_that_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.jpg").write_bytes(b"123")
    (tmp_path / "a/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "two.jpg").symlink_to("a/one.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = sorted((Path(info.url).name, info.size_bytes) for info in storage.list_files(tmp_path))
    assert found == [("dangling.jpg", -1), ("one.jpg", 3), ("two.jpg", 3), ("up", -1)]


def test_a_link_is_a_fine_root(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a").touch()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    assert [info.url for info in storage.list_files(tmp_path / "link")] == [f"{tmp_path}/link/a"]


def test_an_error_leaves_neither_a_file_nor_a_temporary_one(tmp_path):
    with pytest.raises(KeyError), storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    storage.write_bytes(tmp_path / "a.tar", b"old")
    with pytest.raises(KeyboardInterrupt), storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        raise KeyboardInterrupt
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    with storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        out.flush()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".a.tar.") and temporary.name.endswith(".tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_an_upload_that_fails_is_discarded(memory, monkeypatch):
    discarded = []
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "discard", lambda self: discarded.append(self.path))
    with pytest.raises(KeyError), storage.atomic_writer("memory://x/a") as out:
        out.write(b"half")
        raise KeyError
    assert discarded == ["/x/a"]


def leave_temporary(
    folder: Path, *, host: str | None = None, writer: str | None = None, age_seconds: float = 0
) -> Path:
    """What a killed writer leaves, by a process that has ended unless told otherwise."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname().replace(".", "-") if host is None else host
    writer = f"{int(ended.stdout)}-12345" if writer is None else writer
    path = folder / f".train-00000-of-00001.tar.{host}.{writer}.0a1b2c3d.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def test_leftovers_of_a_dead_writer_are_swept(tmp_path):
    leftovers = [leave_temporary(tmp_path), leave_temporary(tmp_path / "deep/er")]
    assert storage.sweep_temporaries(tmp_path) == 2
    assert not any(path.exists() for path in leftovers)
    assert storage.sweep_temporaries(tmp_path) == 0


def test_a_writer_that_lives_keeps_its_file(tmp_path):
    with storage.atomic_writer(tmp_path / "a.tar") as out:
        assert storage.sweep_temporaries(tmp_path) == 0
        out.write(b"whole")
    assert (tmp_path / "a.tar").read_bytes() == b"whole"


def test_a_process_that_has_only_the_id_of_the_dead_one_does_not_save_its_file(tmp_path):
    # A container that starts again gives its processes the ids they had before.
    leftover = leave_temporary(tmp_path, writer=f"{os.getpid()}-1")
    assert storage.sweep_temporaries(tmp_path) == 1
    assert not leftover.exists()


def test_a_killed_child_that_nobody_waited_for_is_dead(tmp_path):
    script = (
        "import os, sys; from shards import storage\n"
        "with storage.atomic_writer(sys.argv[1]) as out: os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.tar")]) as child:
        deadline = time.monotonic() + 30
        while "\nState:\tZ" not in Path(f"/proc/{child.pid}/status").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(tmp_path.iterdir())) == 1
        assert storage.sweep_temporaries(tmp_path) == 1


def test_on_another_host_a_writer_counts_as_gone_after_a_day(tmp_path):
    fresh = leave_temporary(tmp_path, host="elsewhere", age_seconds=3600)
    old = leave_temporary(tmp_path, host="elsewhere", writer="9-9", age_seconds=25 * 3600)
    assert storage.sweep_temporaries(tmp_path) == 1
    assert fresh.exists() and not old.exists()


@pytest.mark.parametrize("name", ["a.tmp", ".a.tmp", ".a.tar.host.x.0a.tmp", ".vimrc.swp", "a.host.1-2.0a.tmp"])
def test_files_of_others_are_never_swept(tmp_path, name):
    path = tmp_path / name
    path.touch()
    os.utime(path, (0, 0))
    assert storage.sweep_temporaries(tmp_path) == 0
    assert path.exists()


def test_there_is_nothing_to_sweep_in_a_store_or_an_absent_folder(tmp_path, memory):
    assert storage.sweep_temporaries("memory://x") == 0
    assert storage.sweep_temporaries(tmp_path / "absent") == 0


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    with storage.atomic_writer(tmp_path / "a") as one, storage.atomic_writer(tmp_path / "a") as other:
        one.write(b"one")
        other.write(b"other")
        assert len({re.sub(r".*\.", "", path.name) for path in tmp_path.iterdir()}) == 1
        assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "a").read_bytes() == b"one"
