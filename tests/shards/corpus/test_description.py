"""Test the keys of images of a corpus."""

import io
import json
import tarfile
import zipfile

import pytest

from shards.corpus.description import is_junk, make_key
from tests.corpora import CorpusWriter, bmp_bytes, jpeg_bytes, make_corpus, png_bytes, reasons_of, rows_of
from tests.shards.plain_calls import convert_plainly


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("P00001.jpg", "P00001"),
        ("P00001.JPG", "P00001"),
        ("P00001.jfif", "P00001"),
        ("a.003.jpg", "a%2E003"),
        ("a b (1).jpg", "a%20b%20(1)"),
        ("100%.jpg", "100%25"),
        (".jpg", "%2Ejpg"),
        ("..jpg", "%2E"),
        ("noextension", "noextension"),
        ("Gerät.jpg", "Ger%C3%A4t"),
        ("tab\tnew\nline\x1b[0m.jpg", "tab%09new%0Aline%1B%5B0m"),
        ("x_-~()+,=@.jpg", "x_-~()+,=@"),
        ("\udce9t\udce9.jpg", "%E9t%E9"),
    ],
)
def test_a_file_name_gets_a_key_of_safe_characters(name, key):
    assert make_key(f"7/{name}", keeps_folders=False) == key
    assert make_key(name, keeps_folders=True) == key


def test_in_plain_images_the_folder_is_part_of_the_key():
    assert make_key("a/b.x/1.jpg", keeps_folders=True) == "a%2Fb%2Ex%2F1"
    assert make_key("a%2Fb/1.jpg", keeps_folders=True) == "a%252Fb%2F1"


def test_a_backslash_separates_folders():
    assert make_key("JPEGImage\\a.jpg", keeps_folders=False) == "a"
    assert make_key("7\\a.jpg", keeps_folders=True) == make_key("7/a.jpg", keeps_folders=True)


@pytest.mark.parametrize(
    "path",
    [
        ".DS_Store",
        "a/._P00000.jpg",
        "__MACOSX/a/P1.jpg",
        "a/@eaDir/P1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "Thumbs.db",
        "x/desktop.ini",
        "a/.ipynb_checkpoints/P1-checkpoint.jpg",
        "a/.P1.jpg.swp",
        ".gitkeep",
        "P1.jpg~",
        "P1.jpg:Zone.Identifier",
        "~$train.xlsx",
        "README.txt",
        "licence",
        "SHA256SUMS",
    ],
)
def test_files_of_operating_systems_and_tools_are_junk(path):
    assert is_junk(path)


@pytest.mark.parametrize(
    "path",
    [
        "P1.jpg",
        ".P1.png",
        ".jpg",
        "readme2.jpg",
        "README.png",
        "a.DS_Store.jpg",
        "my@eaDir/P1.jpg",
        ".hidden.jpg",
        "thumbs.db.jpg",
    ],
)
def test_other_names_are_none(path):
    assert not is_junk(path)


def test_files_beside_an_image_take_no_scans_place_and_are_counted(tmp_path):
    corpus = tmp_path / "c"
    corpus.mkdir()
    for name, data in {
        "P0.json": b"{}",
        "P0.png": png_bytes(0),
        "P1.bmp": bmp_bytes(1),
        "P1.jpg": jpeg_bytes(1),
        "P2.CSV": b"a,b",
        "P2.JPG": jpeg_bytes(2),
        "P4.dcm": bytes(128) + b"DICM",
        "P4.jpg": jpeg_bytes(4),
        "P5.1": b"?",
        "P5.jpg": jpeg_bytes(5),
        "P3.jpeg": b"",
        "P3.jpg": jpeg_bytes(3),
        ".DS_Store": b"\0\0\0\1Bud1",
        "._P0.png": b"\0\5\x16\7",
        "Thumbs.db": b"\xd0\xcf",
    }.items():
        (corpus / name).write_bytes(data)
    manifest = convert_plainly(corpus, tmp_path / "ds")
    assert sorted(row["key"] for row in rows_of(tmp_path / "ds")) == ["P0", "P1", "P2", "P3", "P4", "P5"]
    # An image of no bytes is damage, and a name without an extension may be a scan: no side files.
    assert reasons_of(tmp_path / "ds") == {"P3": "duplicate_key", "P5": "duplicate_key"}
    assert (manifest.ledger["unlisted"].listed, manifest.ledger["unlisted"].converted) == (8, 6)
    skipped = json.loads((tmp_path / "ds/dataset.json").read_text())["skipped"]
    assert {kind: found["count"] for kind, found in skipped.items()} == {"junk": 3, "side_file": 4}
    assert skipped["side_file"]["examples"][0] == {"key": "P0", "detail": f"file://{corpus}/P0.json"}


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_side_file_in_an_archive_takes_no_scans_place_and_another_scan_is_none(tmp_path, form):
    corpus = CorpusWriter(tmp_path / "c")
    members = {"JPEGImage/P0.json": b"{}", "JPEGImage/P0.png": png_bytes(0), "JPEGImage/P1.bmp": bmp_bytes(1)}
    members |= {"JPEGImage/P1.jpg": jpeg_bytes(1), "JPEGImage/P2.jpg": jpeg_bytes(2), "more/P2.jpg": jpeg_bytes(3)}
    corpus.images.rmdir()
    with zipfile.ZipFile(corpus.root / "JPEGImage.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    if form == "tar":
        (corpus.root / "JPEGImage.zip").unlink()
        with tarfile.open(corpus.root / "JPEGImage.tar", "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    convert_plainly(corpus.root, tmp_path / "ds")
    assert sorted(row["key"] for row in rows_of(tmp_path / "ds")) == ["P0", "P1", "P2"]
    assert reasons_of(tmp_path / "ds") == {"P2": "duplicate_key"}
    skipped = json.loads((tmp_path / "ds/dataset.json").read_text())["skipped"]
    assert {kind: found["count"] for kind, found in skipped.items()} == {"side_file": 2}


@pytest.mark.parametrize("folder", ["JPEGImage", "train/n02123045", "images", "other"])
def test_junk_in_any_layout_is_no_scan_and_no_class(tmp_path, folder):
    corpus = tmp_path / "c"
    for name in (
        f"{folder}/1.jpg",
        f"{folder}/.DS_Store",
        f"{folder}/@eaDir/1.jpg",
        "__MACOSX/._1.jpg",
        "@eaDir/2.jpg",
    ):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_bytes(jpeg_bytes(1))
    (corpus / "train/.ipynb_checkpoints").mkdir(parents=True)
    if folder == "JPEGImage":
        (corpus / "Annotation").mkdir()
    manifest = convert_plainly(corpus, tmp_path / "ds")
    assert (len(rows_of(tmp_path / "ds")), reasons_of(tmp_path / "ds")) == (1, {})
    assert manifest.skipped["junk"]["count"] >= 2
    assert ".ipynb_checkpoints" not in manifest.classes


def test_an_annotation_beside_another_of_its_name_is_counted_and_the_xml_read(tmp_path):
    corpus = make_corpus(tmp_path / "c")
    (corpus.root / "Annotation/P00000.json").write_text("{}")
    before = convert_plainly(corpus.root, tmp_path / "ds").skipped
    assert before["side_file"]["count"] == 1
    assert "P00000" in {row["key"] for row in rows_of(tmp_path / "ds")}
