"""Find names of classes that look the same and are not: in Unicode form, in case or in spaces. No torch."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from hw1.utils.text import some_of

ALIKE = "in Unicode form, case or spaces"


def alike_key(name: str) -> str:
    """Return a key that names have in common if they differ only in Unicode form, case or spaces."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of two or more different names that have the same `alike_key`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[alike_key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def describe_alike(names: Iterable[str]) -> str:
    """Warn in one line of classes whose names are alike, escaped so that the difference is seen; return "" if there are none."""
    groups = [" and ".join(map(ascii, group)) for group in find_alike(names)]
    return f"warning: class names that differ only {ALIKE}: {some_of(groups)}; each is a class of its own" if groups else ""


def hint_alike(name: str, others: Iterable[str]) -> str:
    """Return what to add to the message that `name` is unknown among `others`: one that is alike, or ""."""
    key = alike_key(name)
    return next((f"; {name!a} differs only {ALIKE} from {other!a}: rename one" for other in others if alike_key(other) == key), "")
