"""What TensorBoard's own readers find in event files."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each curve, as TensorBoard draws them."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def events(folder: Path) -> list[tuple[str, int]]:
    """Tag and step of every value, in the order of the files."""
    files = sorted(folder.glob("events.out.tfevents.*"))
    return [(value.tag, event.step) for path in files for event in LegacyEventFileLoader(str(path)).Load() for value in event.summary.value]
