"""The layout of the project: imports run downhill between packages and between their sub-packages, folders
stay small, no name hides another, and only analysis and scripts draw.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
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
    ("analysis", "slurm", "worldlens"),
)
"""Packages from the ground up; packages of one layer do not import each other."""
ROOMS = {
    "generative": (("model",), ("",), ("training",)),
    "interpret": (
        ("probing",),
        ("directions",),
        ("",),
        ("attribution", "forks"),
        ("interventions", "targets"),
    ),
    "analysis": (
        ("io", "rendering"),
        ("plotting", "recording"),
        ("game_check", "model_eval", "training_curves"),
        ("counterfactuals", "interventions", "maps", "memory", "oracles", "probing"),
        ("comparison", "lagged", "panel", "targets"),
        ("",),
        ("demo_report",),
    ),
}
"""Sub-packages from the ground up, by the same rule; "" stands for the modules of the package itself."""
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}
DRAWING = ("matplotlib", "PIL", "seaborn", "plotly")
MODELS = ("agents", "generative", "decision")
MOST_MODULES = 25
ENTRY_SCRIPTS = "analysis"
"""The one folder that may hold more: every module of it is a script that users run by its path."""


def root_scripts() -> set[str]:
    return {path.stem for path in ROOT.glob("*.py")}


def imported(source: str) -> Iterator[str]:
    """Full names of what a source file imports, also inside functions; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: name the package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """The sub-package that a module's full name lies in; "" for the package itself."""
    parts = module.split(".")
    known = {room for layer in ROOMS.get(parts[0], ()) for room in layer}
    return parts[1] if len(parts) > 1 and parts[1] in known else ""


def room_height(package: str, room: str) -> int:
    return next(height for height, layer in enumerate(ROOMS[package]) if room in layer)


def climbs_within(module: str, imported_module: str) -> bool:
    """Whether an import inside one package runs uphill or sideways between two of its sub-packages."""
    package = module.split(".")[0]
    rooms = room_of(module), room_of(imported_module)
    if package not in ROOMS or imported_module.split(".")[0] != package or rooms[0] == rooms[1]:
        return False
    here, there = (room_height(package, room) for room in rooms)
    return there >= here


def import_faults(module: str, source: str, scripts: set[str]) -> list[str]:
    """What is wrong with the imports of a module, by its full name; a name without a dot is a root script."""
    package = module.split(".")[0] if "." in module else ""
    height = HEIGHT.get(package, len(LAYERS))
    wrong = []
    for name in imported(source):
        top = name.split(".")[0]
        if top in scripts:
            wrong.append(f"imports the script {top}")
        if top == "tests":
            wrong.append("imports a test")
        if top in HEIGHT and top != package and HEIGHT[top] >= height:
            wrong.append(f"imports uphill or sideways: {name}")
        if climbs_within(module, name):
            wrong.append(f"imports uphill or sideways within {package}: {name}")
        if top in DRAWING and height < HEIGHT["analysis"]:
            wrong.append(f"draws: {name}")
    return wrong


def folder_faults(folder: str, sources: dict[str, str]) -> list[str]:
    """What is wrong with a folder of modules {file name: source}, `__init__.py` left out."""
    if folder == ENTRY_SCRIPTS:
        return [f"{name} is no entry script" for name, text in sources.items() if "__main__" not in text]
    return [f"{len(sources)} modules"] if len(sources) > MOST_MODULES else []


def shadowed(names: Iterable[str], taken: set[str]) -> set[str]:
    """Names in analysis/, first on the path of `python analysis/x.py`, that hide another module."""
    return set(names) & taken


def taken_names() -> set[str]:
    """What a module of analysis must not be called: root scripts, packages, installed and standard modules.

    Standard modules that every interpreter has loaded before a script begins (io, say) cannot be hidden.
    """
    listing = "import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    standard = sys.stdlib_module_names - set(loaded.stdout.split())
    installed = {name for name in packages_distributions() if name not in HEIGHT}
    return root_scripts() | HEIGHT.keys() | installed | standard


