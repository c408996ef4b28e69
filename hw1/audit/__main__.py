"""Look for what is wrong with a folder of images before a model is trained on it: hw1 audit DATA_ROOT [--out DIR]."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw1 import __version__
from hw1.audit.duplicates import find_copies
from hw1.audit.findings import KINDS, Finding, count_leaks, find_all, headlines, statistics
from hw1.audit.inventory import Inventory, list_inventory, take_inventory
from hw1.audit.label_errors import OUT_OF_FOLD, LabelErrors, find_label_errors
from hw1.audit.page import render_audit
from hw1.audit.scan import scan_files
from hw1.config.load import load_recipe
from hw1.config.recipe import DataConfig
from hw1.config.settings import without_dashes
from hw1.config.shipped import recipes_folder
from hw1.errors import UserError, run_command
from hw1.runs.folder import RunFolder
from hw1.utils.files import write_atomic

EXIT_FINDINGS = 1
EXIT_CODES = "exit codes: 0 clean, 1 findings, 2 a mistake in the command, 3 the audit could not be written, 130 interrupted"


def parse(argv: Sequence[str], prog: str = "python -m hw1.audit") -> argparse.Namespace:
    """Parse the command line of the program `prog`."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("root", metavar="DATA_ROOT", type=Path, help="folder with train/, val/ and test/, or with class folders; only read")
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="columns of --labels: data.label_column=NAME, data.fold=0, ..."
    )
    parser.add_argument("--labels", metavar="FILE", help="table that lists the images and labels (data.labels); others are not read")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("audit"), help="for audit.html and audit.json (default: ./audit)")
    doubts = parser.add_mutually_exclusive_group()
    doubts.add_argument("--run", metavar="RUN_DIR", help="a run on this data: also lists labels and images that its model doubts")
    doubts.add_argument("--folds", metavar="DIR", type=Path, help="the same of all training images, by the folds of hw1 folds")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str = "python -m hw1.audit") -> int:
    """Audit a folder, write the two files and print the summary.

    Returns:
        The exit code: 0, or `EXIT_FINDINGS`.

    Raises:
        UserError: The folder holds no images, the run has no fitting predictions, or `--out` cannot be used.
    """
    args = parse(argv, prog)
    if args.overrides and not args.labels:
        raise UserError(f"{args.overrides[0]}: says what the columns of --labels are; add --labels FILE")
    root = args.root.expanduser()
    if args.out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out {args.out}: lies in {root}, which is only read; choose a folder elsewhere")
    inventory = list_inventory(_data_config(args)) if args.labels else take_inventory(root)
    label_errors = _find_label_errors(args, inventory)
    paths = [inventory.path(index) for index in range(len(inventory.images))]
    scan = scan_files(paths)
    groups = find_copies(paths, scan)
    findings = find_all(inventory, scan, groups)
    facts = {"leaked": count_leaks(inventory, groups), **statistics(inventory, scan)}
    lines = headlines(inventory, facts["leaked"], findings)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be made: {error.strerror}") from None
    page = render_audit(inventory, findings, facts, label_errors, lines)  # first, so that both files are written or neither
    write_atomic(args.out / "audit.json", (json.dumps(_as_json(inventory, findings, facts, label_errors), indent=1) + "\n").encode())
    write_atomic(args.out / "audit.html", page.encode())
    print("\n".join(lines))
    print(f"see {args.out / 'audit.html'}; every finding with its paths: {args.out / 'audit.json'}")
    return EXIT_FINDINGS if findings else 0


def _find_label_errors(args: argparse.Namespace, inventory: Inventory) -> LabelErrors | None:
    if args.folds:
        return find_label_errors(args.folds, args.folds / OUT_OF_FOLD, inventory)
    if args.run:
        run = RunFolder.existing(args.run)
        return find_label_errors(run.path, run.val_predictions, inventory)
    return None


def _data_config(args: argparse.Namespace) -> DataConfig:
    named = {"data.root": str(args.root), "data.labels": args.labels}
    return load_recipe(
        recipes_folder() / "base.yaml", [*(f"{key}={json.dumps(value)}" for key, value in named.items()), *args.overrides]
    ).data


def _as_json(inventory: Inventory, findings: Sequence[Finding], facts: dict[str, Any], label_errors: LabelErrors | None) -> dict[str, Any]:
    """Return the content of audit.json. Paths are relative to the root; `suspects` and `statistics` are no findings."""
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in KINDS}
    return {
        "root": str(inventory.root),
        "hw1": __version__,
        "clean": not findings,
        "counts": counts,
        "findings": [_finding(inventory, finding) for finding in findings],
        "statistics": facts,
        "suspects": label_errors
        and {
            "run": label_errors.run,
            "num_pictures": label_errors.num_images,
            "accuracy": label_errors.accuracy,
            "labels": [label_error._asdict() for label_error in label_errors.labels],
            "outliers": [label_error._asdict() for label_error in label_errors.outliers],
        },
    }


def _finding(inventory: Inventory, finding: Finding) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": finding.kind, "text": finding.text, "files": finding.files}
    if finding.links:
        files = [image.file for image in inventory.images]
        record["links"] = [
            {"files": [files[link.first], files[link.second]], **link.match._asdict(), "correlation": round(link.match.correlation, 4)}
            for link in finding.links
        ]
    return record


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
