"""Archives are read in place and refused if damaged."""

import gzip
import io
import tarfile
import zipfile

import pytest

from shards.corpus import archives
from shards.corpus.archives import ArchiveError, Place, check_parts, list_zip, read_pieces, read_place, stream_tar

FILES = {"a.xml": b"<annotation/>" * 50, "deep/b c.xml": b"x", "empty": b""}


def make_zip(path, method=zipfile.ZIP_DEFLATED, **files: bytes):
    with zipfile.ZipFile(path, "w", method) as out:
        out.mkdir("folder")
        for name, data in (files or FILES).items():
            out.writestr(name, data)
    return str(path)


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


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_file_of_a_zip_is_one_range_of_it(tmp_path, method):
    url = make_zip(tmp_path / "a.zip", method)
    found = list(list_zip(url))
    assert {item.name: read_place(item.place, 10_000) for item in found} == FILES
    assert found[0].uri == f"zip://a.xml::file://{url}"
    with archives.open_zip_member(url, "deep/b c.xml") as handle:
        assert handle.read() == b"x"


def test_a_bomb_is_unpacked_no_further_than_asked(tmp_path):
    url = make_zip(tmp_path / "a.zip", bomb=bytes(50_000_000))
    (item,) = list_zip(url)
    assert item.place.size_bytes < 100_000
    assert len(read_place(item.place, 1001)) == 1001


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(tmp_path, method):
    (item,) = list_zip(make_zip(tmp_path / "a.zip", method, a=b"x" * 99))
    with pytest.raises(ArchiveError, match="a member must be stored or deflated, got method"):
        read_place(item.place, 1000)


def test_a_member_with_another_byte_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    (item,) = list_zip(make_zip(path, zipfile.ZIP_STORED, a=b"x" * 99))
    data = bytearray(path.read_bytes())
    data[item.place.offset_bytes + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="a member must have the bytes of its checksum"):
        read_place(item.place, 1000)
    with pytest.raises(ArchiveError, match="a member must begin with its header, got none"):
        read_place(item.place._replace(offset_bytes=7), 1000)
    with pytest.raises(ArchiveError, match="a member must be whole"):
        read_place(item.place._replace(method=8), 1000)


def test_a_plain_range_is_read_as_it_is(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_place(Place(f"{tmp_path}/a", 2, 5), 100) == b"23456"
    assert read_place(Place(f"{tmp_path}/a", 2, 5), 3) == b"234"


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + bytes(99)])
def test_a_zip_that_stopped_half_way_is_refused(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"archive must be a whole zip, got .*a\.zip\); download it again"):
        list(list_zip(str(tmp_path / "a.zip")))


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
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


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
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
