"""Render one self-contained HTML file from a template and values: no server, no internet, no other file, no script but its own."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hw1 import __version__
from hw1.html.table import MINUS, Table, to_csv
from hw1.utils.text import showable, to_bytes


def render_page(package: str, values: Mapping[str, Any], scripts: Sequence[str] = ()) -> str:
    """Render `template.html` of `package`, which extends `frame.html` of this package.

    All values are escaped, and a content security policy lets the browser run and load only what stands in the file itself.

    Args:
        package: Dotted name of the package that holds `template.html`.
        values: What the template shows; `title` must be among them.
        scripts: Further scripts of the page, in the order in which they are run.

    Returns:
        The whole page.
    """
    environment = Environment(
        loader=FunctionLoader(lambda name: files(package if name == "template.html" else "hw1.html").joinpath(name).read_text()),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_showable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"csv_link": _csv_link, "link": data_link, "typeset": _typeset, "json_block": _json_block}
    style, script = (files("hw1.html").joinpath(name).read_text() for name in ("style.css", "script.js"))
    scripts = [script, *scripts]
    styles = _csp_hash(style) if len(scripts) == 1 else "'unsafe-inline'"  # plotly writes styles; none of them can load anything
    allowed = f"style-src {styles}; script-src {' '.join(map(_csp_hash, scripts))}"
    return environment.get_template("template.html").render(
        policy=f"default-src 'none'; img-src data:; {allowed}; base-uri 'none'",
        style=Markup(style),
        scripts=[_Script(each) for each in scripts],
        version=__version__,
        **values,
    )


class _Script(Markup):
    """A script, whose characters are all kept: some libraries hold control characters, and the policy's hash is of every byte."""


def data_link(content: bytes, media_type: str) -> str:
    """Return a `data:` link that holds the whole content of a file.

    Args:
        content: The bytes of the file.
        media_type: Its type, such as `image/png`.
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _typeset(text: str) -> str:
    """Capitalize a sentence; write minus signs as the tables do, and `->` as an arrow that no line break splits."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.replace(" -> ", " → "))
    return text[:1].upper() + text[1:]


def _json_block(text: str) -> Markup:
    """Return JSON for a `<script type="application/json">`, which no text in it can end."""
    return Markup(showable(text).replace("<", "\\u003c").replace("&", "\\u0026"))


def _csp_hash(content: str) -> str:
    """Return the hash by which the content security policy allows an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _showable(value: Any) -> Any:
    if isinstance(value, _Script) or not isinstance(value, str):
        return value
    return type(value)(showable(value))  # Markup stays Markup


def _csv_link(table: Table) -> str:
    return "data:text/csv;charset=utf-8," + quote(to_bytes(to_csv(table)))
