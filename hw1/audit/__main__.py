"""Looks for what is wrong with a folder of pictures before a model is trained on it: python -m hw1.audit DATA_ROOT [--out DIR]"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw1 import __version__
from hw1.audit.duplicates import find_copies
from hw1.audit.findings import KINDS, Finding, find_all, headlines, leaked, statistics
from hw1.audit.inventory import Contents, list_contents
from hw1.audit.label_errors import Suspects, find_suspects
from hw1.audit.page import render_audit
from hw1.audit.scan import scan
from hw1.errors import UserError, run_command
from hw1.runs.folder import RunFolder
from hw1.utils.files import write_atomic

EXIT_FINDINGS = 1
EXIT_CODES = "exit codes: 0 clean, 1 findings, 2 a mistake in the command, 3 the audit could not be written, 130 interrupted"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hw1.audit", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("root", metavar="DATA_ROOT", type=Path, help="folder with train/, val/ and test/, or with class folders; only read")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("audit"), help="for audit.html and audit.json (default: ./audit)")
    parser.add_argument("--run", metavar="RUN_DIR", help="a run on this data: also lists labels and pictures that its model doubts")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    root = args.root.expanduser()
    if args.out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out {args.out}: lies in {root}, which is only read; choose a folder elsewhere")
    contents = list_contents(root)
    suspects = find_suspects(RunFolder.existing(args.run), contents) if args.run else None
    paths = [contents.path(index) for index in range(len(contents.pictures))]
    found = scan(paths)
    groups = find_copies(paths, found)
    findings = find_all(contents, found, groups)
    facts = {"leaked": leaked(contents, groups), **statistics(contents, found)}
    lines = headlines(contents, facts["leaked"], findings)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be made: {error.strerror}") from None
    page = render_audit(contents, findings, facts, suspects, lines)  # first, so that both files are written or neither
    write_atomic(args.out / "audit.json", (json.dumps(_as_json(contents, findings, facts, suspects), indent=1) + "\n").encode())
    write_atomic(args.out / "audit.html", page.encode())
    print("\n".join(lines))
    print(f"see {args.out / 'audit.html'}; every finding with its paths: {args.out / 'audit.json'}")
    return EXIT_FINDINGS if findings else 0


def _as_json(contents: Contents, findings: Sequence[Finding], facts: dict[str, Any], suspects: Suspects | None) -> dict[str, Any]:
    """Paths are relative to the root, as in the listing; `suspects` and `statistics` are no findings."""
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in KINDS}
    return {
        "root": str(contents.root),
        "hw1": __version__,
        "clean": not findings,
        "counts": counts,
        "findings": [_finding(contents, finding) for finding in findings],
        "statistics": facts,
        "suspects": suspects
        and {
            "run": suspects.run,
            "num_pictures": suspects.num_pictures,
            "accuracy": suspects.accuracy,
            "labels": [suspect._asdict() for suspect in suspects.labels],
            "outliers": [suspect._asdict() for suspect in suspects.outliers],
        },
    }


def _finding(contents: Contents, finding: Finding) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": finding.kind, "text": finding.text, "files": finding.files}
    if finding.links:
        name = [picture.file for picture in contents.pictures]
        record["links"] = [
            {"files": [name[link.first], name[link.second]], **link.match._asdict(), "correlation": round(link.match.correlation, 4)}
            for link in finding.links
        ]
    return record


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
