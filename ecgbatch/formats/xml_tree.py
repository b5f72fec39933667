"""XML read strictly: within limits, with no document type of the file's own, no entities and nothing from outside."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

from ecgbatch.formats.header import UnreadableRecord

MAX_ELEMENTS, MAX_DEPTH = 100_000, 64
"""The FDA's example has 5,000 elements, 20 deep; expat and the tree take a quarter of a second for the first limit."""
_DECLARATION = re.compile(r"<!DOCTYPE\s+([\w.:-]{1,100})")
_ROOT = re.compile(r"<([\w.:-]{1,100})[\s/>]")
_WRONG_ENCODING = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]{1,60}encoding=.utf-?16", re.IGNORECASE)
"""A declaration of UTF-16 that is not UTF-16 itself: the file was saved as UTF-8, and the declaration left as it was."""
_BEFORE_ROOT = {"<?": "?>", "<!--": "-->"}


class Element:
    """An element: ``name`` without its namespace, ``attributes`` as they are, ``text`` (its own, joined) and ``children``."""

    __slots__ = ("attributes", "children", "name", "parts")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes = name if ":" not in name else _local(name), attributes
        # Lists are made where they are needed: an element of three containers has the garbage collector run thrice as often.
        self.children: list[Element] | tuple[()] = ()
        self.parts: list[str] | tuple[()] = ()

    @property
    def text(self) -> str:
        """The element's own text, that of its children left out."""
        return "".join(self.parts)

    def all(self, *path: str) -> Iterator[Element]:
        """Yield the elements that a path of names leads to from here."""
        for child in self.children:
            if child.name == path[0]:
                if len(path) == 1:
                    yield child
                else:
                    yield from child.all(*path[1:])

    def first(self, *path: str) -> Element:
        """Return the first element that a path leads to, an empty one where there is none."""
        return next(self.all(*path), Element("", {}))

    def told(self, *path: str) -> str:
        """Return the text of the first element that a path leads to, without white space around; empty where there is none."""
        return self.first(*path).text.strip()

    def value(self, *path: str, name: str = "value") -> str:
        """Return an attribute of the first element that a path leads to; empty where there is none."""
        return self.first(*path).attributes.get(name, "").strip()


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def parse_xml(content: bytes) -> Element:
    """Return the root of an XML file.

    Raises
    ------
    UnreadableRecord
        ``XML_UNSAFE`` for a document type with declarations, entities or references to them; ``HEADER_LIMIT``;
        ``HEADER_TRUNCATED`` where the file ends early; ``HEADER_SYNTAX`` for whatever else is no well-formed XML.

    """
    top = here = Element("", {})
    around: list[Element] = []
    n_elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal here, n_elements
        n_elements += 1
        if n_elements > MAX_ELEMENTS or len(around) >= MAX_DEPTH:
            raise UnreadableRecord("HEADER_LIMIT", f"more than {MAX_ELEMENTS} elements, or {MAX_DEPTH} inside each other")
        around.append(here)
        element = Element(name, attributes)
        if not here.children:
            here.children = []
        here.children.append(element)
        here = element

    def end(_: str) -> None:
        nonlocal here
        here = around.pop()

    def text(part: str) -> None:
        if not here.parts:
            here.parts = []
        here.parts.append(part)

    parser = expat.ParserCreate("utf-8" if _WRONG_ENCODING.match(content) else None)
    parser.buffer_text, parser.buffer_size = True, 1 << 16
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = _refuse_declarations
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = _refuse
    try:
        parser.Parse(content.lstrip(b"\r\n\t ") if content[:1].isspace() else content, True)
    except expat.ExpatError as error:
        raise _refusal(error, content) from None
    except UnreadableRecord:
        raise
    except (ValueError, LookupError):  # an encoding that is none, or whose characters have several bytes
        raise UnreadableRecord("HEADER_ENCODING", "the XML file's encoding is not known; save it as UTF-8") from None
    return next(iter(top.children))


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
