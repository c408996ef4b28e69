"""The augmentation of whole batches against the fused one picture by picture, and its colours against their formulas."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from transform_pictures import JITTER, NOTHING, difference, noise, soft_picture

from hw1.config import AugConfig
from hw1.data.batch_augment import BatchAugment, Draws, pack_factors
from hw1.data.decode import read_image
from hw1.data.fused import MAX_SHRINK, augment_fused
from hw1.data.policy import Factors, draw_factors, largest_crop, smallest_side
from hw1.data.shrink import shrink
from hw1.data.steps import augment_in_steps

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
# OpenCV 4 knows only 32 places between two pixels: there the fused picture itself is off by some levels.
MEAN, SHARE = (0.02, 1e-3) if cv2.__version__ >= "5" else (1.0, 0.1)


def store_of(pictures: Sequence[np.ndarray]) -> tuple[torch.Tensor, list[int], list[int]]:
    """All pixels, and for each picture its first one and its width."""
    starts = np.cumsum([0] + [picture.shape[0] * picture.shape[1] for picture in pictures]).tolist()
    pixels = torch.from_numpy(np.concatenate([picture.reshape(-1, 3) for picture in pictures]))
    return pixels, starts[:-1], [picture.shape[1] for picture in pictures]


def make(factors: Sequence[Factors], size: int, **options) -> BatchAugment:
    """For these crops and no larger ones."""
    tallest, widest = (max(each.box[side] for each in factors) for side in (3, 2))
    return BatchAugment(AugConfig(size=size), tallest, widest, **{"channels_last": True, **options})


def augment(pictures: Sequence[np.ndarray], factors: Sequence[Factors], size: int) -> np.ndarray:
    pixels, starts, widths = store_of(pictures)
    result = make(factors, size).pictures(pixels, *pack_factors(factors, starts, widths, size))
    assert torch.equal(result, result.clamp(0, 255).round())
    return result.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def fused(pictures: Sequence[np.ndarray], factors: Sequence[Factors], size: int) -> np.ndarray:
    return np.stack([augment_fused(picture, each, size) for picture, each in zip(pictures, factors, strict=True)])


def assert_equal_but_for_rounding(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Mean difference below 0.02 levels; at most one value in a thousand off by more than two (a pixel on the outline, a cut-off hue)."""
    off = difference(ours, theirs)
    assert off.mean() < MEAN
    assert np.mean(off > 2) < SHARE


# --- the same picture as picture by picture ---


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (3, 500), (500, 3), (40, 1), (5, 4), (30, 45), (64, 64), (80, 100), (110, 90), (200, 150), (40, 300), (300, 40)],
)
@pytest.mark.parametrize("kind", ["soft", "noise", "grey"])
def test_equals_the_fused_picture(shape, kind):
    make_picture = {"soft": soft_picture, "noise": noise, "grey": lambda *a: noise(*a)[..., :1].repeat(3, axis=2)}[kind]
    aug = AugConfig(size=64, scale=(0.3, 1.0), rotation=60.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5)
    pictures = [make_picture(*shape, index) for index in range(12)]
    factors = [draw_factors((1, 0, index), *shape, aug) for index in range(12)]
    assert_equal_but_for_rounding(augment(pictures, factors, 64), fused(pictures, factors, 64))


def test_equals_the_fused_picture_where_it_shrinks_a_lot_and_where_one_side_only_does():
    boxes = [(0, 0, 900, 700), (100, 3, 96, 600), (7, 100, 800, 30), (30, 40, 97, 20), (30, 40, 96, 96), (5, 5, 700, 1)]
    picture = noise(720, 950)
    factors = [Factors(box, flip, 20.0, (("contrast", 1.2), ("hue", 0.1))) for box in boxes for flip in (False, True)]
    assert {max(each.box[2:]) > MAX_SHRINK * 64 for each in factors} == {True, False}
    assert_equal_but_for_rounding(augment([picture] * 12, factors, 64), fused([picture] * 12, factors, 64))


