"""Every line of a list is read or yielded with its problem."""

import time
import tracemalloc
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.corpus.label_lists import MAX_LINE_BYTES, ListRow, further_columns, read_list
from tests.corpora import HEADER, SCORED


@pytest.fixture
def read(tmp_path):
    def read(text: bytes | str) -> list[ListRow]:
        path = tmp_path / "train.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return list(read_list(str(path), SCORED))

    return read


EXPECTED = [ListRow("P00001", (1, 0, 0, 0, 1)), ListRow("N0000002", (0, 0, None, 0, 0))]
LINES = [HEADER, "P00001,1,-1,-1,-1,1", "N0000002,-1,-1,0,-1,-1"]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["closed", "open"])
def test_line_ends_and_a_byte_order_mark_change_nothing(read, mark, end, last):
    assert read(mark + end.join(LINES) + (end if last else "")) == EXPECTED


def test_columns_may_stand_in_any_order(read):
    text = "Scissors,Gun,name,Wrench,Knife,Pliers\n1,1,P00001,-1,-1,-1\n-1,-1,N0000002,0,-1,-1\n"
    assert read(text) == EXPECTED


def test_spaces_and_blank_lines_are_passed_over(read):
    assert read(f"{HEADER}\n\n P00001 , 1,-1,-1 ,-1,1\n   \n{LINES[2]}\n\r\n") == EXPECTED


def test_a_header_alone_is_an_empty_list(read):
    assert read(HEADER) == []


@pytest.mark.parametrize(
    "text",
    ["", "\n", "P00001,1,-1,-1,-1,1\n", "name,Gun\n", f"{HEADER},Gun\n", "name,Gun,Gun,Wrench,Pliers,Scissors\n"],
)
def test_a_file_with_another_header_is_no_list(read, text):
    with pytest.raises(ValueError, match=rf"^list must begin with the columns '{HEADER}', got .*train\.csv"):
        read(text)


