"""Render the audit as one HTML page with images; what is too much for a page is in audit.json."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import cv2
import numpy as np

from hw1.audit.findings import KINDS, Finding
from hw1.audit.inventory import Inventory
from hw1.audit.label_errors import LabelError, LabelErrors
from hw1.data.decode import BadImage, read_image
from hw1.html.page import data_link, render_page
from hw1.html.table import Column, Table

MAX_GROUPS, MAX_IMAGES = 40, 6  # shown of each kind, and of each group
MAX_ROWS = 500
THUMBNAIL = 180  # pixels of the longer side
TITLES = {
    "leak": "Leaks",
    "conflict": "Two labels",
    "duplicate": "Duplicates",
    "unreadable": "Unreadable",
    "cut short": "Cut short",
    "missing class": "Missing classes",
    "alike": "Names alike",
    "unclear": "Unclear labels",
    "passed over": "Passed over",
}


class PageImage(NamedTuple):
    """An image on the page."""

    source: str
    """Data URL; "" for an image that can no longer be read."""
    name: str
    notes: list[str]


class PageGroup(NamedTuple):
    """Copies of each other on the page."""

    title: str
    images: list[PageImage]
    num_more: int
    """Copies that are not shown."""


def render_audit(
    inventory: Inventory, findings: Sequence[Finding], facts: dict[str, Any], label_errors: LabelErrors | None, lines: Sequence[str]
) -> str:
    """Return the page.

    Args:
        inventory: The images.
        findings: All findings.
        facts: `statistics`.
        label_errors: What a run's model says of the images, None without a run.
        lines: `headlines`.
    """
    of_kind = {kind: [finding for finding in findings if finding.kind == kind] for kind in KINDS}
    kinds = [
        {
            "id": kind.replace(" ", "-"),
            "title": TITLES[kind],
            "meaning": KINDS[kind],
            "count": len(kind_findings),
            "groups": [_group(inventory, finding) for finding in islice(kind_findings, MAX_GROUPS) if finding.members],
            "rows": [finding for finding in islice(kind_findings, MAX_ROWS) if not finding.members],
            "num_more": max(len(kind_findings) - (MAX_GROUPS if kind_findings and kind_findings[0].members else MAX_ROWS), 0),
        }
        for kind, kind_findings in of_kind.items()
    ]
    sections: dict[str, str] = {"summary": "Summary"} | {str(kind["id"]): str(kind["title"]) for kind in kinds if kind["count"]}
    if label_errors:
        sections["suspects"] = "Suspects"
    sections["statistics"] = "Statistics"
    values = {
        "title": "Data audit",
        "sections": sections.items(),
        "root": inventory.root,
        "lines": lines,
        "kinds": kinds,
        "suspects": label_errors,
        "doubted": [_doubted_image(inventory, label_error) for label_error in label_errors.labels[:MAX_GROUPS]] if label_errors else [],
        "outliers": [_doubted_image(inventory, label_error) for label_error in label_errors.outliers[:MAX_GROUPS]] if label_errors else [],
        "tables": _tables(facts),
        "facts": facts,
    }
    return render_page("hw1.audit", values)


def _group(inventory: Inventory, finding: Finding) -> PageGroup:
    shown = [
        _page_image(inventory, inventory.images[index].file, _split_and_class(inventory, index)) for index in finding.members[:MAX_IMAGES]
    ]
    return PageGroup(finding.text, shown, len(finding.members) - len(shown))


def _split_and_class(inventory: Inventory, index: int) -> list[str]:
    image = inventory.images[index]
    return [image.split, *([] if image.label is None else [f"class {image.label}"])]


def _doubted_image(inventory: Inventory, label_error: LabelError) -> PageImage:
    label, predicted = (f"{probability:.0%}" for probability in (label_error.label_probability, label_error.predicted_probability))
    return _page_image(
        inventory, label_error.file, [f"labelled {label_error.label} ({label})", f"looks like {label_error.predicted} ({predicted})"]
    )


def _page_image(inventory: Inventory, file: str, notes: list[str]) -> PageImage:
    try:
        image = read_image(inventory.root / file, THUMBNAIL)
    except BadImage:
        return PageImage("", file, notes)
    height, width = image.shape[:2]
    scale = min(THUMBNAIL / max(height, width), 1.0)
    small = cv2.resize(image, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return PageImage(data_link(data.tobytes(), "image/jpeg"), file, notes)


def _tables(facts: dict[str, Any]) -> list[Table]:
    tables = [_split_table(facts["splits"])]
    if facts["traits"]:
        rows = [{"kind": kind, "images": trait["pictures"], "first": trait["examples"][0]} for kind, trait in facts["traits"].items()]
        columns = [Column("kind", "kind"), Column("images", "images", 0), Column("first", "the first")]
        tables.append(Table("kinds", "Other than plain 8-bit RGB", columns, rows))
    if facts["classes"]:
        splits = list(next(iter(facts["classes"].values())))
        rows = [{"class": name, **counts} for name, counts in facts["classes"].items()]
        tables.append(
            Table("classes", "Images of each class", [Column("class", "class"), *(Column(name, name, 0) for name in splits)], rows)
        )
    return tables


def _split_table(splits: dict[str, Any]) -> Table:
    columns = [Column("split", "split"), Column("images", "images", 0), Column("classes", "classes", 0), Column("megabytes", "MB", 1)]
    rows = [
        {"split": name, "images": facts["pictures"], "classes": facts["classes"], "megabytes": facts["bytes"] / 1e6}
        for name, facts in splits.items()
    ]
    for side in ("width", "height"):
        for which in ("min", "median", "max"):
            columns.append(Column(f"{which} {side}", f"{which} {side}", 0))
            for row, facts in zip(rows, splits.values(), strict=True):
                row[f"{which} {side}"] = (facts[side] or {}).get(which)
    return Table("splits", "Splits", columns, rows, note="Widths and heights in pixels, as stored.")
