"""Parse the PASCAL VOC XML annotations of the SIXray release."""

import codecs
import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from shards.corpus.boxes import Annotation, AnnotationError, collect_boxes
from shards.format.keys import decode_chinese

MAX_ANNOTATION_BYTES = 1_000_000
"""The release's largest annotation has 4 kB."""
_DECLARED = re.compile(rb"""(?:\xef\xbb\xbf)?\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_ANY_UNICODE = ("utf-8", "utf8", "utf-16", "utf16", "us-ascii", "ascii", "unicode", "ucs-2")
_CHINESE = frozenset({"gb2312", "gb_2312-80", "gbk", "gb18030", "cp936", "ms936", "windows-936", "chinese", "euc-cn"})
_DESCRIPTIONS = frozenset(("source", "owner", "size", "imagesize", "objects"))
"""Elements of an annotation that have others within them, and describe no object."""
_PARTS_OF_OBJECTS = frozenset(("object", "bndbox", "bbox", "box", "robndbox", "polygon", "xmin", "xmax"))


def parse_annotation(text: bytes, class_of: Mapping[str, str]) -> Annotation:
    """Parse an annotation.

    `object` elements right below the root are items, unlike `<owner><name>` and `<source><annotation>`.

    Args:
        text: the file's bytes.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.

    Raises:
        AnnotationError: unreadable_xml (not XML, entities, too large), unreadable_annotation (nothing in it, or no
            objects that can be found), or bad_box (coordinates are no numbers).
    """
    if len(text) > MAX_ANNOTATION_BYTES:
        raise AnnotationError("unreadable_xml", f"the file has more than {MAX_ANNOTATION_BYTES} bytes")
    try:
        root = defusedxml.ElementTree.fromstring(_decode_xml(text), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError("unreadable_xml", f"{type(error).__name__}: {error}") from error
    if _tag(root) != "annotation":
        raise AnnotationError("unreadable_xml", f"the root element is <{root.tag}>, expected <annotation>")
    if root.tag != "annotation":  # <Annotation>, or in a namespace
        for element in root.iter():
            element.tag = _tag(element)
    objects = _find_objects(root)
    size = (root.findtext("size/width"), root.findtext("size/height"))
    return collect_boxes(chain.from_iterable(map(_parse_object, objects)), class_of, size=size)


def _find_objects(root: Element) -> list[Element]:
    """Return the objects of an annotation, also those spelled `<Object>` or wrapped in `<objects>`.

    Raises:
        AnnotationError: unreadable_annotation, if there are none, and what is there may describe some all the same.
    """
    wrapped = (item for item in root if _tag(item) == "objects")
    objects = [item for items in (root, *wrapped) for item in items if _tag(item) == "object"]
    if objects:
        for item in objects:
            if item.find("bndbox") is None:
                for element in item.iter():
                    element.tag = _tag(element)
        return objects
    if not len(root):
        raise AnnotationError("unreadable_annotation", "the annotation is empty, which proves no absence")
    for child in root:
        unknown = next((_tag(item) for item in child.iter() if _tag(item) in _PARTS_OF_OBJECTS), "")
        if unknown or (len(child) and _tag(child) not in _DESCRIPTIONS):
            detail = f"there is no <object>, yet <{child.tag}> may hold some; spell them as PASCAL VOC does"
            raise AnnotationError("unreadable_annotation", detail)
    return []


def _tag(element: Element) -> str:
    """Return a tag in lower case without its namespace."""
    return str(element.tag).rpartition("}")[2].lower()


def _decode_xml(text: bytes) -> str:
    """Return an XML document as text, which the parser takes as it is, whatever encoding it declares.

    The parser itself knows neither GBK nor its kin.
    """
    declared = _DECLARED.match(text)
    name = declared[1].decode().lower() if declared else "utf-8"
    if text.startswith((b"<\0?\0", b"\0<\0?")):
        return text.decode("utf-16-le" if text.startswith(b"<") else "utf-16-be")
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)) or name.startswith(_ANY_UNICODE):
        return decode_text(text)  # a declared UTF-16 that begins with ASCII is what .NET writes for UTF-8
    try:
        return text.decode("gb18030" if name in _CHINESE else name)
    except (UnicodeDecodeError, LookupError):
        return decode_text(text)  # saved again by an editor that left the declaration as it was


def decode_text(text: bytes) -> str:
    """Return a text file in UTF-8, UTF-16 with its mark, or GBK; UnicodeDecodeError for anything else."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return text.decode("utf-16")
    try:
        return text.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        if found := decode_chinese(text):
            return found
        raise


def as_utf8(data: bytes) -> bytes:
    """Return a text file, or its first bytes, in UTF-8 if it is UTF-16 with its mark, else as it is."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "ignore").encode("utf-8", "ignore")
    return data


def _parse_object(item: Element) -> Iterator[tuple[str, list[float]]]:
    """Yield name and corners of an object, for each of its boxes."""
    names = {name.text or "" for name in item.findall("name")} or {""}
    if len(names) > 1:
        raise AnnotationError("unreadable_annotation", f"an object has several names: {', '.join(sorted(names))[:80]}")
    (name,) = names
    for box in item.findall("bndbox") or [Element("bndbox")]:
        yield name, [_parse_coordinate(box, side) for side in ("xmin", "ymin", "xmax", "ymax")]


def _parse_coordinate(box: Element, name: str) -> float:
    text = box.findtext(name)
    try:
        value = float(text or "")
    except ValueError as error:
        raise AnnotationError("bad_box", f"<{name}> must be a number, got {text!r}") from error
    if not math.isfinite(value):
        raise AnnotationError("bad_box", f"<{name}> must be finite, got {text!r}")
    return value
