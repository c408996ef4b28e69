"""What is measured of ours: every command on a small run, and what its output shows of the moment that is waited for."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.startup.watch import FIRST_LINE, watch
from hw1.data.synthetic import draw_shapes

ROOT = Path(__file__).parents[2]
MODEL, SIZE, BATCH = "resnet18", 96, 32
NUM_CLASSES, NUM_IMAGES = 20, {"train": 8, "val": 2}
"""Of the small data set: classes, and images of each in a split."""
SMALL = [
    *(f"model.name={MODEL}", "model.pretrained=false", "freeze.stages=[]", f"aug.size={SIZE}", f"data.batch_size={BATCH}"),
    *("data.num_workers=1", "train.epochs=1", "train.device=cpu", "train.amp=off"),
]


@dataclass(frozen=True)
class Program:
    """A command and what is waited for.

    Attributes:
        name: How the table calls it.
        command: Program and arguments; {new} in them is an empty folder, another one for each try.
        marks: See `watch`; the first line is always one.
        stop_at: See `watch`.
        exit_codes: See `watch`.
        folder: Where it runs.
        env: See `watch`.
    """

    name: str
    command: list[str]
    marks: dict[str, bytes]
    stop_at: str | None = None
    exit_codes: tuple[int, ...] = (0,)
    folder: Path = ROOT
    env: tuple[tuple[str, str], ...] = ()


def variables(work: Path) -> dict[str, str]:
    """Return the variables of every program: one thread, caches of their own."""
    own = {"XDG_CACHE_HOME": str(work / "cache"), "YOLO_CONFIG_DIR": str(work / "yolo"), "YOLO_OFFLINE": "true"}
    return own | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "NO_COLOR": "1"}


def hw1(*words: object) -> list[str]:
    """Return the command line of `hw1 ...` from this checkout."""
    return [sys.executable, "-m", "hw1", *map(str, words)]


def prepare(work: Path) -> None:
    """Make what the commands work on, unless an earlier call has: data, a run, its `.onnx` file, an image. Fills the caches, too."""
    if (work / "model.onnx").is_file():
        return
    make_images(work / "images")
    shutil.copy(next(iter(sorted((work / "images/val").glob("*/*")))), _folder(work / "one") / "photo.jpg")
    (work / "space.yaml").write_text("optim.lr: [0.001, 0.0001]\n")
    command = hw1("train", "finetune", f"data.root={work / 'images'}", *SMALL, f"run.dir={work / 'runs'}", "run.name=small", "--overwrite")
    watch(command, {}, folder=ROOT, env=variables(work))
    run = small_run(work)
    watch(hw1("export", run, "--onnx"), {}, folder=ROOT, env=variables(work))
    shutil.copy(run / "export/model.onnx", work / "model.onnx")


def make_images(folder: Path) -> None:
    """Make train/ and val/ of a few photographs of HW1_PHOTOS, as links; without that variable, of drawn images."""
    if not (photos := os.environ.get("HW1_PHOTOS")):
        draw_shapes(folder, NUM_IMAGES["train"])
        return
    for split, num in NUM_IMAGES.items():
        for source in sorted(Path(photos, split).iterdir())[:NUM_CLASSES]:
            for file in sorted(source.iterdir())[:num]:
                (_folder(folder / split / source.name) / file.name).symlink_to(file.resolve())


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def small_run(work: Path) -> Path:
    """Return the run folder that `prepare` makes."""
    [run] = (work / "runs/small").glob("seed*")
    return run


def commands(work: Path) -> list[Program]:
    """Return every command of ours, and mistakes that are found before anything heavy is imported."""
    images, run, image = work / "images", small_run(work), work / "one/photo.jpg"
    recipe, data = str(ROOT / "recipes/finetune.yaml"), f"data.root={images}"
    lines: list[tuple[str, list[str], tuple[int, ...]]] = [
        ("import torch, for comparison", [sys.executable, "-c", "import torch; print(1)"], (0,)),
        ("hw1 --help", hw1("--help"), (0,)),
        ("hw1 train --help", hw1("train", "--help"), (0,)),
        ("hw1 train, an unknown key", hw1("train", recipe, "trian.epochs=1"), (2,)),
        ("hw1 train, a missing data folder", hw1("train", recipe, "data.root=missing"), (2,)),
        ("hw1 train, a missing weights file", hw1("train", recipe, data, "model.weights=missing.pth", "run.dir={new}"), (2,)),
        ("hw1 train, 5 steps", hw1("train", recipe, data, *SMALL, "run.dir={new}"), (0,)),
        ("hw1 validate", hw1("validate", run, "train.device=cpu"), (0,)),
        ("hw1 predict, a run", hw1("predict", run, image, "--device", "cpu"), (0,)),
        ("hw1 predict, an .onnx file", hw1("predict", work / "model.onnx", image), (0,)),
        ("hw1 report", hw1("report", run, "--out", "{new}/report"), (0,)),
        ("hw1 audit", hw1("audit", images, "--out", "{new}/audit"), (0, 1)),
        ("hw1 export", hw1("export", run), (0,)),
        ("hw1 attention", hw1("attention", run, image, "--out", "{new}/attention.png", "--device", "cpu"), (0,)),
        ("hw1 show-augmentation", hw1("show-augmentation", recipe, data, "--num", 2, "--out", "{new}/augmentation.png"), (0,)),
        ("hw1 schema", hw1("schema"), (0,)),
        ("hw1 ablate --dry-run", hw1("ablate", recipe, data, *SMALL, "run.dir={new}", "--dry-run"), (0,)),
        ("hw1 sweep --dry-run", hw1("sweep", recipe, work / "space.yaml", data, *SMALL, "run.dir={new}", "--dry-run"), (0,)),
        ("hw1 folds --dry-run", hw1("folds", recipe, data, *SMALL, "run.dir={new}", "--dry-run"), (0,)),
    ]
    programs = [Program(name, words, {"line": FIRST_LINE}, exit_codes=codes) for name, words, codes in lines]
    if find_spec("gradio"):
        demo = hw1("demo", run, "--port", 0, "--device", "cpu")
        programs.append(Program("hw1 demo", demo, {"line": FIRST_LINE, "page": rb"open http"}, stop_at="page"))
    return programs


def first_step(work: Path) -> Program:
    """Return the training up to its first step, which the console tells of."""
    words = hw1("train", ROOT / "recipes/finetune.yaml", f"data.root={work / 'images'}", *SMALL, "run.dir={new}")
    return Program("hw1 train", words, {"line": FIRST_LINE, "step": rb"step 1/"}, stop_at="step")


def first_prediction(work: Path) -> list[Program]:
    """Return the predictions of one image, which end with it."""
    image, marks = work / "one/photo.jpg", {"line": FIRST_LINE, "prediction": rb"photo\.jpg  \S+ 0\.\d"}
    return [
        Program("hw1 predict, a run", hw1("predict", small_run(work), image, "--device", "cpu"), marks),
        Program("hw1 predict, an .onnx file", hw1("predict", work / "model.onnx", image), marks),
    ]
