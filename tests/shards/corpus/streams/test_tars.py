"""Tars are read as one stream, whole or split, and refused if damaged."""

import bz2
import gzip
import io
import lzma
import tarfile

import pyarrow as pa
import pytest

from shards.corpus.archives import ArchiveError
from shards.corpus.streams.tars import check_parts, read_pieces, split_tar_name, stream_tar


def make_tar(names=("a", "b", "c"), **options) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2000
            tar.addfile(info, io.BytesIO(name.encode() * 2000))
    return out.getvalue()


def read_tar(*parts) -> dict[str, bytes]:
    return {member.name: b"".join(read_pieces(member)) for member in stream_tar([str(part) for part in parts])}


def compress_zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


PACKERS = {"plain": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": compress_zstd}


@pytest.mark.parametrize("compress", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("num_parts", [1, 2, 7])
def test_parts_are_read_as_one_stream(tmp_path, compress, num_parts):
    data = compress(make_tar())
    step = -(-len(data) // num_parts)
    paths = [tmp_path / f"a.tar{number:02d}" for number in range(num_parts)]
    for number, path in enumerate(paths):
        path.write_bytes(data[number * step : (number + 1) * step])
    assert read_tar(*paths) == {name: name.encode() * 2000 for name in "abc"}


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_format(tmp_path, format_):
    names = ("ü", "n" * 90, *(("d/" * 60 + "deep",) if format_ != tarfile.USTAR_FORMAT else ()))
    (tmp_path / "a.tar").write_bytes(make_tar(names, format=format_))
    assert set(read_tar(tmp_path / "a.tar")) == set(names)


def test_what_is_no_file_has_no_bytes(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in {
            "d": tarfile.DIRTYPE,
            "s": tarfile.SYMTYPE,
            "h": tarfile.LNKTYPE,
            "f": tarfile.FIFOTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    members = list(stream_tar([f"{tmp_path}/a.tar"]))
    assert [(member.name, member.size_bytes, member.data) for member in members] == [
        ("s", -1, None),
        ("h", -1, None),
        ("f", -1, None),
    ]


@pytest.mark.parametrize("compress", PACKERS.values(), ids=PACKERS)
def test_a_stream_that_ends_early_anywhere_is_noticed(tmp_path, compress):
    path = tmp_path / "a.tar"
    whole = make_tar()
    data = compress(whole)
    end = 3 * (512 + 2048) + 1024 if compress is bytes else len(data)  # behind that tar pads to ten blocks
    for length in range(0, end - 512, max(1, end // 60)):
        path.write_bytes(data[:length])
        found: dict[str, bytes] = {}
        with pytest.raises(ArchiveError, match=r"archive must be a whole tar, got .*; download it again"):
            for member in stream_tar([str(path)]):
                found[member.name] = b"".join(read_pieces(member))
        assert all(found[name] == name.encode() * 2000 for name in found)


def test_garbage_behind_a_member_is_no_end(tmp_path):
    data = make_tar()
    (tmp_path / "a.tar").write_bytes(data[: 512 + 2048] + b"garbage" * 999)
    with pytest.raises(ArchiveError, match=r"archive must be a whole tar, got no end mark .* behind 'a'"):
        read_tar(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("names", "missing"), [(["a01"], "00"), (["a00", "a02"], "01"), (["a00", "a01", "a"], "some without a number")]
)
def test_a_gap_between_parts_is_refused(names, missing):
    with pytest.raises(ValueError, match=f"without a gap, got none numbered .*{missing}"):
        check_parts(names)
    assert check_parts(["b01", "b00"]) == ("b00", "b01")


@pytest.mark.parametrize("compress", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("is_split", [False, True])
def test_tars_that_follow_each_other_are_read_as_one(tmp_path, compress, is_split):
    pieces = [compress(make_tar([name, name * 2])) for name in "abc"]
    names = ["a.tar00", "a.tar01", "a.tar02"] if is_split else ["a.tar"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(pieces[number] if is_split else b"".join(pieces))
    assert list(read_tar(*(tmp_path / name for name in names))) == ["a", "aa", "b", "bb", "c", "cc"]


def test_garbage_behind_the_end_of_a_tar_is_noticed(tmp_path):
    (tmp_path / "a.tar").write_bytes(make_tar() + b"garbage" * 999)
    found = []
    with pytest.raises(ArchiveError, match="archive must be a whole tar, got"):
        found += [member.name for member in stream_tar([f"{tmp_path}/a.tar"])]
    members = stream_tar([f"{tmp_path}/a.tar"])
    assert [next(members).name for _ in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "names",
    [
        ["a.tar.gzaa", "a.tar.gzab", "a.tar.gzac"],
        ["a.tar.gz.000", "a.tar.gz.001"],
        ["a.tgz.001", "a.tgz.002"],
        ["a.tar.part00", "a.tar.part01"],
        ["a.tar.gz.part1", "a.tar.gz.part2"],
        ["a.tar_part_01", "a.tar_part_02"],
        ["a.tar.1", "a.tar.2"],
        ["a.tar.0", "a.tar.1"],
        [f"a.tar{number:02d}" for number in range(12)],
    ],
)
def test_parts_are_known_by_the_suffixes_of_split_and_others(names):
    assert len({(split_tar_name(name) or name)[0] for name in names}) == 1
    assert check_parts([f"/x/{name}" for name in reversed(names)]) == tuple(f"/x/{name}" for name in names)


@pytest.mark.parametrize("name", ["a.tar.gz.sha", "a.tar.lz", "a.zip", "a.jpg", "tar", "a.tar.gz.asc"])
def test_files_beside_a_tar_are_no_parts(name):
    assert split_tar_name(name) is None


def test_a_part_in_letters_that_is_missing_is_noticed():
    with pytest.raises(ValueError, match="without a gap, got none numbered 01"):
        check_parts(["a.tar.gzaa", "a.tar.gzac"])
