"""The generated image set: the files, what survives a kill, whose folder it never touches, and that its classes can be distinguished."""

import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hw1.data.synthetic import CLASS_NAMES, MARKER, SHAPES, draw_image, draw_shapes
from hw1.errors import RunError, UserError

DRAW = "import sys; from pathlib import Path; from hw1.data.synthetic import draw_shapes; draw_shapes(Path(sys.argv[1]), int(sys.argv[2]))"


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def start_drawing(root: Path, train_per_class: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", DRAW, str(root), str(train_per_class)], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "shapes"
    draw_shapes(root, 2, num_threads=1)
    return root


def test_layout_is_the_reports(shapes: Path):
    integers = {str(label) for label in range(100)}
    assert {path.name for path in shapes.iterdir()} == {"train", "val", "test", "class_names.json", MARKER}
    assert {path.name for path in (shapes / "train").iterdir()} == {path.name for path in (shapes / "val").iterdir()} == integers
    assert {len(list((shapes / "train" / label).glob("*.jpg"))) for label in integers} == {2}
    assert {len(list((shapes / "val" / label).glob("*.jpg"))) for label in integers} == {1}
    assert len(list((shapes / "test").glob("*.jpg"))) == len(list((shapes / "test").iterdir())) == 100
    names = json.loads((shapes / "class_names.json").read_text())
    assert names.keys() == integers
    assert len(set(names.values())) == 100
    assert names["0"] == "circle-plain"


def test_validation_and_test_are_an_eighth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hw1.data.synthetic.draw_image", lambda label, size, rng: np.zeros((size, size, 3), np.uint8))  # for speed
    draw_shapes(tmp_path / "set", 22, size=32)  # more than one handful
    counts = {split: len(list((tmp_path / "set" / split).rglob("*.jpg"))) for split in ("train", "val", "test")}
    assert counts == {"train": 2200, "val": 200, "test": 200}
    with Image.open(tmp_path / "set" / "test" / "00000.jpg") as image:
        assert image.size == (32, 32)


def test_images_open_and_differ(shapes: Path):
    files = list(shapes.rglob("*.jpg"))
    for path in files:
        with Image.open(path) as image:
            image.load()
            assert (image.size, image.mode, image.format) == ((64, 64), "RGB", "JPEG")
    assert len({path.read_bytes() for path in files}) == len(files) == 400


def test_same_bytes_with_other_threads_and_in_another_process(shapes: Path, tmp_path: Path):
    draw_shapes(tmp_path / "four", 2, num_threads=4)
    process = start_drawing(tmp_path / "other", 2)
    assert process.wait() == 0
    assert digests(tmp_path / "four") == digests(shapes)
    assert digests(tmp_path / "other") == digests(shapes)


def test_seed_changes_every_image_and_more_images_keep_the_first(shapes: Path, tmp_path: Path):
    draw_shapes(tmp_path / "seed", 1, seed=1)
    draw_shapes(tmp_path / "fewer", 1)
    before, seeded, fewer = digests(shapes), digests(tmp_path / "seed"), digests(tmp_path / "fewer")
    images = [name for name in fewer if name.endswith(".jpg")]
    assert len(images) == 300
    assert all(fewer[name] == before[name] for name in images)
    assert all(seeded[name] != before[name] for name in images)


def test_a_whole_set_is_not_drawn_again(shapes: Path):
    before = {path: path.stat().st_mtime_ns for path in [shapes, *shapes.rglob("*")]}
    draw_shapes(shapes, 2)
    assert before == {path: path.stat().st_mtime_ns for path in [shapes, *shapes.rglob("*")]}


@pytest.mark.parametrize("content", ["train/cat/1.jpg", "notes.txt", MARKER])
def test_a_users_folder_is_refused_and_left_alone(tmp_path: Path, content: str):
    root = tmp_path / "mine"
    (root / content).parent.mkdir(parents=True)
    (root / content).write_text("mine")
    with pytest.raises(UserError, match=r"^data\.root: .*mine: ") as caught:
        draw_shapes(root, 1)
    assert len(caught.value.problems) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert [path for path in root.rglob("*") if path.is_file()] == [root / content]
    assert (root / content).read_text() == "mine"


def test_a_file_in_the_way_is_the_users_mistake(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "shapes"):
        with pytest.raises(UserError, match=r"^data\.root: "):
            draw_shapes(root, 1)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_set_with_other_settings_is_refused(shapes: Path):
    for settings in ({"train_per_class": 3}, {"train_per_class": 2, "seed": 1}, {"train_per_class": 2, "size": 65}):
        with pytest.raises(UserError, match=r"^data\.root: .*generated"):
            draw_shapes(shapes, **settings)


def test_a_set_that_lost_images_is_refused(tmp_path: Path):
    draw_shapes(tmp_path / "set", 1)
    (tmp_path / "set" / "val" / "7" / "0000.jpg").unlink()
    with pytest.raises(UserError, match=r"val holds 99 of 100"):
        draw_shapes(tmp_path / "set", 1)


def test_an_empty_folder_is_drawn_into(tmp_path: Path):
    (tmp_path / "set").mkdir()
    draw_shapes(tmp_path / "set", 1)
    assert (tmp_path / "set" / MARKER).is_file()


def test_killed_half_way_leaves_no_set_and_the_next_one_cleans_up(shapes: Path, tmp_path: Path):
    root = tmp_path / "set"
    process = start_drawing(root, 1000)
    while not list(tmp_path.glob(".set.drawing-*/train/0/*.jpg")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not root.exists()
    assert len(list(tmp_path.iterdir())) == 1
    draw_shapes(root, 2)
    assert digests(root) == digests(shapes)
    assert list(tmp_path.iterdir()) == [root]


def test_interrupted_cleans_up_at_once(tmp_path: Path):
    process = start_drawing(tmp_path / "set", 1000)
    while not list(tmp_path.glob(".set.drawing-*/train/0/*.jpg")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_is_reported_and_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="No space left on device"):
        draw_shapes(tmp_path / "set", 1)
    assert list(tmp_path.iterdir()) == []


def test_processes_at_once_make_one_set(shapes: Path, tmp_path: Path):
    processes = [start_drawing(tmp_path / "set", 2) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert digests(tmp_path / "set") == digests(shapes)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_without_locks_the_slower_process_finds_the_set(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(handle: int, operation: int) -> None:
        raise OSError("no locks available")

    rename = Path.rename

    def slow_rename(self: Path, target: Path) -> Path:
        if not target.exists():
            monkeypatch.setattr(Path, "rename", rename)
            draw_shapes(target, 2)  # the other, faster process
        return rename(self, target)

    monkeypatch.setattr("fcntl.flock", no_locks)
    monkeypatch.setattr(Path, "rename", slow_rename)
    draw_shapes(tmp_path / "set", 2)
    assert digests(tmp_path / "set") == digests(shapes)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def silhouette(outlines: tuple[np.ndarray, ...], degrees: float = 0.0, aspect: float = 1.0) -> np.ndarray:
    """bool [96, 96]: the shape stretched, turned, then moved and scaled to a common centre and area."""
    turn = np.radians(degrees)
    change = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([aspect**0.5, aspect**-0.5])
    points = [outline @ change.T for outline in outlines]
    for _ in range(2):  # the first drawing measures
        mask = np.zeros((96, 96), np.uint8)
        cv2.fillPoly(mask, [np.round((polygon * 24 + 48) * 16).astype(np.int32) for polygon in points], 1, shift=4)
        centre = np.argwhere(mask).mean(axis=0)[::-1]
        points = [(polygon - (centre - 47.5) / 24) * (1500 / mask.sum()) ** 0.5 for polygon in points]
    return mask.astype(bool)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_shapes_are_their_own_mirror_image():
    for name, outlines in SHAPES.items():
        mask = silhouette(outlines)
        assert overlap(mask, mask[:, ::-1]) > 0.9, name  # one row of pixels is a few percent


def test_no_shape_becomes_another_by_rotation_or_aspect():
    # Twice over what augmentation (15 degrees, aspect 3/4-4/3) and drawing (6 degrees, aspect 0.85-1.17) can do to a pair.
    changes = list(itertools.product(range(-24, 25, 8), (0.65, 0.8, 1.0, 1.25, 1.55)))
    changed = {name: [silhouette(outlines, *change) for change in changes] for name, outlines in SHAPES.items()}
    for first, second in itertools.permutations(SHAPES, 2):
        mask = silhouette(SHAPES[first])
        assert max(overlap(mask, other) for other in changed[second]) < 0.9, (first, second)


def images(num_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 64, 64, 3], labels [N]."""
    labels = np.repeat(np.arange(100), num_per_class)
    return np.stack([draw_image(int(label), 64, np.random.default_rng((seed, n))) for n, label in enumerate(labels)]), labels


def spectrum(images: np.ndarray) -> np.ndarray:
    """Log amplitudes of the grey image's low frequencies [N, K], unit length: blind to position, colour and contrast."""
    grey = images.mean(axis=3)
    half = np.log1p(np.abs(np.fft.rfft2(grey - grey.mean(axis=(1, 2), keepdims=True))))
    features = np.fft.fftshift(half, axes=1)[:, 16:49, :17].reshape(len(images), -1)
    features -= features.mean(axis=1, keepdims=True)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2))


def nearest(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    distances = (known**2).sum(axis=1) - 2 * asked @ known.T
    return labels[distances.argmin(axis=1)]


def test_classes_differ_in_structure_also_mirrored_and_rotated_but_not_in_colour():
    known, known_labels = images(8, seed=0)
    asked, labels = images(2, seed=1)
    turn = cv2.getRotationMatrix2D((31.5, 31.5), 8, 1)
    turned = np.stack([cv2.warpAffine(image, turn, (64, 64), borderMode=cv2.BORDER_REPLICATE) for image in asked])
    reference = spectrum(known)
    for name, changed in {"as drawn": asked, "mirrored": asked[:, :, ::-1], "turned": turned}.items():
        accuracy = (nearest(reference, known_labels, spectrum(changed)) == labels).mean()
        assert accuracy > 0.12, name  # chance is 0.01
    assert (nearest(mean_colour(known), known_labels, mean_colour(asked)) == labels).mean() < 0.06


def test_names_say_shape_and_texture():
    assert len(set(CLASS_NAMES)) == 100
    assert {name.split("-")[0] for name in CLASS_NAMES} == set(SHAPES)
