"""Find the files that are copies of each other: compare every pair of hashes, in blocks, and the pixels of each candidate."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.audit.image_hash import MAX_DISTANCE, MIN_SIMILARITY, Match, compare, similarity
from hw1.audit.scan import Scan
from hw1.data.decode import BadImage
from hw1.runtime.cpu import usable_cores
from hw1.utils.progress_bar import ProgressBar

BLOCK = 2_000_000  # pairs of hashes compared at once: 16 MB
MAX_CANDIDATES = 4096  # pairs whose detail is compared at once
PAIRS_AT_ONCE = 16  # pairs whose pixels are compared at once


class Link(NamedTuple):
    """Files `first` < `second` (positions in the inventory) are copies."""

    first: int
    second: int
    match: Match


class Groups:
    """Groups of files that are copies of each other.

    `ids[i]` is the number of the group of file i; at first each file is a group. `links` are the pairs that were joined.
    """

    def __init__(self, num: int) -> None:
        self.ids = np.arange(num)
        self.links: list[Link] = []
        self._members: dict[int, list[int]] = {}
        """Files of the groups of two and more, by number."""

    def join(self, link: Link) -> None:
        """Join the groups of two files: the smaller one gets the number of the larger."""
        self.links.append(link)
        numbers = {int(self.ids[link.first]), int(self.ids[link.second])}
        gone, kept = sorted((self._members.pop(number, [number]) for number in numbers), key=len)
        number = int(self.ids[kept[0]])
        self.ids[gone] = number
        kept += gone
        self._members[number] = kept

    def copies(self) -> list[list[int]]:
        """Return the groups of two files and more, as ascending positions."""
        return sorted(map(sorted, self._members.values()))


def find_copies(paths: Sequence[Path], scan: Scan) -> Groups:
    """Group all files that show one image. Not all pairs of a group are compared: its links form a tree."""
    groups = Groups(len(paths))
    first_of: dict[bytes, int] = {}
    for index, file in enumerate(scan.files):
        if not file.reason and (first := first_of.setdefault(file.digest, index)) != index:
            groups.join(Link(first, index, Match("same file", False, False, 1.0)))
    distinct = np.array([index for index in first_of.values() if scan.has_detail[index]], dtype=np.int64)
    pool = ThreadPoolExecutor(usable_cores())
    try:
        for candidates in _candidates(distinct, scan, pool):
            _confirm(candidates, groups, paths, pool)
    finally:
        pool.shutdown(cancel_futures=True)
    return groups


class Candidate(NamedTuple):
    """Two files whose hashes and coarse detail agree, with the first one mirrored or not."""

    first: int
    second: int
    mirrored: bool


def _candidates(distinct: NDArray[np.int64], scan: Scan, pool: ThreadPoolExecutor) -> Iterator[list[Candidate]]:
    """Yield the candidates among the files `distinct`, likeliest first, a block of pairs at a time."""
    hashes = scan.hashes[:, distinct]
    rows = max(1, BLOCK // max(len(distinct), 1))
    starts = range(0, len(distinct), rows)

    def search(start: int) -> list[Candidate]:
        pairs = []
        for mirrored in (False, True):
            distance = np.bitwise_count(hashes[int(mirrored), start : start + rows, None] ^ hashes[0, None, start:])
            first, second = np.nonzero(distance <= MAX_DISTANCE)
            once = first < second
            first, second = distinct[start + first[once]], distinct[start + second[once]]
            for i in range(0, len(first), MAX_CANDIDATES):
                a, b = first[i : i + MAX_CANDIDATES], second[i : i + MAX_CANDIDATES]
                like = similarity(scan.detail, a, b, mirrored=mirrored)
                pairs += [(-float(like[k]), Candidate(int(a[k]), int(b[k]), mirrored)) for k in np.flatnonzero(like >= MIN_SIMILARITY)]
        return [candidate for _, candidate in sorted(pairs)]

    bar = ProgressBar(starts, desc="comparing images", unit=" blocks", delay=1.0)
    width = usable_cores()
    for i in range(0, len(starts), width):  # not all at once: results wait for the pixels
        yield from pool.map(search, starts[i : i + width])
        bar.update(len(starts[i : i + width]))
    bar.close()


def _confirm(candidates: Sequence[Candidate], groups: Groups, paths: Sequence[Path], pool: ThreadPoolExecutor) -> None:
    """Compare the pixels of candidates that are not in one group yet, and join those that are copies."""

    def check(candidate: Candidate) -> Match | None:
        try:
            return compare(paths[candidate.first], paths[candidate.second], mirrored=candidate.mirrored)
        except BadImage:  # changed or gone since it was scanned
            return None

    waiting = list(candidates)[::-1]
    while waiting:
        batch: list[Candidate] = []
        while waiting and len(batch) < PAIRS_AT_ONCE:
            candidate = waiting.pop()
            if groups.ids[candidate.first] != groups.ids[candidate.second]:
                batch.append(candidate)
        for candidate, match in zip(batch, pool.map(check, batch), strict=True):
            if match is not None and groups.ids[candidate.first] != groups.ids[candidate.second]:
                groups.join(Link(candidate.first, candidate.second, match))