def test_equals_the_fused_picture_on_real_photographs(photos):
    """As they are stored for crops of 224 px."""
    aug = AugConfig()
    side = smallest_side(aug)
    paths = sorted(photos.glob("train/*/*.jpg"))[::300]
    pictures = [shrink(read_image(path, side), side) for path in paths]
    factors = [draw_factors((3, 0, index), *picture.shape[:2], aug) for index, picture in enumerate(pictures)]
    assert_equal_but_for_rounding(augment(pictures, factors, 224), fused(pictures, factors, 224))


def test_unturned_large_crops_are_antialiased_as_step_by_step():
    picture = noise(500, 700)
    factors = [Factors((10, 20, 600, 470), flip, 0.0, ()) for flip in (False, True)]
    ours = augment([picture] * 2, factors, 96)
    assert difference(ours, [augment_in_steps(picture, each, 96) for each in factors]).max() <= 1


@pytest.mark.parametrize("size", [32, 33])
def test_crop_and_flip_alone_move_pixels_and_change_none(size):
    picture = noise(50, 60)
    box = (7, 9, size, size)
    ours = augment([picture] * 2, [Factors(box, flip, 0.0, ()) for flip in (False, True)], size)
    crop = picture[9 : 9 + size, 7 : 7 + size]
    np.testing.assert_array_equal(ours, [crop, crop[:, ::-1]])


def test_corners_are_black_and_nothing_else_is():
    angles = [-180.0, -45.0, -3.0, 0.2, 15.0, 90.0]
    shapes = [(20, 30), (96, 96), (200, 300)]
    pictures = [np.full((*shape, 3), 255, np.uint8) for shape in shapes for _ in angles]
    factors = [Factors((0, 0, shape[1], shape[0]), False, angle, ()) for shape in shapes for angle in angles]
    ours = augment(pictures, factors, 96)
    assert set(np.unique(ours)) == {0, 255}
    assert np.mean(ours != fused(pictures, factors, 96)) < 1e-4  # a pixel whose centre lies on the outline
    assert [picture.min() for picture in ours] == [255 if angle in (-180, 0.2, 90) else 0 for _ in shapes for angle in angles]


def test_nothing_comes_in_from_beside_the_crop_or_from_other_pictures():
    white, black = np.full((70, 90, 3), 255, np.uint8), np.zeros((60, 80, 3), np.uint8)
    hole = white.copy()
    hole[10:50, 20:60] = 0
    turned = {"flip": True, "angle": 15.0, "jitter": ()}
    factors = [
        Factors((0, 0, 90, 70), **turned), Factors((0, 0, 80, 60), **turned), Factors((20, 10, 40, 40), **turned),
        Factors((0, 0, 90, 70), **turned),
    ]  # fmt: skip
    for size in (16, 48):
        assert augment([white, black, hole, white], factors, size)[1:3].max() == 0


def test_a_picture_does_not_depend_on_the_batch_it_is_in():
    pictures = [noise(90, 70 + index, index) for index in range(6)]
    factors = [draw_factors((1, 0, index), *picture.shape[:2], AugConfig(size=32)) for index, picture in enumerate(pictures)]
    pixels, starts, widths = store_of(pictures)
    module, draws = make(factors, 32), pack_factors(factors, starts, widths, 32)
    whole = module(pixels, *draws)
    for index in range(6):
        assert torch.equal(module(pixels, *(each[index : index + 1] for each in draws))[0], whole[index])


# --- colours ---


def adjust(image: np.ndarray, name: str, factor: float) -> np.ndarray:
    """The formula in float64, of [S, S, 3]."""
    grey = image @ [0.299, 0.587, 0.114]
    if name == "hue":
        hsv = rgb_to_hsv(image / 255)
        hsv[..., 0] = (hsv[..., 0] + factor) % 1.0
        return hsv_to_rgb(hsv) * 255
    other = {"brightness": 0.0, "contrast": np.floor(grey.mean() + 0.5), "saturation": grey[..., None]}[name]
    return np.clip(factor * image + (1 - factor) * other, 0, 255)


