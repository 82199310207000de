"""Test that tables of metadata are read as spreadsheets, pandas and Parquet write them."""

import io
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.corpus import key_facts
from shards.corpus.description import Corpus, ListFile
from shards.corpus.facts import ImageFact
from shards.corpus.layouts.registry import LAYOUTS, choose_classes, find_corpus
from shards.corpus.layouts.scan_names import ScanNames
from shards.corpus.metadata import join_fields, list_metadata, open_list_metadata, open_metadata
from shards.format.classes import ClassSet
from tests.shards.corpus.layouts import twins

FLAT, DEEP = Corpus("sixray", "/c", ()), Corpus("images", "/c", (), keeps_folders_in_keys=True)


def write(tmp_path, text):
    path = tmp_path / "meta.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def facts(url, corpus=FLAT, group=""):
    file = open_metadata(url, group)
    found = list_metadata(file, join_fields([file], group), lambda name, is_key: key_of(name, is_key, corpus))
    return {fact.key: (fact.group, *fact.values) for fact in found}


def key_of(name, is_key, corpus=FLAT):
    return ScanNames(corpus, ClassSet(())).find_key(name, is_key=is_key)


def test_columns_have_the_types_of_their_values_and_names_and_groups_are_texts(tmp_path):
    text = "site,name,kv,taken,seen,bag\nA,00123.jpg,160,2026-03-01,2026-03-01T08:30:00,007\n,P2,,,,\n"
    file = open_metadata(write(tmp_path, text), "bag")
    assert (file.name_column, file.num_rows) == ("name", 2)
    assert file.fields == {"site": "string", "kv": "int64", "taken": "date", "seen": "timestamp", "bag": "string"}
    days, micros = (date(2026, 3, 1) - date(1970, 1, 1)).days, int(datetime(2026, 3, 1, 8, 30).timestamp() * 1e6)
    assert facts(write(tmp_path, text), group="bag") == {
        "00123": ("007", "A", 160, days, micros, "007"),
        "P2": ("", None, None, None, None, None),
    }


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("\ufeffkey;site\r\nP1;A\r\n", {"site": "string"}),
        ("P\tkv\nP1\t1.5\n", {"kv": "double"}),
        ("name,机场\nP1,上海\n".encode("gbk"), {"机场": "string"}),
        ("name\t机场\nP1\t上海\n".encode("utf-16"), {"机场": "string"}),
        ("index,path,n\n0,x/P1.png,2\n", {"index": "int64", "n": "int64"}),
    ],
)
def test_other_separators_marks_and_orders_are_read(tmp_path, text, fields):
    url = write(tmp_path, text)
    assert open_metadata(url).fields == fields
    assert list(facts(url)) == ["P1"]
    assert list(facts(url, DEEP)) == ["x%2FP1" if "index" in fields else "P1"]


def test_parquet_is_read_and_what_is_neither_number_nor_date_is_text(tmp_path):
    table = pa.table({"image": ["a/P1.jpg"], "ok": [True], "f": pa.array([1], pa.float32()), "d": [date(2026, 1, 2)]})
    out = io.BytesIO()
    pq.write_table(table, out)
    url = write(tmp_path, out.getvalue())
    assert open_metadata(url).fields == {"ok": "string", "f": "double", "d": "date"}
    assert facts(url)["P1"][1:3] == ("true", 1.0)


@pytest.mark.parametrize(
    ("text", "group", "message"),
    [
        ("name\nP1\n", "", "metadata must be a table of scans with named columns beside 'name', got 1 rows of 'name'"),
        ("name,a\n", "", "got 0 rows"),
        ("name,a,a\nP1,1,2\n", "", "got 1 rows of 'name', 'a', 'a'"),
        ("name,a\nP1\n", "", r"metadata must be CSV in UTF-8, UTF-16 or GB 18030, or Parquet, got .* \(/.*meta.csv\)"),
        (b"name,a\nP1,\xff\xfe\n", "", "metadata must be CSV in UTF-8, UTF-16 or GB 18030, or Parquet"),
        ("name,a\nP1,1\n", "bag", "group_by must be a column of the metadata or of a list, got 'bag' beside a"),
    ],
)
def test_what_is_no_table_of_scans_is_refused(tmp_path, text, group, message):
    with pytest.raises(ValueError, match=message):
        facts(write(tmp_path, text), group=group)


