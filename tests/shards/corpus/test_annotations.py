"""VOC annotations are parsed or refused with their reason."""

import pytest

from shards.corpus.annotations import MAX_ANNOTATION_BYTES, parse_annotation
from shards.corpus.boxes import AnnotationError
from shards.format.classes import Box, load_class_set
from tests.corpora import voc_xml

SPELLINGS = load_class_set("sixray").spellings


def parse(text: bytes):
    return parse_annotation(text, SPELLINGS)


def refusal_of(text: bytes) -> AnnotationError:
    with pytest.raises(AnnotationError) as error_info:
        parse(text)
    return error_info.value


def box_xml(**corners: str) -> bytes:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    return f"<annotation><object><name>Gun</name><bndbox>{inner}</bndbox></object></annotation>".encode()


def test_the_owners_name_is_no_item():
    text = voc_xml([("Knife", 17.318, 0, 355.424, 302)])
    assert b"<name>MeioJane</name>" in text
    assert parse(text).boxes == (Box("Knife", 17.318, 0, 355.424, 302),)


def test_no_object_is_no_box():
    assert parse(voc_xml()).boxes == ()
    assert parse(voc_xml()).class_names == frozenset()


def test_objects_keep_their_order_and_classes_are_counted_once():
    annotation = parse(voc_xml([("Gun", 1, 1, 2, 2), ("Hammer", 1, 1, 3, 3), ("Gun", 4, 4, 5, 5)]))
    assert [box.class_name for box in annotation.boxes] == ["Gun", "Hammer", "Gun"]
    assert annotation.class_names == {"Gun", "Hammer"}


@pytest.mark.parametrize(
    ("spelling", "class_name"),
    [
        ("Plier", "Pliers"),
        ("plier", "Pliers"),
        ("pilers", "Pliers"),
        ("Pliers", "Pliers"),
        ("Scissor", "Scissors"),
        ("scissors", "Scissors"),
        ("Gun-", "Gun"),
        ("gun", "Gun"),
        (" Wrench\n", "Wrench"),
        ("HAMMER", "Hammer"),
        ("knife", "Knife"),
    ],
)
def test_spellings_seen_in_the_wild_are_known(spelling, class_name):
    assert parse(voc_xml([(spelling, 1, 1, 9, 9)])).class_names == {class_name}


@pytest.mark.parametrize("name", ["Bomb", "", "core_battery", "Gun Knife"])
def test_an_object_of_an_unknown_class_is_dropped_and_the_known_ones_named(name):
    annotation = parse(voc_xml([(name, 1, 1, 9, 9), ("Gun", 1, 1, 9, 9)]))
    assert annotation.boxes == (Box("Gun", 1, 1, 9, 9),) and annotation.is_partial
    ((kind, detail),) = annotation.repairs
    assert kind == "unknown_class" and annotation.unknown_class == detail
    assert repr(name) in detail and "'Hammer'" in detail and "'Scissors'" in detail


@pytest.mark.parametrize(
    ("corners", "detail"),
    [
        ({"xmin": "1", "ymin": "1", "xmax": "3"}, "<ymax> must be a number, got None"),
        ({"xmin": "", "ymin": "1", "xmax": "3", "ymax": "2"}, "<xmin> must be a number, got ''"),
        ({"xmin": "1,5", "ymin": "1", "xmax": "3", "ymax": "2"}, "<xmin> must be a number, got '1,5'"),
        ({"xmin": "1", "ymin": "nan", "xmax": "3", "ymax": "2"}, "<ymin> must be finite, got 'nan'"),
        ({"xmin": "1", "ymin": "1", "xmax": "inf", "ymax": "2"}, "<xmax> must be finite, got 'inf'"),
        ({"xmin": "1", "ymin": "1", "xmax": "1e999", "ymax": "2"}, "<xmax> must be finite, got '1e999'"),
    ],
)
def test_a_box_that_is_none_is_refused(corners, detail):
    error = refusal_of(box_xml(**corners))
    assert error.reason == "bad_box"
    assert error.detail.startswith(detail)


def test_whitespace_around_decimals_is_allowed():
    text = box_xml(xmin=" 1.25 ", ymin="\n0", xmax="3.5", ymax="2")
    assert parse(text).boxes == (Box("Gun", 1.25, 0, 3.5, 2),)


BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bang"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><object><name>&c;</name></object></annotation>"""
EXTERNAL = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><owner>&x;</owner></annotation>"""
DOCTYPE = b"""<!DOCTYPE annotation SYSTEM "http://example.invalid/voc.dtd"><annotation/>"""


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (BILLION_LAUGHS, "DTDForbidden"),
        (EXTERNAL, "DTDForbidden"),
        (DOCTYPE, "DTDForbidden"),
        (b"<annotation>&nosuch;</annotation>", "ParseError: undefined entity"),
        (b"", "ParseError: no element found"),
        (b"\0" * 100, "ParseError"),
        (b"\xff\xd8\xff\xe0 no xml", "UnicodeDecodeError"),
        (voc_xml([("Gun", 1, 1, 2, 2)])[:-20], "ParseError"),
        (b"<html/>", "the root element is <html>, expected <annotation>"),
        (b" " * (MAX_ANNOTATION_BYTES + 1), f"the file has more than {MAX_ANNOTATION_BYTES} bytes"),
    ],
)
def test_what_is_no_plain_xml_is_refused(text, detail):
    error = refusal_of(text)
    assert error.reason == "unreadable_xml"
    assert detail in error.detail
    assert "root:" not in error.detail


def test_utf_8_and_utf_16_with_their_marks_are_read():
    text = voc_xml([("Gun", 1, 1, 2, 2)]).decode()
    assert parse(b"\xef\xbb\xbf" + text.encode()).class_names == {"Gun"}
    assert parse(text.encode("utf-16")).class_names == {"Gun"}


@pytest.mark.parametrize("name", ["gb2312", "GBK", "GB18030", "utf-8", "UTF-16", "iso-8859-1", "cp936"])
@pytest.mark.parametrize("words", ["Gun", "Gun</name><pose>行李箱</pose><name>Gun"])
def test_declared_encodings_are_read(name, words):
    text = voc_xml([("Gun", 1, 1, 9, 9)]).decode().replace("Gun", words)
    if name == "iso-8859-1":
        text = text.replace("行李箱", "é")
    declared = f'<?xml version="1.0" encoding="{name}"?>\n{text}'
    assert parse(declared.encode(name)).boxes == (Box("Gun", 1, 1, 9, 9),)


def test_a_root_in_capitals_or_in_a_namespace_is_read_and_every_box_of_an_object_counts():
    text = voc_xml([("Gun", 1, 1, 9, 9)]).decode()
    assert parse(text.replace("annotation", "Annotation").encode()).class_names == {"Gun"}
    assert parse(text.replace("<annotation>", '<annotation xmlns="http://x/y">', 1).encode()).class_names == {"Gun"}
    box = "<bndbox><xmin>11</xmin><ymin>1</ymin><xmax>19</xmax><ymax>9</ymax></bndbox></object>"
    assert parse(text.replace("</object>", box).encode()).boxes == (Box("Gun", 1, 1, 9, 9), Box("Gun", 11, 1, 19, 9))
    error = refusal_of(text.replace("</object>", "<name>Knife</name></object>").encode())
    assert (error.reason, error.detail) == ("unreadable_annotation", "an object has several names: Gun, Knife")


def test_an_encoding_that_is_not_as_declared_is_found_out():
    text = voc_xml([("Gun", 1, 1, 9, 9)]).decode().replace("MeioJane", "行李箱")
    assert parse(text.encode("gbk")).class_names == {"Gun"}
    assert parse(f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode("gbk")).class_names == {"Gun"}
    for name in ("utf-16", "utf-32", "gbk", "big5", "no-such", "base64"):
        declared = text.replace("行李箱", "禁品\N{BULLET}刀")  # in UTF-8 no GBK
        assert parse(f'<?xml version="1.0" encoding="{name}"?>{declared}'.encode()).class_names == {"Gun"}
    assert parse(f'<?xml version="1.0"?>{text}'.encode("utf-16-be")).class_names == {"Gun"}
    assert refusal_of(b"\xef\xbb\xbf<annotation>\xe4</annotation>").reason == "unreadable_xml"


TASER = "<name>Gun</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


@pytest.mark.parametrize(
    "inner",
    [
        f"<Object>{TASER}</Object>",
        f"<objects><object>{TASER}</object></objects>",
        f"<size><width>0</width><height>0</height></size><OBJECT>{TASER.upper().replace('GUN', 'Gun')}</OBJECT>",
        f'<object xmlns="http://example.invalid">{TASER}</object>',
    ],
)
def test_objects_that_are_spelled_otherwise_are_read(inner):
    assert parse(f"<annotation>{inner}</annotation>".encode()).boxes == (Box("Gun", 1, 2, 30, 40),)


@pytest.mark.parametrize(
    ("inner", "detail"),
    [
        ("", "the annotation is empty, which proves no absence"),
        (f"<items><item>{TASER}</item></items>", "there is no <object>, yet <items> may hold some"),
        (f"<obj>{TASER}</obj>", "there is no <object>, yet <obj> may hold some"),
        ("<filename>a.jpg</filename><bndbox/>", "there is no <object>, yet <bndbox> may hold some"),
    ],
)
def test_what_may_hold_objects_proves_no_absence(inner, detail):
    error = refusal_of(f"<annotation>{inner}</annotation>".encode())
    assert (error.reason, error.detail.partition(";")[0]) == ("unreadable_annotation", detail)


def test_the_size_of_the_image_is_read_unless_it_is_unknown():
    def size_of(width, height):
        return parse(
            f"<annotation><size><width>{width}</width><height>{height}</height></size></annotation>".encode()
        ).size

    assert size_of("200", "150.0") == (200, 150)
    assert size_of("0", "0") is size_of("", "") is size_of("nan", "3") is None


def test_deeply_nested_elements_do_not_exhaust_the_stack():
    depth = 100_000
    assert refusal_of(b"<a>" * depth + b"</a>" * depth).detail == "the root element is <a>, expected <annotation>"