def test_every_order_of_adjustments_in_one_batch():
    """All 24 orders, strong amounts, values cut off on the way: within one level of the formula, half of which is the rounding."""
    draw = np.random.default_rng(0)
    pictures = [noise(24, 24, index) for index in range(48)]
    for picture in pictures[24:]:
        picture[:] = picture[..., :1]  # grey
    factors = []
    for order in [*itertools.permutations(JITTER)] * 2:
        amounts = [draw.uniform(-0.5, 0.5) if name == "hue" else draw.uniform(0.3, 1.7) for name in order]
        factors.append(Factors((0, 0, 24, 24), False, 0.0, tuple(zip(order, amounts, strict=True))))
    for ours, picture, each in zip(augment(pictures, factors, 24), pictures, factors, strict=True):
        expected = picture.astype(float)
        for name, factor in each.jitter:
            expected = adjust(expected, name, factor)
        assert np.abs(ours - expected).max() < 1.0


@pytest.mark.parametrize("name", JITTER)
def test_each_adjustment_alone(name):
    aug = AugConfig(size=24, **{**NOTHING, name: 0.5})
    pictures = [noise(24, 24, index) for index in range(10)]
    factors = [draw_factors((4, 0, index), 24, 24, aug) for index in range(10)]
    assert {each.jitter[0][0] for each in factors} == {name}
    for ours, picture, each in zip(augment(pictures, factors, 24), pictures, factors, strict=True):
        assert np.abs(ours - adjust(picture.astype(float), *each.jitter[0])).max() < 0.51


def test_no_adjustment_at_all():
    picture = noise(20, 30)
    factors = [Factors((0, 0, 30, 20), False, 0.0, ())]
    assert difference(augment([picture], factors, 32), fused([picture], factors, 32)).max() <= 1


# --- what the loader relies on ---


def batch() -> tuple[BatchAugment, torch.Tensor, Draws]:
    """Of every kind: enlarged, shrunk and shrunk a lot."""
    pictures = [noise(*shape, 1) for shape in ((20, 20), (40, 45), (150, 200))]
    factors = [draw_factors((1, 0, index), *picture.shape[:2], AugConfig(size=32)) for index, picture in enumerate(pictures)]
    pixels, starts, widths = store_of(pictures)
    return make(factors, 32), pixels, pack_factors(factors, starts, widths, 32)


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_are_normalised_and_in_the_memory_order_asked_for(channels_last):
    module, pixels, draws = batch()
    module = BatchAugment(AugConfig(size=32), module.tallest, module.largest, channels_last=channels_last)
    ours, aug = module(pixels, *draws), AugConfig()
    pictures = module.pictures(pixels, *draws).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1), (pictures / 255 - aug.mean) / aug.std, atol=1e-5)
    assert (ours.dtype, tuple(ours.shape)) == (torch.float32, (3, 3, 32, 32))
    assert ours.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.slow
def test_compiles_to_one_graph():
    """`fullgraph` raises where a part would be left to Python; the traced graph itself is what runs here."""
    module, pixels, draws = batch()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(compiled(pixels, *draws), module(pixels, *draws))


@needs_cuda
def test_cuda_compiled_equals_the_cpu():
    module, pixels, draws = batch()
    expected = module(pixels, *draws)
    compiled = torch.compile(module.cuda(), fullgraph=True, dynamic=False)
    ours = compiled(pixels.cuda(), *(each.cuda() for each in draws)).cpu()
    off = (ours - expected).abs() * 255 * 0.225  # levels
    assert off.mean() < 0.02
    assert (off > 2).float().mean() < 1e-3


@needs_cuda
def test_cuda_asks_nothing_of_the_device():
    module, pixels, draws = batch()
    module, pixels, draws = module.cuda(), pixels.cuda(), Draws(*(each.cuda() for each in draws))
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(pixels, *draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.8, 1.0), (3 / 4, 4 / 3)), ((0.05, 1.0), (0.2, 5.0)), ((0.3, 0.9), (1.4, 2.0)), ((1.0, 1.0), (1, 1))]
)
def test_no_crop_is_larger_than_the_largest(scale, ratio):
    aug = AugConfig(scale=scale, ratio=ratio)
    for index in range(3000):
        height, width = (1 + np.random.default_rng(index).integers(0, (400, 30)[index % 2], 2)).tolist()
        _, _, w, h = draw_factors((1, 0, index), height, width, aug).box
        tallest, widest = largest_crop(height, width, aug)
        assert h <= tallest <= height
        assert w <= widest <= width
