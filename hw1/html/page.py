"""Values and a template to one HTML file: no server, no internet, no other file, no script but its own."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hw1 import __version__
from hw1.html.table import MINUS, Table, to_csv
from hw1.utils.text import showable, to_bytes


def render_page(package: str, values: Mapping[str, Any]) -> str:
    """`template.html` of `package`, which extends `frame.html` here, with `values`; `title` must be among them.

    What the page shows is escaped; a content security policy lets nothing run or load but what stands in the file itself.
    """
    environment = Environment(
        loader=FunctionLoader(lambda name: files(package if name == "template.html" else "hw1.html").joinpath(name).read_text()),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_showable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"csv_link": _csv_link, "link": data_link, "typeset": _typeset}
    style, script = (files("hw1.html").joinpath(name).read_text() for name in ("style.css", "script.js"))
    return environment.get_template("template.html").render(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'",
        style=Markup(style),
        script=Markup(script),
        version=__version__,
        **values,
    )


def data_link(content: bytes, media_type: str) -> str:
    """The content of a file, such as `image/png`, as a link that holds all of it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _typeset(text: str) -> str:
    """A sentence that begins with a capital, with a real minus, as in the tables, and an arrow that no line break splits."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.replace(" -> ", " → "))
    return text[:1].upper() + text[1:]


def _hash(content: str) -> str:
    """A style or script as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _showable(value: Any) -> Any:
    return type(value)(showable(value)) if isinstance(value, str) else value  # Markup stays Markup


def _csv_link(table: Table) -> str:
    return "data:text/csv;charset=utf-8," + quote(to_bytes(to_csv(table)))
