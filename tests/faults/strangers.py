"""Files that would run code, or claim to be larger than they are, to every reader of checkpoints, weights and predictions."""

from pathlib import Path

from test_strangers import READERS, payloads, pickled, with_digest

from faults.tally import Tally, expect
from hw1.errors import UserError
from hw1.models.weights import WeightsError


def pickle_payloads(tally: Tally, folder: Path, n: int) -> None:
    """Six payloads in five formats, with and without a valid checksum, to each reader, `n` times over; the canary stays silent."""
    folder.mkdir(parents=True, exist_ok=True)
    canary = folder / "canary"
    for i in range(n):
        for kind in ("torch", "legacy", "plain", "tar", "numpy"):
            for name, content in payloads(canary).items():
                data = pickled({"format": 1, "state_dict": content} if kind != "numpy" else content, kind)
                for reader, read in READERS.items():
                    for variant in (data, with_digest(data)):
                        with tally.attempt(f"{name} as {kind} to {reader}, {i}"):
                            (folder / reader).write_bytes(variant)
                            try:
                                read(folder / reader)
                            except (UserError, WeightsError) as error:
                                expect("\n" not in str(error), f"unclear: {error}")
                            else:
                                expect(False, "was loaded")
                            expect(not canary.exists(), "code was run")
