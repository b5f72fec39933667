"""XML read strictly: within limits, with no document type of the file's own, no entities and nothing from outside."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import NoReturn
from xml.etree.ElementTree import Element as Node
from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser
from xml.parsers import expat

from ecgbatch.formats.header import UnreadableRecord

MAX_ELEMENTS, MAX_DEPTH = 100_000, 64
"""The FDA's example has 5,000 elements, 20 deep; expat and the tree take a quarter of a second for the first limit."""
_DECLARATION = re.compile(r"<!DOCTYPE\s+([\w.:-]{1,100})")
_ROOT = re.compile(r"<([\w.:-]{1,100})[\s/>]")
_WRONG_ENCODING = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]{1,60}encoding=.utf-?16", re.IGNORECASE)
"""A declaration of UTF-16 that is not UTF-16 itself: the file was saved as UTF-8, and the declaration left as it was."""
_DOCTYPE = b"<!DOCTYPE"
"""What declarations begin with, and nothing else does; a file that has several of them has some in comments or text."""
_NAMES_A_FILE = re.compile(rb"<!DOCTYPE\s+[\w.:-]{1,100}(?:\s+SYSTEM\s*(?:\"[^\"]*\"|'[^']*'))?\s*>")
_XML_DECLARATION = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:<\?xml\s(?:(?!encoding)[^>]){0,100}(?:encoding\s*=\s*[\"']([^\"'>]{0,40})[^>]{0,100})?>|(?!<\?xml)<[?!\w])"
)
_HAS_ASCII = re.compile(rb"utf-8|(?:us-)?ascii|iso-8859-\d{1,2}|windows-125\d", re.IGNORECASE)
"""Encodings in which the first 128 characters are bytes of their own."""
_SEVERAL_BYTES = MappingProxyType(
    dict.fromkeys(("gb2312", "gbk", "gb18030", "cp936"), "gb18030")
    | dict.fromkeys(("euc-kr", "ks_c_5601-1987", "cp949"), "cp949")
    | dict.fromkeys(("shift_jis", "shift-jis", "windows-31j", "cp932"), "cp932")
    | {"euc-jp": "euc_jp", "iso-2022-jp": "iso2022_jp", "big5": "big5hkscs"}
)
"""Encodings of East Asia by the name in the declaration: names and comments are in them, nothing that is measured."""
_BEFORE_ROOT = {"<?": "?>", "<!--": "-->"}


class Element:
    """An element: ``name`` without its namespace, ``attributes``, ``text`` (its own, joined) and ``children``."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def name(self) -> str:
        """The element's name, its namespace left out."""
        return self._node.tag

    @property
    def attributes(self) -> dict[str, str]:
        """The element's attributes; those of a namespace of their own have names that no reader asks for."""
        return self._node.attrib

    @property
    def text(self) -> str:
        """The element's own text, that of its children left out."""
        return _text(self._node)

    @property
    def children(self) -> list[Element]:
        """The elements that stand in this one."""
        return [Element(node) for node in self._node]

    def all(self, *path: str) -> Iterator[Element]:
        """Yield the elements that a path of names leads to from here."""
        for node in _nodes(self._node, path):
            yield Element(node)

    def first(self, *path: str) -> Element:
        """Return the first element that a path leads to, an empty one where there is none."""
        node = _first(self._node, path)
        return Element(Node("") if node is None else node)

    def told(self, *path: str) -> str:
        """Return the text of the first element that a path leads to, without white space around; empty where there is none."""
        node = _first(self._node, path)
        return "" if node is None else _text(node).strip()

    def value(self, *path: str, name: str = "value") -> str:
        """Return an attribute of the first element that a path leads to; empty where there is none."""
        node = _first(self._node, path)
        return "" if node is None else node.get(name, "").strip()


def _text(node: Node) -> str:
    return "".join([node.text or "", *[child.tail or "" for child in node]]) if len(node) else node.text or ""


def _nodes(node: Node, path: tuple[str, ...]) -> list[Node]:
    found = node.findall(path[0])
    for name in path[1:]:
        found = [below for each in found for below in each.findall(name)]
    return found


def _first(node: Node, path: tuple[str, ...]) -> Node | None:
    if len(path) == 1:
        return node.find(path[0])
    return next(iter(_nodes(node, path)), None)


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def parse_xml(content: bytes) -> Element:
    """Return the root of an XML file.

    A file in which nothing can be declared is parsed in machine code; any other, and one that fails there, step by step: the
    verdict is always that of the steps.

    Raises
    ------
    UnreadableRecord
        ``XML_UNSAFE`` for a document type with declarations, entities or references to them; ``HEADER_LIMIT``;
        ``HEADER_TRUNCATED`` where the file ends early; ``HEADER_SYNTAX`` for whatever else is no well-formed XML.

    """
    content = content.lstrip(b"\r\n\t ") if content[:1].isspace() else content
    encoding = "utf-8" if _WRONG_ENCODING.match(content) else None
    if codec := _codec_of(content):
        content, encoding = content.decode(codec, "replace").encode(), "utf-8"
    root = _parsed_at_once(content, encoding) if _declares_nothing(content, encoding) else None
    return Element(_parsed_in_steps(content, encoding) if root is None else root)


def _codec_of(content: bytes) -> str:
    """Return what decodes a file whose characters may have several bytes, which expat does not know; empty for any other."""
    declared = _XML_DECLARATION.match(content)
    return _SEVERAL_BYTES.get((declared[1] or b"").decode("ascii", "replace").lower(), "") if declared else ""


def _declares_nothing(content: bytes, encoding: str | None) -> bool:
    """Tell whether a file has no document type, or one that only names a file, for certain: by its bytes, whatever lies in it.

    Bytes tell only where the encoding is one that has ASCII in it, or UTF-16.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        mark = _DOCTYPE.decode().encode("utf-16-le" if content.startswith(codecs.BOM_UTF16_LE) else "utf-16-be")
        return mark not in content
    declared = _XML_DECLARATION.match(content)
    if declared is None or (declared[1] and not encoding and not _HAS_ASCII.fullmatch(declared[1])):
        return False
    n_types = content.count(_DOCTYPE)
    return not n_types or (n_types == 1 and _NAMES_A_FILE.search(content) is not None)


def _parsed_at_once(content: bytes, encoding: str | None) -> Node | None:
    """Return the root, names without their namespaces; None for whatever is not well formed, or may be beyond a limit."""
    if content.count(b"<") > MAX_ELEMENTS:
        return None
    parser = XMLParser(encoding=encoding)  # noqa: S314 - nothing is declared in the file: there is nothing to attack with
    try:
        parser.feed(content)
        root: Node = parser.close()
    except (ParseError, ValueError, LookupError):
        return None
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in node]
    if level:
        return None
    for node in root.iter():
        if node.tag[0] == "{":
            node.tag = node.tag.rpartition("}")[2]
    return root


def _parsed_in_steps(content: bytes, encoding: str | None) -> Node:
    """Return the root of a file of which every part is judged when it is met."""
    builder, n_elements, depth = TreeBuilder(), 0, 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal n_elements, depth
        n_elements += 1
        depth += 1
        if n_elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise UnreadableRecord("HEADER_LIMIT", f"more than {MAX_ELEMENTS} elements, or {MAX_DEPTH} inside each other")
        builder.start(_local(name), attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    parser = expat.ParserCreate(encoding)
    parser.buffer_text, parser.buffer_size = True, 1 << 16
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = _refuse_declarations
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = _refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise _refusal(error, content) from None
    except UnreadableRecord:
        raise
    except (ValueError, LookupError):  # an encoding that is none, or whose characters have several bytes
        raise UnreadableRecord("HEADER_ENCODING", "the XML file's encoding is not known; save it as UTF-8") from None
    return builder.close()


_EARLY_ENDS = frozenset({"no element found", "unclosed token", "unclosed CDATA section", "partial character"})


def _refusal(error: expat.ExpatError, content: bytes) -> UnreadableRecord:
    meaning = expat.ErrorString(error.code)
    if meaning in _EARLY_ENDS:
        return UnreadableRecord("HEADER_TRUNCATED", "the XML file ends early; fetch it again" if content else "an empty file")
    return UnreadableRecord("HEADER_SYNTAX", f"line {error.lineno}: the XML is not well formed ({meaning}); export it again")


def _refuse_declarations(_name: str, _system: str | None, _public: str | None, has_subset: int) -> None:
    """Let a document type pass that only names a file (GE's ``restecg.dtd``, which is not opened)."""
    if has_subset:
        _refuse()


def _refuse(*_: object) -> NoReturn:
    raise UnreadableRecord("XML_UNSAFE", "the XML file declares or uses entities, as no ECG does; they are not followed")


def root_name(head: bytes) -> str:
    """Return the local name of an XML file's root, as far as its first bytes show it; empty where they do not, or are no XML."""
    text = _decoded(head).lstrip("\ufeff \t\r\n")
    while text.startswith("<"):
        mark = next((mark for mark in _BEFORE_ROOT if text.startswith(mark)), "")
        if not mark:
            match = _DECLARATION.match(text)
            if match and ("[" in text[: text.find(">")] or ">" not in text):
                return _local(match[1])
            if not match:
                root = _ROOT.match(text)
                return _local(root[1]) if root else ""
        end = _BEFORE_ROOT.get(mark, ">")
        text = text.partition(end)[2].lstrip()
    return ""


def _decoded(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", "replace")
    return head.decode("utf-8-sig", "replace")
