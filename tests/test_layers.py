"""The house's order: imports only point down, and what is heavy or special is imported in one place. Reads the code, runs none."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# From bottom to top. A module imports from lower rows only, a package (data, models, plots, ...) also from itself. A new module must be
# given its row here.
LAYERS = [
    {"hw1", "hw1.errors"},
    {
        "hw1.config",
        "hw1.dist",
        "hw1.plainyaml",
        "hw1.interrupt",
        "hw1.pairs",
        "hw1.child",
        "hw1.background",
        "hw1.limits",
        "hw1.names",
        "hw1.recorded",
    },
    {"hw1.files", "hw1.recipe", "hw1.schema", "hw1.environment", "hw1.device", "hw1.finite", "hw1.html"},
    {"hw1.runs"},
    {"hw1.data", "hw1.models", "hw1.losses", "hw1.optim", "hw1.metrics", "hw1.stats", "hw1.plots", "hw1.logs", "hw1.checkpoint"},
    {"hw1.forward"},
    {"hw1.calibration", "hw1.evaluate", "hw1.mistakes", "hw1.training", "hw1.verdict", "hw1.plan"},
    {"hw1.averaging", "hw1.cluster"},
    {"hw1.session", "hw1.predictor", "hw1.step"},
    {"hw1.record"},
    {"hw1.engine", "hw1.review", "hw1.predict"},
    {"hw1.ablate", "hw1.report", "hw1.audit", "hw1.export", "hw1.attention"},
    {"train", "validate"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.glob("*.py"), *(ROOT / "hw1").rglob("*.py")]
}
HEAVY = {"torch", "torchvision", "timm", "cv2", "albumentations", "safetensors"}
WITHOUT_TORCH = [
    "config",
    "errors",
    "plainyaml",
    "files",
    "recipe",
    "schema",
    "runs",
    "environment",
    "interrupt",
    "logs",
    "metrics",
    "plots",
    "pairs",
    "child",
    "names",
    "background",
    "limits",
    "stats",
    "calibration",
    "mistakes",
    "html",
    "verdict",
    "plan",
    "cluster",
    "ablate",
    "report",
    "html",
]


class Import(NamedTuple):
    module: str
    line: int
    at_start: bool
    """Whether importing the module runs it, that is, it stands in no function and is not for mypy alone."""


@cache
def imports(name: str) -> list[Import]:
    """Everything that a module imports; `from hw1.data import decode` counts as `hw1.data.decode`."""
    found = []

    def visit(node: ast.AST, at_start: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, child.lineno, at_start) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: a relative import; write it out"
                for alias in child.names:
                    module = f"{child.module}.{alias.name}"  # a module, or a name in one
                    is_name = module.startswith("hw1.") and module not in MODULES
                    found.append(Import(str(child.module) if is_name else module, child.lineno, at_start))
            is_for_mypy = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            visit(child, at_start and not is_for_mypy and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(MODULES[name].read_text()), True)
    return found


def part(name: str) -> str:
    """The module's entry in LAYERS: `hw1.data` for `hw1.data.decode`."""
    return ".".join(name.split(".")[:2])


def own_imports(name: str) -> list[Import]:
    return [item for item in imports(name) if item.module.partition(".")[0] in ("hw1", "train", "validate")]


@cache
def loaded_with(name: str) -> frozenset[str]:
    """Packages from outside that importing the module imports, by itself or by what it imports of this project."""
    outside, seen, queue = set(), set(), [name]
    while queue:
        module = queue.pop()
        packages = [".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 2)]  # a.b.c runs a and a.b too
        for package in packages:
            if package in MODULES and package not in seen:
                seen.add(package)
                queue += [item.module for item in own_imports(package) if item.at_start]
                outside |= {item.module.partition(".")[0] for item in imports(package) if item.at_start}
    return frozenset(outside - {"hw1"})


def test_every_module_has_a_layer_and_every_layer_its_modules():
    parts = {part(name) for name in MODULES}
    assert parts - LEVEL.keys() == set(), "without a layer: add them to LAYERS in tests/test_layers.py"
    assert LEVEL.keys() - parts == set(), "no such module: remove them from LAYERS in tests/test_layers.py"
    assert sum(len(names) for names in LAYERS) == len(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_down(name):
    mine = part(name)
    wrong = [
        f"{MODULES[name].relative_to(ROOT)}:{item.line}: imports {item.module}, which is no lower layer"
        for item in own_imports(name)
        if part(item.module) != mine and not LEVEL.get(part(item.module), 99) < LEVEL.get(mine, 99)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_answers_at_once_loads_nothing_heavy(name):
    """A mistake in a recipe is reported, and figures are drawn, without waiting for torch: not even by way of another module."""
    inner = [module for module in MODULES if part(module) == f"hw1.{name}"]
    assert inner
    assert {module: loaded_with(module) & HEAVY for module in inner if loaded_with(module) & HEAVY} == {}


@pytest.mark.parametrize("name", ["train", "validate", "hw1.predict.__main__", "hw1.export.__main__", "hw1.attention.__main__"])
def test_a_command_loads_nothing_heavy_before_it_has_read_its_arguments(name):
    assert loaded_with(name) & HEAVY == set()


def test_the_wrapper_of_a_child_runs_outside_of_the_package():
    assert own_imports("hw1.child") == []


def test_reading_folders_and_images_needs_no_torch():
    names = ("hw1.data.folders", "hw1.data.decode", "hw1.data.quickcheck", "hw1.audit.__main__")
    assert {name: loaded_with(name) & {"torch", "timm"} for name in names} == {name: set() for name in names}


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("yaml", {"hw1.plainyaml"}),
        ("matplotlib", {"hw1.plots"}),
        ("wandb", {"hw1.logs"}),
        ("scipy", {"hw1.stats", "hw1.calibration", "hw1.mistakes"}),
        ("sklearn", {"hw1.metrics"}),
        ("statsmodels", {"hw1.stats"}),
        ("jinja2", {"hw1.html"}),
        ("onnx", {"hw1.export"}),
        ("onnxruntime", {"hw1.export", "hw1.predict"}),
        ("ray", {"hw1.cluster"}),
        ("huggingface_hub", {"hw1.data", "hw1.export", "hw1.models"}),
        ("datasets", {"hw1.data"}),
        ("pyarrow", {"hw1.data"}),
    ],
)
def test_what_is_special_is_imported_in_one_place(package, places):
    importers = {part(name) for name in MODULES for item in imports(name) if item.module.partition(".")[0] == package}
    assert importers == places


def test_wandb_is_imported_only_when_it_is_asked_for():
    assert [item for item in imports("hw1.logs") if item.module.partition(".")[0] == "wandb" and item.at_start] == []


def test_figures_are_drawn_without_pyplot():
    """pyplot keeps every figure alive and looks for a screen."""
    assert [name for name in MODULES if any("pyplot" in item.module for item in imports(name))] == []


def test_files_of_others_are_never_unpickled():
    wrong = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                function = ast.unparse(node.func)
                is_safe = (
                    options.get("weights_only") == "True" if function == "torch.load" else options.get("allow_pickle", "False") == "False"
                )
                if not is_safe or function in ("pickle.load", "pickle.loads"):
                    wrong.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []
