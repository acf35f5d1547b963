"""The simulator's rooms: each imports only those below it, and none is too large."""

import ast
from pathlib import Path

import pytest

import microgrid_sync.simulator

PACKAGE = Path(microgrid_sync.simulator.__file__).parent
ROOMS = ("physics", "trouble", "description", "life", "serving")
"""From the ground up."""

_PREFIX = "microgrid_sync.simulator."

MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE]


def imported(path: Path) -> set[str]:
    """The modules that a module imports, by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(path.parts[-2:]))
def test_room_imports_only_those_below_it(path: Path) -> None:
    room = ROOMS.index(path.parent.name)
    for module in imported(path):
        if module.startswith(_PREFIX):
            below = module.removeprefix(_PREFIX).split(".")[0]
            assert ROOMS.index(below) <= room, f"imports {module}"


def test_rooms_have_no_circles() -> None:
    for room in ROOMS:
        graph = {
            f"{_PREFIX}{room}.{path.stem}": imported(path) for path in (PACKAGE / room).glob("*.py")
        }
        while graph:
            free = {module for module, needed in graph.items() if not needed & graph.keys()}
            assert free, f"{room}: a circle of {sorted(graph)}"
            graph = {module: needed for module, needed in graph.items() if module not in free}


def test_physics_know_neither_threads_nor_servers_nor_files() -> None:
    for path in (PACKAGE / "physics").glob("*.py"):
        foreign = {"threading", "queue", "grpc", "tomllib", "msgspec", "time"} & imported(path)
        assert foreign == set(), path.name
