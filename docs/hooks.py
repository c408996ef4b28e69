"""What MkDocs does with these pages beyond Markdown: links to files of the project, and the references that are made from the code."""

import contextlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()[^)\s#]+")
COPIED = "files"
"""Folder of the site for the files of the project that pages link to."""


def on_config(config: MkDocsConfig) -> None:
    """Document the code of this checkout; MkDocs takes back what a hook does to the path while it is loaded."""
    sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that a page links to or shows, so that a link works on the site as it does in the repository."""
    pages = [file for file in files if file.is_documentation_page()]
    for path in sorted({path for page in pages for _, path in links_out(page.src_uri, page.content_string)}):
        files.append(File.generated(config, copy_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point these links to the copies, and put in what is made from the code."""
    for link, path in links_out(page.file.src_uri, markdown):
        inside = posixpath.relpath(copy_of(path), posixpath.dirname(page.file.src_uri))
        markdown = markdown.replace(f"]({link}", f"]({inside}")
    for marker, make in {"<!-- recipe keys -->": recipe_keys, "<!-- commands -->": commands}.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def links_out(page: str, markdown: str) -> Iterator[tuple[str, str]]:
    """Yield each link of a page to a file of the project outside of docs/, and that file's path in the project."""
    for link in set(LINK.findall(markdown)):
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
        if "://" not in link and not path.startswith("docs/") and (ROOT / path).is_file():
            yield link, path


def copy_of(path: str) -> str:
    """Return where the site has a file of the project; Markdown as plain text, since its links are those of the repository."""
    return f"{COPIED}/{path}" + (".txt" if path.endswith(".md") else "")


def recipe_keys() -> str:
    """Return a table of keys for each section of the recipe, from its types."""
    from hw1.config.json_schema import recipe_schema

    schema = recipe_schema()
    texts = []
    for name, item in schema["properties"].items():
        section = schema["$defs"].get(item.get("$ref", "").rpartition("/")[2])
        if section is None:
            texts.append(f"## `{name}`\n\n{item['description']} Values: {describe_type(item)}.")
            continue
        rows = [
            f"| `{name}.{key}` {{ #{name}.{key} }} | {cell(each['description'])} | {describe_type(each)} | {default_of(each)} |"
            for key, each in section["properties"].items()
        ]
        head = [f"## `{name}`", "", section["description"], "", "| key | meaning | values | default |", "|---|---|---|---|"]
        texts.append("\n".join([*head, *rows]))
    return "\n\n".join(texts)


def describe_type(item: dict[str, Any]) -> str:
    """Return the values that a key takes, in words."""
    if choices := item.get("enum") or ([item["const"]] if "const" in item else None):
        shown = [f"`{choice}`" for choice in choices[:12]]
        return ", ".join(shown) + (f" and {len(choices) - 12} more" if len(choices) > 12 else "")
    if "anyOf" in item:
        return "; ".join(describe_type(each) for each in item["anyOf"])
    words = {
        "boolean": "`true`, `false`", "integer": "integer", "number": "number", "string": "text", "null": "`null`", "object": "mapping",
    }  # fmt: skip
    if item.get("type") == "array":
        inside = item.get("prefixItems") or [item.get("items", {})]
        return f"list of {len(inside) if 'prefixItems' in item else 'any length'}: {describe_type(inside[0]) or 'text'}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {item[key]}" for key, sign in signs.items() if key in item]
    return " ".join([words.get(item.get("type", ""), ""), *limits]).strip()


def default_of(item: dict[str, Any]) -> str:
    """Return the default of a key as YAML would have it."""
    value = item.get("default")
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def cell(text: str) -> str:
    """Return a text that stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def commands() -> str:
    """Return the help of every command, as it prints it."""
    from hw1.cli import COMMANDS

    os.environ["COLUMNS"] = "100"
    texts = []
    for name, command in COMMANDS.items():
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            import_module(command.module).main(["--help"], prog=f"hw1 {name}")
        texts.append(f"## `hw1 {name}`\n\n```text\n{out.getvalue().rstrip()}\n```")
    return "\n\n".join(texts)
