"""The house keeps its order: imports run downhill only, nobody imports a script, and only analysis and
scripts draw.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("common",),
    ("envs",),
    ("rollouts",),
    ("agents",),
    ("generative", "decision"),
    ("interpret",),
    ("analysis", "worldlens"),
)
"""From the ground up; `rollouts` may use `envs` (stored actions are replayed there), not the other way round."""
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}
DRAWING = ("matplotlib", "PIL", "seaborn", "plotly")
MODELS = ("agents", "generative", "decision")


def scripts() -> set[str]:
    return {path.stem for path in ROOT.glob("*.py")}


def imported(source: str) -> Iterator[str]:
    """The full names of all modules that a source file imports, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: name the package"
            yield node.module


def faults(package: str, source: str, known_scripts: set[str]) -> list[str]:
    """What is wrong with a file's imports. package: where it lives; "" for a script at the top."""
    height = HEIGHT.get(package, len(LAYERS))
    wrong = []
    for module in imported(source):
        top = module.split(".")[0]
        if top in known_scripts:
            wrong.append(f"imports the script {top}")
        if top == "tests":
            wrong.append("imports a test")
        if top in HEIGHT and top != package and HEIGHT[top] >= height:
            wrong.append(f"imports uphill or sideways: {module}")
        if top in DRAWING and height < HEIGHT["analysis"]:
            wrong.append(f"draws: {module}")
    return wrong


def files() -> list[Path]:
    return [*ROOT.glob("*.py"), *(path for package in HEIGHT for path in (ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downhill(path):
    where = path.relative_to(ROOT).parts
    assert faults(where[0] if len(where) > 1 else "", path.read_text(), scripts()) == []


def test_every_package_of_the_project_is_in_the_order():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(HEIGHT)


@pytest.mark.parametrize(
    ("package", "source", "fault"),
    [
        ("common", "from envs.procgen import GAMES", "uphill"),
        ("rollouts", "def f():\n    import agents.ppo", "uphill"),
        ("envs", "from rollouts.play import play", "uphill"),
        ("decision", "import generative", "sideways"),
        ("generative", "import decision", "sideways"),
        ("interpret", "from analysis import style", "uphill"),
        ("interpret", "import matplotlib.pyplot as plt", "draws"),
        ("analysis", "from train import Args", "script train"),
        ("", "import render", "script render"),
        ("agents", "from tests.helpers.tiny_models import network", "a test"),
    ],
)
def test_a_wrong_import_is_found(package, source, fault):
    (found,) = faults(package, source, {"train", "render"})
    assert fault in found


RIGHT = [
    ("", "from analysis.plotting.style import REAL"),
    ("agents", "import common.noise, rollouts.play"),
    ("analysis", "import PIL"),
]


@pytest.mark.parametrize(("package", "source"), RIGHT)
def test_a_right_import_passes(package, source):
    assert faults(package, source, {"train"}) == []


def test_rollouts_and_envs_stand_below_every_model():
    assert all(HEIGHT[low] < HEIGHT[model] for low in ("rollouts", "envs") for model in MODELS)
