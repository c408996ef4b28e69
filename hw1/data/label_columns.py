"""Find out which columns of `data.labels` hold what, by their usual names. No torch, no numpy."""

import re
from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from hw1.config.recipe import FLAT_VAL_FRACTION, NO_COLUMN, DataConfig
from hw1.data.table_file import Table, limit, read_table
from hw1.errors import UserError
from hw1.utils.text import printable, some_of

Split = Literal["train", "val", "test"]
SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}  # fmt: skip
"""Usual words for a split, in lower case."""
NAMES = {
    "file": (
        ("file", "filename", "filepath", "path", "imagefile", "imagefilename", "imagepath", "imgpath", "imgfile", "fname"),
        ("image", "img", "imagename", "imgname", "picture", "photo"),
        ("imageid", "imgid", "id"),
    ),
    "label": (
        ("label", "labels", "class", "target", "category", "y"),
        ("labelname", "classname", "categoryname", "species", "breed"),
        ("labelid", "classid", "categoryid", "classindex", "labelindex"),
    ),
    "split": (("split", "set", "subset", "partition"),),
    "fold": (("fold", "kfold", "foldid", "folds"),),
    "group": (("group", "groupid", "patient", "patientid", "subject", "subjectid", "participant", "participantid", "lesionid", "videoid"),),
}  # fmt: skip
"""Usual names of the columns, in lower case, of letters and digits alone. Of several that are there, those of an earlier group count."""
NEEDED = ("file", "label", "fold")
FOLD = re.compile(r"\s*([0-9]{1,9})(\.0*)?\s*")


def read_labels(config: DataConfig) -> tuple[Table, DataConfig]:
    """Read `data.labels`, and set every key that says which column is which.

    Args:
        config: The recipe's section `data`, with `labels`.

    Returns:
        The table; and the section, where columns that the file lacks, and `fold_column` without `fold` alone, are not set but named
        `NO_COLUMN`.

    Raises:
        UserError: The file cannot be read, or a column is absent or ambiguous.
    """
    table = read_table(Path(str(config.labels)), "data.labels")
    roles = ["file", "label", "split", "group", *(["fold"] if config.fold is not None else [])]
    problems: list[str] = []
    columns: dict[str, str] = {}
    taken = {getattr(config, f"{role}_column") for role in roles}
    for role in roles:
        columns[f"{role}_column"] = _choose(role, getattr(config, f"{role}_column"), table, taken, problems)
    if problems:
        raise UserError(*problems)
    return table, config.model_copy(update=columns)


def close_labels(config: DataConfig, seed: int) -> tuple[DataConfig, list[str]]:
    """Return the section with its columns set, and `val_fraction` where it is null and the file names no validation images.

    Without `labels`, or where there is no such file, the section is returned as it is.

    Args:
        config: The recipe's section `data`.
        seed: The run's seed.

    Returns:
        The section; and what to tell the user, a line each.
    """
    if config.labels is None or not Path(config.labels).is_file():
        return config, []
    table, closed = read_labels(config)
    sides = _sides(table, closed)
    if "val" not in sides and config.val_fraction is None:
        closed = closed.model_copy(update={"val_fraction": FLAT_VAL_FRACTION})
    lines = [_describe_found(config, closed, seed)]
    if "val" in sides and closed.group_column != NO_COLUMN:
        lines.append(_describe_shared(table.column(str(closed.group_column)), sides, closed))
    return closed, [line for line in lines if line]


def split_words(table: Table, config: DataConfig) -> dict[str, Split | None]:
    """Return what each different cell of the split column stands for; None for an empty one.

    Args:
        table: The table.
        config: The section `data`, with all columns set.

    Raises:
        UserError: A cell is no usual word for a split; one line for each.
    """
    if config.split_column in (None, NO_COLUMN):
        return {}
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(table.column(str(config.split_column))):
        rows[cell].append(row)
    words = {word: SPLIT_WORDS.get(word.strip().lower()) for word in rows}
    name = f"data.split_column: {printable(table.path)}"
    unknown = [word for word, split in words.items() if split is None and word.strip()]
    if unknown:
        problems = [f"{name}, {table.where(rows[word])}: {word!r} in {config.split_column} is not train, val or test" for word in unknown]
        raise UserError(*limit(problems, name, f"such words; data.split_column={NO_COLUMN} does without"))
    return words


