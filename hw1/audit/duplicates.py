"""Which files are copies of each other: every pair of hashes is compared, in blocks, and each candidate's pixels decide."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hw1.audit.image_hash import MAX_DISTANCE, MIN_SIMILARITY, Match, compare, similarity
from hw1.audit.scan import Scan
from hw1.data.decode import BadImage
from hw1.runtime.cpu import usable_cores

BLOCK = 2_000_000  # pairs of hashes compared at once: 16 MB
CANDIDATES = 4096  # of which the detail is compared at once


class Link(NamedTuple):
    """Files `first` < `second` (positions in the contents) are one image."""

    first: int
    second: int
    match: Match


class Groups:
    """Files by image: `of[i]` is the number of a group; at first each file is its own."""

    def __init__(self, num: int) -> None:
        self.of = np.arange(num)
        self.links: list[Link] = []

    def join(self, link: Link) -> None:
        self.links.append(link)
        self.of[self.of == self.of[link.second]] = self.of[link.first]

    def copies(self) -> list[list[int]]:
        """The groups of two files and more."""
        members = defaultdict(list)
        joined = np.isin(self.of, self.of[[link.first for link in self.links]])
        for index in np.flatnonzero(joined).tolist():
            members[int(self.of[index])].append(index)
        return sorted(members.values())


def find_copies(paths: Sequence[Path], found: Scan) -> Groups:
    """Groups all files that show one image. Two files of a group need not be compared: the links of a group form a tree."""
    groups = Groups(len(paths))
    first_of: dict[bytes, int] = {}
    for index, look in enumerate(found.looks):
        if not look.reason and (first := first_of.setdefault(look.digest, index)) != index:
            groups.join(Link(first, index, Match("same file", False, False, 1.0)))
    distinct = np.array([index for index in first_of.values() if found.has_detail[index]], dtype=np.int64)
    pool = ThreadPoolExecutor(usable_cores())
    try:
        for candidates in _candidates(distinct, found, pool):
            _confirm(candidates, groups, paths, pool)
    finally:
        pool.shutdown(cancel_futures=True)
    return groups


class Candidate(NamedTuple):
    first: int
    second: int
    mirrored: bool


def _candidates(distinct: NDArray[np.int64], found: Scan, pool: ThreadPoolExecutor) -> Iterator[list[Candidate]]:
    """Pairs of `distinct` whose hash and coarse detail agree, likeliest first, a block of rows at a time."""
    hashes = found.hashes[:, distinct]
    rows = max(1, BLOCK // max(len(distinct), 1))
    starts = range(0, len(distinct), rows)

    def search(start: int) -> list[Candidate]:
        pairs = []
        for mirrored in (False, True):
            distance = np.bitwise_count(hashes[int(mirrored), start : start + rows, None] ^ hashes[0, None, start:])
            first, second = np.nonzero(distance <= MAX_DISTANCE)
            once = first < second
            first, second = distinct[start + first[once]], distinct[start + second[once]]
            for i in range(0, len(first), CANDIDATES):
                a, b = first[i : i + CANDIDATES], second[i : i + CANDIDATES]
                like = similarity(found.detail, a, b, mirrored=mirrored)
                pairs += [(-float(like[k]), Candidate(int(a[k]), int(b[k]), mirrored)) for k in np.flatnonzero(like >= MIN_SIMILARITY)]
        return [candidate for _, candidate in sorted(pairs)]

    todo = tqdm(starts, desc="comparing images", unit=" blocks", disable=None, delay=1.0)
    width = usable_cores()
    for i in range(0, len(starts), width):  # not all at once: results wait for the pixels
        yield from pool.map(search, starts[i : i + width])
        todo.update(len(starts[i : i + width]))
    todo.close()


def _confirm(candidates: Sequence[Candidate], groups: Groups, paths: Sequence[Path], pool: ThreadPoolExecutor) -> None:
    """Compares the pixels of those that are not in one group yet, a handful at a time, and joins what is confirmed."""

    def check(candidate: Candidate) -> Match | None:
        try:
            return compare(paths[candidate.first], paths[candidate.second], mirrored=candidate.mirrored)
        except BadImage:  # changed or gone since it was scanned
            return None

    waiting = list(candidates)[::-1]
    while waiting:
        handful: list[Candidate] = []
        while waiting and len(handful) < 16:
            candidate = waiting.pop()
            if groups.of[candidate.first] != groups.of[candidate.second]:
                handful.append(candidate)
        for candidate, match in zip(handful, pool.map(check, handful), strict=True):
            if match is not None and groups.of[candidate.first] != groups.of[candidate.second]:
                groups.join(Link(candidate.first, candidate.second, match))
