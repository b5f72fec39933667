"""Pages: templates in, one self-contained HTML file out; text is escaped, and a policy in each page forbids the rest."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ecgbatch import __version__
from ecgbatch.reports.svg import escaped, visible

_TEMPLATES = Path(__file__).parent / "templates"

STYLES = {"cohort.html": ("cohort.css", "style.css")}
"""Style sheets of a template that has more than ``style.css``."""


SERVED = ("'self'",)
"""What the policy of a page allows besides its own style and script where a server hands it out."""


@dataclass(frozen=True)
class Around:
    """What a server puts around a page that it hands out: further lines of its head, and markup above and below what it says.

    Such a page may also load style and script from that server and send it forms; a page in a file may neither.
    """

    head: Markup
    above: Markup
    below: Markup


def page(template: str, *, script: str = "", around: Around | None = None, **content: Any) -> str:
    """Return a page whole; arguments as in ``pieces``."""
    found, ours = _template(template, script, is_served=around is not None)
    return found.render(**ours, around=around, **content)


def pieces(template: str, *, script: str = "", **content: Any) -> Iterator[str]:
    """Render a template: text is escaped, an unknown name is an error, control characters show as a replacement character.

    Parameters
    ----------
    template
        File in ``templates/``.
    script
        File there that the page runs, the only script that its Content-Security-Policy lets run; none by default.
    content
        What the template names.

    """
    found, ours = _template(template, script, is_served=False)
    return found.generate(**ours, **content)


@cache
def _template(template: str, script: str, *, is_served: bool) -> tuple[jinja2.Template, dict[str, Any]]:
    """Return a template and what each of its pages holds: style, script and the policy that allows these and no others."""
    environment = environment_of(_TEMPLATES)
    sheets = STYLES.get(template, ("style.css",))
    style = _small("".join(_TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in sheets))
    run = _TEMPLATES.joinpath(script).read_text(encoding="utf-8") if script else ""
    own = [f"'sha256-{_csp_digest(style)}'"], [f"'sha256-{_csp_digest(run)}'"] if run else []
    styles, scripts = (" ".join([*digests, *(SERVED if is_served else ())]) for digests in own)
    may = {"default-src": "'none'", "style-src": styles, "script-src": scripts, "img-src": "data:" if is_served else ""}
    may |= {"base-uri": "'none'", "form-action": SERVED[0] if is_served else "'none'"}
    policy = "; ".join(f"{what} {allowed}" for what, allowed in may.items() if allowed)
    ours = {"style": Markup(style), "script": Markup(run), "policy": policy, "version": __version__}  # noqa: S704 - our own files
    return environment.get_template(template), ours


def number(value: float | None, digits: int = 3, unknown: str = "unknown") -> Markup:
    """Return a number as the page shows it, with its exact value beside it for machines (an HTML ``data`` element)."""
    return Markup(number_html(value, digits, unknown))  # noqa: S704 - digits, or escaped


def number_html(value: float | None, digits: int = 3, unknown: str = "unknown") -> str:
    """Return ``number`` as plain text of a page, for what is put together outside a template."""
    if value is None:
        return escaped(unknown)
    exact = repr(value) if type(value) in (float, int) else json.dumps(value)  # as JSON spells it, at a third of the time
    return f'<data value="{exact}">{value:z.{digits}f}</data>'


def probability(value: float | None, unknown: str = "unknown") -> Markup:
    """Return a probability with three digits; one that these would round to 0 or 1 says so, since none is certain."""
    return Markup(probability_html(value, unknown))  # noqa: S704 - escaped


def probability_html(value: float | None, unknown: str = "unknown") -> str:
    """Return ``probability`` as plain text of a page."""
    if value is None:
        return escaped(unknown)
    return f'<data value="{value!r}">{escaped(probability_text(value))}</data>'


def probability_text(value: float) -> str:
    """Return a probability as text: three digits, ``< 0.001`` and ``> 0.999`` at the ends."""
    return "> 0.999" if value >= 0.9995 else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def data_block(document: Iterable[tuple[str, Any]]) -> Iterator[Markup]:
    """Yield a JSON object that may stand inside a ``script`` element of type ``application/json``: nothing in it can end that.

    ``document`` gives its keys and values one after the other, so that only one is held.
    """
    yield Markup("{")
    comma = ""
    for key, value in document:
        yield Markup(f"{comma}{_data(key)}:")  # noqa: S704 - escaped below
        yield Markup(_data(value))  # noqa: S704
        comma = ","
    yield Markup("}")


def _data(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for mark, spelled in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(mark, spelled)
    return text


class _Environment(jinja2.Environment):
    """Looks a name up in a dict as what it mostly is: a key."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` of a template."""
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def beat_items(drawings: Iterable[Sequence[Any]]) -> Markup:
    """Return the items of a list of beats: name of the lead, a remark where there is one, and the drawing."""
    items = []
    for lead, *remarks, drawing in drawings:
        remark = f' <span class="small">{escaped(remarks[0])}</span>' if remarks and remarks[0] else ""
        items.append(f"<li><b><bdi>{escaped(lead)}</bdi></b>{remark}{drawing}</li>")
    return Markup("\n".join(items))  # noqa: S704 - escaped, and drawings are numbers and escaped text


@cache
def environment_of(templates: Path) -> jinja2.Environment:
    """Return the template engine of a folder: what it shows is escaped and visible, whoever's templates they are."""
    environment = _Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["number"] = number
    environment.filters["probability"] = probability
    environment.globals["beat_items"] = beat_items
    return environment


def _small(style: str) -> str:
    """Return a style sheet without the blanks and line breaks that are there for its writer alone."""
    return re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"(?<=[a-z]):\s+", ":", style)).replace(";}", "}").strip()


def _visible(value: Any) -> Any:
    if type(value) is str:
        return value if value.isascii() and value.isprintable() else visible(value)
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csp_digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()