def _sides(table: Table, config: DataConfig) -> list[Split | None]:
    """Return the split of each row as the file says it, by split or by fold; None where it does not."""
    words = split_words(table, config)
    splits: list[Split | None] = [None] * len(table.lines)
    if words:
        splits = [words[cell] for cell in table.column(str(config.split_column))]
    if config.fold is None:
        return splits
    folds = map(read_fold, table.column(str(config.fold_column)))
    return [split if split == "test" else "val" if fold == config.fold else "train" for split, fold in zip(splits, folds, strict=True)]


def read_fold(cell: str) -> int | None:
    """Return the number of a fold, which a table may write as `3`, `03` or `3.0`; None for anything else."""
    match = FOLD.fullmatch(cell)
    return int(match[1]) if match else None


def _describe_found(before: DataConfig, closed: DataConfig, seed: int) -> str:
    """Say in one line which columns were found by name, and what is held out."""
    keys = [key for key in DataConfig.model_fields if key.endswith("_column") and getattr(before, key) is None]
    found = [
        f"{key.removesuffix('_column')} = {printable(name)}" for key in keys if (name := getattr(closed, key)) not in (None, NO_COLUMN)
    ]
    parts = [f"columns {', '.join(found)} (by name; data.{keys[0]}=NAME takes another)"] if found else []
    if before.val_fraction is None and closed.val_fraction is not None:
        group = "" if closed.group_column == NO_COLUMN else f", each {printable(closed.group_column)} on one side"
        share = f"{'about ' if group else ''}{closed.val_fraction:.0%}"
        parts.append(f"{share} of each class, drawn by seed {seed}, are held out for validation{group}")
    return f"data.labels: {printable(closed.labels)}: {'; '.join(parts)}" if parts else ""


def _describe_shared(groups: Sequence[str], sides: Sequence[Split | None], config: DataConfig) -> str:
    """Warn in one line of groups that the file has both in training and in validation; return "" if there are none."""
    train, val = ({group for group, each in zip(groups, sides, strict=True) if each == side} - {""} for side in ("train", "val"))
    shared = sorted(train & val)
    if not shared:
        return ""
    column, name = printable(config.group_column), printable(config.labels)
    return f"warning: {name}: {len(shared)} of {len(val)} {column} in validation are in training too ({some_of(shared, 2)})"


def _choose(role: str, name: str | None, table: Table, taken: set[str | None], problems: list[str]) -> str:
    """Return the column that has a role, `NO_COLUMN` for none; append to `problems` what is wrong."""
    key, path = f"data.{role}_column", printable(table.path)
    if name is not None:
        if name != NO_COLUMN and table.header.count(name) != 1:
            problems.append(f"{key}: {path}: {'several columns' if name in table.header else 'no column'} {name!r}{_nearest(name, table)}")
        return name
    for names in NAMES[role]:
        found = [column for column in table.header if _plain(column) in names and column not in taken]
        if len(found) == 1 and table.header.count(found[0]) == 1:
            return found[0]
        if found:
            twice = len(set(found)) < len(found)
            what = f"several columns {found[0]!r}" if twice else f"is it {' or '.join(map(printable, found))}? set {key}=NAME"
            problems.append(f"{key}: {path}: {what}")
            return NO_COLUMN
    if role in NEEDED:
        problems.append(f"{key}: {path}: none of its columns has a usual name ({_listed(table)}); set {key}=NAME{_headless(table.header)}")
    return NO_COLUMN


def _plain(column: str) -> str:
    return re.sub("[^a-z0-9]", "", column.lower())


def _nearest(name: str, table: Table) -> str:
    nearest = get_close_matches(name, table.header, n=1)
    return "" if name in table.header else f"; {f'nearest: {printable(*nearest)}; ' if nearest else ''}it has {_listed(table)}"


def _listed(table: Table) -> str:
    return some_of((name or '""' for name in table.header), 10)


def _headless(header: Sequence[str]) -> str:
    """Return a hint where the first line looks like an image and its label rather than like names of columns."""
    return "; its first line must name the columns" if any(re.search(r"\.[A-Za-z]{3,4}$", name) for name in header) else ""