def module_files() -> list[Path]:
    return [*ROOT.glob("*.py"), *(path for package in HEIGHT for path in (ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def folders() -> list[Path]:
    tests = [path for path in (ROOT / "tests").rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    return sorted({path.parent for path in module_files()} | {ROOT / "benchmarks"} | set(tests))


@pytest.mark.parametrize("path", module_files(), ids=module_name)
def test_imports_run_downhill(path):
    assert import_faults(module_name(path), path.read_text(), root_scripts()) == []


def test_every_package_has_a_layer():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(HEIGHT)


@pytest.mark.parametrize("package", ROOMS)
def test_every_sub_package_has_a_place_in_the_order(package):
    found = {path.name for path in (ROOT / package).iterdir() if any(path.glob("*.py"))}
    assert found | {""} == {room for layer in ROOMS[package] for room in layer}


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_holds_few_modules(folder):
    sources = {path.name: path.read_text() for path in folder.glob("*.py") if path.name != "__init__.py"}
    assert folder_faults(str(folder.relative_to(ROOT)), sources) == []


def test_nothing_in_analysis_hides_another_module():
    names = {path.stem for path in (ROOT / "analysis").iterdir() if not path.name.startswith("__")}
    assert shadowed(names, taken_names()) == set()


def test_rollouts_and_envs_lie_below_every_model():
    assert all(HEIGHT[low] < HEIGHT[model] for low in ("rollouts", "envs") for model in MODELS)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("common.noise", "from envs.procgen import GAMES", "uphill"),
        ("rollouts.play", "def f():\n    import agents.ppo", "uphill"),
        ("envs.procgen", "from rollouts.play import play", "uphill"),
        ("decision.model", "import generative", "sideways"),
        ("generative.model.player", "import decision", "sideways"),
        ("analysis.true_q", "import worldlens", "sideways"),
        ("interpret.hooks", "from analysis import plotting", "uphill"),
        ("interpret.hooks", "import matplotlib.pyplot as plt", "draws"),
        ("analysis.true_q", "from train import Args", "script train"),
        ("render", "import train", "script train"),
        ("agents.ppo", "from tests.helpers.tiny_models import network", "a test"),
        ("generative.model.player", "from generative.training.losses import draw_noise", "within generative"),
        ("generative.model.player", "from generative import training", "within generative"),
        ("generative.model.player", "from generative.simulator import Simulator", "within generative"),
        ("generative.simulator", "import generative.training.ema", "within generative"),
        ("interpret.probing.ridge", "from interpret.directions import pca", "within interpret"),
        ("interpret.forks.worlds", "from interpret.attribution import paths", "within interpret"),
        ("analysis.io.steps", "from analysis.plotting.style import REAL", "within analysis"),
        ("analysis.maps.latents", "from analysis.probing.dataset import rows", "within analysis"),
        ("analysis.probing.dataset", "from analysis.probes_precompute import NAME", "within analysis"),
    ],
)
def test_a_wrong_import_is_found(module, source, fault):
    (found,) = import_faults(module, source, {"train", "render"})
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("render", "from analysis.plotting.style import REAL"),
        ("agents.ppo", "import common.noise, rollouts.play"),
        ("analysis.true_q", "import PIL"),
        ("analysis.true_q", "from analysis.io.steps import open_step"),
        ("generative.training.losses", "from generative.model.player import VectorGRU"),
        ("generative.model.player", "from generative.model.layers import FiLM"),
        ("interpret.forks.worlds", "from generative.training.data import split"),
    ],
)
def test_a_right_import_passes(module, source):
    assert import_faults(module, source, {"train"}) == []


def test_a_crowded_folder_is_found():
    crowd = {f"module_{i}.py": "" for i in range(MOST_MODULES + 1)}
    assert folder_faults("interpret/directions", crowd) == ["26 modules"]


def test_a_module_among_the_entry_scripts_that_is_none_is_found():
    sources = {"true_q.py": 'if __name__ == "__main__":\n    main()', "style.py": "REAL = {}"}
    assert folder_faults(ENTRY_SCRIPTS, sources) == ["style.py is no entry script"]


@pytest.mark.parametrize("name", ["render", "rollouts", "statistics", "numpy"])
def test_a_name_that_hides_another_module_is_found(name):
    assert shadowed({"maps", name}, taken_names()) == {name}


@pytest.mark.parametrize("name", ["io", "maps", "plotting"])
def test_a_name_that_hides_nothing_passes(name):
    assert shadowed({name}, taken_names()) == set()