def test_further_columns_of_lists_have_types_and_the_first_list_that_has_a_value_decides(tmp_path):
    header = "Unnamed: 0,name,Gun,site,kv,site"
    (tmp_path / "a.csv").write_text(f"{header}\n0,x/00123.jpg,1,A,160,z\n1,P2.jpg,-1,,,\n2,P3,1,B\n")
    (tmp_path / "b.csv").write_text("name,Gun,kv,taken\nP2,-1,1.5,2026-03-01\n00123,1,7,\n")
    (tmp_path / "c.csv").write_text("name,Gun\nP4,-1\n")
    lists = [ListFile(str(tmp_path / name), "", "train") for name in ("a.csv", "b.csv", "c.csv")]
    files = open_list_metadata(lists, ["Gun"])
    fields = join_fields(files)
    assert [file.fields for file in files] == [{"site": "string", "kv": "int64"}, {"kv": "double", "taken": "date"}]
    assert fields == {"site": "string", "kv": "double", "taken": "date"}
    day = (date(2026, 3, 1) - date(1970, 1, 1)).days
    found = [fact for file in files for fact in list_metadata(file, fields, key_of)]
    assert [(fact.rank, fact.key, fact.values) for fact in found] == [
        (1, "00123", ("A", 160.0, None)),
        (1, "P2", (None, None, None)),
        (2, "P2", (None, 1.5, day)),
        (2, "00123", (None, 7.0, None)),
    ]
    joined = key_facts._join_metadata([fact for fact in found if fact.key == "00123"])
    assert joined is not None and joined.values == ("A", 160.0, None)


def test_a_column_of_a_list_may_say_the_groups(tmp_path):
    (tmp_path / "a.csv").write_text("name,Gun,bag\nP1,1,007\nP2,1,\n")
    lists = [ListFile(str(tmp_path / "a.csv"), "", "train")]
    (file,) = open_list_metadata(lists, ["Gun"], "bag")
    assert [fact.group for fact in list_metadata(file, join_fields([file], "bag"), key_of)] == ["007", ""]


def test_two_rows_of_one_table_that_differ_are_refused(tmp_path):
    url = write(tmp_path, "name,a\nP1,1\nP1,2\n")
    file = open_metadata(url)
    with pytest.raises(ValueError, match="metadata must have one row for each scan, got several for 'P1'"):
        key_facts._join_metadata(list(list_metadata(file, file.fields, key_of)))


def write_plain_images(root, scans):
    for scan in scans:
        twins.put(root / scan.split / scan.file_name, scan.image)


TWINS = {
    "coco": twins.write_coco,
    "yolo": twins.write_yolo,
    "labelme": twins.write_labelme,
    "labelimg": twins.write_labelimg,
    "voc": twins.write_voc,
    "plain images": write_plain_images,
}


@pytest.mark.parametrize("write", TWINS.values(), ids=TWINS)
def test_in_every_layout_a_scan_is_named_by_key_path_or_file_name(tmp_path, write):
    write(tmp_path, twins.make_truth())
    corpus = find_corpus(str(tmp_path), "auto", "all")
    names = ScanNames(corpus, choose_classes(corpus, (), {}))
    layout = LAYOUTS[corpus.layout]
    sources = [source for source in corpus.sources if source.kind == "images"]
    listed = (fact for source in sources for fact in layout.list_source(source, corpus, ClassSet(()), ""))
    images = {fact.url.removeprefix(f"{tmp_path}/"): fact.key for fact in listed if isinstance(fact, ImageFact)}
    assert len(images) == 12
    for path, key in images.items():
        name = path.rpartition("/")[2]
        written = [key, path, name, name.partition(".")[0], f"/data/old/{path}", path.replace("/", "\\")]
        assert [names.find_key(text) for text in written] == [key] * len(written)
        assert names.find_key(key, is_key=True) == key


def test_a_file_name_that_several_scans_have_means_none_of_them_and_a_key_is_no_file_name(tmp_path):
    for path in ("a/1.jpg", "b/1.jpg", "1.jpg", "b/x%20y.jpg", "b/x y.jpg"):
        twins.put(tmp_path / path, b"x")
    names = ScanNames(find_corpus(str(tmp_path), "images", "all"), ClassSet(()))
    assert [names.find_key(text) for text in ("b/1.jpg", "1.jpg", "c/d/1.jpg")] == ["b%2F1", "1", "c%2Fd%2F1"]
    assert names.find_key("b/x%20y.jpg") == "b%2Fx%2520y"
    assert names.find_key("b%2Fx%20y", is_key=True) == "b%2Fx%20y"
