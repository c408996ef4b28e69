"""All kinds of faults: how often each is tried in `make test` and in `make torture`."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from faults import (
    anymodel,
    arithmetic,
    changes,
    checkpoints,
    configuration,
    disks,
    folders,
    fuzz,
    inside,
    kills,
    levers,
    loader,
    photos,
    pictures,
    places,
    ranks,
    results,
    saving,
    starts,
    stops,
    strangers,
    torn,
)
from faults.tally import Tally


class Fault(NamedTuple):
    name: str
    what: str
    attempt: Callable[[Tally, Path, int], None]
    """Tries it in an empty folder, as often as the number says."""
    short: int
    """0: what the other tests do is enough for `make test`."""
    long: int


FAULTS = [
    Fault("kill", "kill -9 at any moment, no loader processes", partial(kills.kill_and_resume, workers=0), 1, 20),
    Fault("kill-workers", "kill -9 at any moment, 2 loader processes", partial(kills.kill_and_resume, workers=2), 0, 20),
    Fault("wandb", "kill -9, curves in wandb", kills.wandb_goes_on, 0, 4),
    Fault("soak", "kill -9 and resume, one run again and again", kills.soak, 3, 60),
    Fault("stop", "any of six signals that stop, at any moment", stops.stop_and_resume, 0, 12),
    Fault("levers", "kill -9 under timm's optimizers, schedules and losses", levers.kill_and_resume, 0, 12),
    Fault("levers-ranks", "the same with two processes that train together", levers.kill_ranks_and_resume, 0, 2),
    Fault("stop-large", "SIGTERM to a ResNeXt101", stops.stop_large, 0, 1),
    Fault("stop-hung", "SIGTERM or SIGINT while the loader hangs", stops.stop_hung, 0, 4),
    Fault("second-signal", "a second signal while the state is saved", stops.second_signal, 0, 4),
    Fault("ranks-kill", "kill -9 of three processes that train together, or of one", ranks.kill_and_resume, 0, 10),
    Fault("ranks-stop", "SIGTERM or SIGINT to three, or to one", ranks.stop_and_resume, 0, 8),
    Fault("saving", "time that saving takes", saving.share_of_saving, 0, 1),
    Fault("torn-state", "a state cut, or one bit flipped", torn.torn_states, 50, 50),
    Fault("torn-weights", "best.safetensors cut, or one bit flipped", torn.torn_weights, 50, 50),
    Fault("torn-run", "run continued from a damaged state", torn.torn_runs, 0, 6),
    Fault("full-disk", "disk full", disks.full_disk, 0, 6),
    Fault("read-only", "disk read-only", disks.read_only_disk, 0, 4),
    Fault("photo", "a bad or an odd image", photos.each_kind, 2, 20),
    Fault("photos", "1 % of the images bad", photos.bad_photos, 0, 6),
    Fault("real-photos", "1 % of real images bad", photos.real_photos, 0, 1),
    Fault("damaged-jpeg", "a JPEG cut, joined with another, or with noise in it", pictures.damaged_jpegs, 0, 60),
    Fault("odd-tiff", "a TIFF of any values, in any layout", pictures.odd_tiffs, 0, 400),
    Fault("turning-bad", "images that break during the run", photos.turning_bad, 0, 6),
    Fault("killed-worker", "loader process killed", loader.killed_workers, 0, 5),
    Fault("hung-worker", "loader process hangs", loader.hung_workers, 0, 5),
    Fault("shared-memory", "/dev/shm full", loader.no_shared_memory, 0, 3),
    Fault("orphans", "kill -9 beside loader processes: none stays", loader.orphans, 0, 5),
    Fault("console", "the console full, closed or no longer read", starts.consoles, 0, 6),
    Fault("overwrite", "killed and stopped, each start with --overwrite", starts.overwrite, 0, 6),
    Fault("start-weights", "start weights deleted, or the summary of a run that stopped early", starts.without_weights, 0, 3),
    Fault("odd-lock", ".lock is a link, a pipe or a folder", starts.odd_locks, 0, 8),
    Fault("malformed", "a state or metrics with a right checksum and a wrong content", starts.malformed, 0, 21),
    Fault("last-batch", "a last batch of one image", starts.last_batches, 0, 12),
    Fault("override-text", "any text in an override", starts.override_texts, 50, 3000),
    Fault("not-finite", "NaN or infinity in the loss or a gradient", arithmetic.not_finite, 0, 12),
    Fault("scaler", "an fp16 scaler leaves out steps", arithmetic.skipped_by_scaler, 0, 2),
    Fault("out-of-memory", "out of memory", arithmetic.out_of_memory, 0, 6),
    Fault("recipe", "a mistake in the recipe", configuration.broken_recipes, 0, 60),
    Fault("pickle", "a checkpoint that would run code", strangers.pickle_payloads, 0, 1),
    Fault("checkpoint", "a real checkpoint with odd things beside the weights", checkpoints.strange_checkpoints, 0, 1),
    Fault("absurd", "a file that claims, unpacks to or reaches too much", strangers.absurd_files, 1, 5),
    Fault("killed-validate", "kill -9 between the files of an evaluation", results.killed_validate, 0, 3),
    Fault("killed-export", "kill -9 between the files of an export", results.killed_export, 0, 4),
    Fault("edited-export", "an export that was edited", results.edited_exports, 0, 30),
    Fault("others-weights", "weights of another run", results.weights_of_others, 0, 3),
    Fault("changed", "run continued with other data, model or batch", changes.changed_runs, 0, 2),
    Fault("folders", "folders of two readings, files that are not used", folders.odd_folders, 20, 400),
    Fault("swapped", "run continued on other images of the same sizes and dates", folders.swapped_contents, 0, 10),
    Fault("two-processes", "two processes on one run", places.two_processes, 0, 4),
    Fault("clock", "the clock jumps by a year", places.jumping_clock, 0, 3),
    Fault("places", "odd names and folders", places.odd_places, 0, len(places.ODD_NAMES)),
    Fault("inside", "what only a look inside shows", inside.looked_into, 0, len(inside.MODULES)),
    Fault("any-model", "any model of timm with any recipe", anymodel.any_model, 0, 12),
    Fault("fuzz-recipe", "any text as a recipe", fuzz.recipes, 50, 3000),
    Fault("fuzz-picture", "any bytes as an image", fuzz.images, 100, 3000),
    Fault("fuzz-checkpoint", "any change to a checkpoint", fuzz.checkpoints, 100, 3000),
    Fault("fuzz-sampler", "an epoch continued at any step", fuzz.sampler, 50, 3000),
    Fault("fuzz-resume", "a training continued at any step", fuzz.resume, 2, 40),
]


def try_fault(name: str, folder: Path, n: int) -> dict[str, Any]:
    """One row: an error that is no fault's is a loss too."""
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    tally, started = Tally(name), time.monotonic()
    folder.mkdir()
    try:
        fault.attempt(tally, folder, n)
    except Exception as error:
        tally.losses.append(f"could not be tried: {type(error).__name__}: {error}")
    counts = {"tried": tally.tried, "survived": tally.survived, "lost": len(tally.losses)}
    times = {"seconds": round(time.monotonic() - started, 1)}
    details = {"losses": tally.losses, "skipped": tally.skipped, "seen": dict(tally.seen)}
    return {"name": fault.name, "fault": fault.what, **counts, **details, **times}
