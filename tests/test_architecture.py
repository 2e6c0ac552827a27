"""The floors: who may import whom, and what a package shows."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import anonfs
import anonfsd

ROOT = Path(__file__).parent.parent

# From the top down: each may import what stands below it.
FLOORS = ["anonfsd", "cli", "shm", "client", "vm", "vfs", "mm", "swap", "ground"]
GROUND = {"errors", "events", "inspection", "limits", "meminfo", "units", "__init__"}
DAEMON_ONLY = {"pyfuse3", "trio", "psutil"}

MODULES = sorted([*(ROOT / "anonfs").rglob("*.py"), *(ROOT / "daemon" / "anonfsd").rglob("*.py")])


def floor_of(dotted: str) -> str:
    parts = dotted.split(".")
    if parts[0] == "anonfsd":
        return "anonfsd"
    second = parts[1] if len(parts) > 1 else "__init__"
    if second == "__main__":
        return "cli"
    return "ground" if second in GROUND else second


def dotted_name(path: Path) -> str:
    base = ROOT / "daemon" if "daemon" in path.relative_to(ROOT).parts else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_imports_point_down(path: Path) -> None:
    own = FLOORS.index(floor_of(dotted_name(path)))
    for name in imports(path):
        if name.split(".")[0] in {"anonfs", "anonfsd"}:
            assert FLOORS.index(floor_of(name)) >= own, f"{name} is above"


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_the_library_knows_no_fuse(path: Path) -> None:
    if floor_of(dotted_name(path)) != "anonfsd":
        assert not DAEMON_ONLY & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_private_modules_stay_within_their_package(path: Path) -> None:
    package = dotted_name(path).rpartition(".")[0]
    for name in imports(path):
        above, _, last = name.rpartition(".")
        if last.startswith("_") and not last.startswith("__") and above.startswith("anonfs"):
            assert above == package, f"{name} is private"


def every_module() -> list[str]:
    names = []
    for package in (anonfs, anonfsd):
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [package.__name__, *(module.name for module in found)]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", every_module())
def test_exports_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    exported = module.__all__
    assert list(exported) == sorted(exported, key=_ruffs_order)
    for item in exported:
        assert hasattr(module, item)


def _ruffs_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as the linter sorts them."""
    if name.isupper():
        return 0, name
    return (1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("name", every_module())
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip()