@pytest.mark.parametrize(
    ("line", "name", "problem"),
    [
        ("P00001", "P00001", "a line must have 6 cells, got 'P00001'"),
        ("P00001,1,1,1,1,1,1", "P00001,1,1,1,1,1,1", "a line must have 6 cells"),
        ("P00001,1,-1,-1,-1,yes", "P00001", "labels must be 1, -1 or 0, got 'P00001,1,-1,-1,-1,yes'"),
        ("P00001,2,-1,-1,-1,1", "P00001", "labels must be 1, -1 or 0"),
        (",1,-1,-1,-1,1", "(no name)", "labels must be 1, -1 or 0"),
        ('"P00001,1,-1,-1,-1,1', '"P00001,1,-1,-1,-1,1', "a line must have 6 cells"),
        ("P0\r0001,1,-1,-1,-1,x", "P0\\r0001", "labels must be 1, -1 or 0"),
        ("P0\x000001,1,-1,-1,-1,x", "P0\\x000001".replace("\\x00", "\\0"), "labels must be 1, -1 or 0"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_rest_is_read(read, line, name, problem):
    before, bad, after = read(f"{LINES[0]}\n{LINES[1]}\n{line}\n{LINES[2]}\n")
    assert [before, after] == EXPECTED
    assert bad.name == name
    assert bad.problem.startswith(problem)


AS_WRITTEN = {
    "pandas": ",name,Gun,Knife,Wrench,Pliers,Scissors\n0,P00001.jpg,1.0,-1.0,-1.0,-1.0,1.0\n"
    "1,N0000002.jpg,-1.0,-1.0,0.0,-1.0,-1.0",
    "booleans": f"{HEADER}\nP00001,True,False,False,False,TRUE\nN0000002,False,false,,False,False",
    "quoted": '"name", "Gun", "Knife", "Wrench", "Pliers", "Scissors"\n"P00001", "1", "-1", "-1", "-1", "1"\n'
    '"N0000002", "-1", "-1", "nan", "-1", "-1"',
    "semicolons": "\n".join(LINES).replace(",", ";"),
    "decimal commas": f"sep=;\n{HEADER.replace(',', ';')}\nP00001;1,0;-1,0;-1,0;-1;1\nN0000002;-1,0;-1,0;0,0;-1;-1",
    "tabs": "\n".join(LINES).replace(",", "\t"),
    "old mac": "\r".join(LINES),
    "more columns": "Site,Gun,Knife,Wrench,Pliers,Scissors,Name\nA,1,-1,-1,-1,1,P00001\n,-1,-1,0,-1,-1,N0000002",
    "another header": "\n".join(LINES).replace("name,Gun", "Image_Name,GUN"),
    "paths": f"{HEADER}\nC:\\data\\JPEGImage\\P00001.JPG,1,-1,-1,-1,1\n./JPEGImage/N0000002.png,-1,-1,0,-1,-1",
    "decimals": f"{HEADER}\nP00001,1.000,-1.00,-1,-1.,1e0\nN0000002,-1.0,-1,0.00,-1,-1",
    "closed rows": f"{HEADER},\nP00001,1,-1,-1,-1,1,,\nN0000002,-1,-1,0,-1,-1,",
}


@pytest.mark.parametrize("text", AS_WRITTEN.values(), ids=AS_WRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_lists_of_spreadsheets_and_of_pandas_are_read(read, text, encoding):
    assert [replace(row, further=()) for row in read(text.encode(encoding))] == EXPECTED


@pytest.mark.parametrize(
    ("name", "encoding"), [("扫描一", "utf-8"), ("扫描一", "utf-16"), ("扫描一", "gbk"), ("扫描一𠮷", "gb18030")]
)
def test_chinese_names_are_read_in_the_encodings_of_spreadsheets(read, name, encoding):
    (row,) = read(f"{HEADER}\n{name}.jpg,1,-1,-1,-1,1\n".encode(encoding))
    assert row == ListRow(name, (1, 0, 0, 0, 1))


def test_a_minus_sign_of_a_word_processor_is_one(read):
    (row,) = read(f"{HEADER}\nP1,\N{MINUS SIGN}1,-1,\N{MINUS SIGN}1.0,1,-1\n")
    assert row == ListRow("P1", (0, 0, 0, 1, 0))


def test_columns_beside_names_and_classes_are_named(tmp_path):
    (tmp_path / "train.csv").write_text("Site,Gun,Knife,Wrench,Pliers,Scissors,name,Hammer\n")
    assert further_columns(str(tmp_path / "train.csv"), SCORED) == ("Site", "Hammer")
    (tmp_path / "train.csv").write_text("what\n")
    assert further_columns(str(tmp_path / "train.csv"), SCORED) == ()


@pytest.mark.parametrize("line", ["P1,yes,no,no,no,no", "P1;1;1;1;1;1", "x"])
def test_a_list_of_which_no_line_can_be_used_stops(read, line):
    with pytest.raises(ValueError, match=r"^list must have lines like 'P00001,1,-1,.*, got none; .*'(P1|x)"):
        read(f"{HEADER}\n{line}\n{line}\n")


def test_bytes_that_are_no_text_stay_what_they_are_in_names_and_are_escaped_in_words(read):
    good, bad = read(HEADER.encode() + b"\nger\xe4t,1,-1,-1,-1,-1\n\xe4,x\n")
    assert good == ListRow("ger\udce4t", (1, 0, 0, 0, 0))
    assert bad == ListRow("\\xe4,x", (), "a line must have 6 cells, got '\\\\xe4,x'")


def test_a_line_without_an_end_costs_bounded_memory(tmp_path):
    path = tmp_path / "train.csv"
    with path.open("wb") as out:
        out.write(f"{LINES[0]}\n{LINES[1]}\n".encode())
        for _ in range(64):
            out.write(b"x" * 1024 * 1024)
        out.write(f"\n{LINES[2]}\n".encode())
    tracemalloc.start()
    before, bad, after = read_list(str(path), SCORED)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [before, after] == EXPECTED
    assert bad.name == "x" * 40 and bad.problem.startswith("a line must have 6 cells, got 'xxx")
    assert peak_bytes < 1024 * 1024


@pytest.mark.parametrize("num_extra", [-2, -1, 0, 1, 2])
def test_lines_about_the_limit_do_not_swallow_their_neighbours(read, num_extra):
    name = "n" * (MAX_LINE_BYTES + num_extra - len(",1,-1,-1,-1,1"))
    before, row, after = read(f"{LINES[0]}\n{LINES[1]}\n{name},1,-1,-1,-1,1\n{LINES[2]}\n")
    assert [before, after] == EXPECTED
    assert bool(row.problem) == (num_extra > 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)))
def test_any_line_becomes_a_row_or_is_blank(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"\n".join([HEADER.encode(), LINES[1].encode(), *lines]))
    first, *rows = read_list(str(path), SCORED)
    assert first == EXPECTED[0]
    assert len(rows) == sum(bool(line.strip()) for line in lines)
    assert all(row.problem or len(row.labels) == len(SCORED) for row in rows)


def test_a_list_of_names_alone_has_no_labels(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfmy scan (1)\r\n\n a.b \n" + b"x" * 5000)
    first, second, bad = read_list(str(path), SCORED, has_labels=False)
    assert [first, second] == [ListRow("my scan (1)", ()), ListRow("a.b", ())]
    assert bad.problem.startswith("a line must be a name, got 'xxx")


def test_a_list_is_read_from_within_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "ImageSet.zip", "w") as out:
        out.writestr("ImageSet/10/train.csv", "\n".join(LINES))
    found = read_list(str(tmp_path / "ImageSet.zip"), SCORED, member="ImageSet/10/train.csv")
    assert list(found) == EXPECTED


def test_gigabytes_without_a_newline_are_refused_by_their_beginning(tmp_path):
    path = tmp_path / "train.csv"
    with path.open("wb") as out:
        out.truncate(10 * 1024**3)  # a file with a hole: no disk is filled
    started = time.perf_counter()
    with pytest.raises(ValueError, match="list must begin with the columns"):
        list(read_list(str(path), SCORED))
    assert time.perf_counter() - started < 1


def test_garbage_without_a_newline_behind_a_header_is_one_bad_line_in_bounded_time(tmp_path):
    path = tmp_path / "train.csv"
    with path.open("wb") as out:
        out.write(f"{LINES[0]}\n{LINES[1]}\n".encode())
        out.truncate(256 * 1024**2)
    tracemalloc.start()
    started = time.perf_counter()
    good, bad = read_list(str(path), SCORED)
    assert time.perf_counter() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    tracemalloc.stop()
    assert good == EXPECTED[0] and bad.problem.startswith("a line must have 6 cells")
