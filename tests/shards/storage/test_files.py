"""Test URLs, reading and listing on a disk and in a store."""

import hashlib
import os
from pathlib import Path

import pytest

from shards import storage
from shards.storage import FileInfo


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
    assert storage.path_below("s3://b/a/c d/e.tar", "s3://b/a/") == "c d/e.tar"
    assert storage.path_below("/data", "/") == "data" and storage.path_below("/data", "/data") == ""
    assert storage.path_below("/data2/a.jpg", "/data") == "data2/a.jpg"
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
