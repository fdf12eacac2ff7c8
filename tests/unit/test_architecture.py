# SPDX-License-Identifier: GPL-2.0-or-later
"""The walls of the design, held by reading the real files: who may import whom, and where the world may be touched."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ROOTS = {
    "snf_image_host": PROJECT / "host",
    "snf_image_helper": PROJECT / "helper",
    "snf_image_shared": PROJECT / "shared",
    "snf_image_helper_builder": PROJECT / "helper-image-builder",
}
STORIES = frozenset(
    {
        "snf_image_host.create",
        "snf_image_host.rename",
        "snf_image_host.transfer",
        "snf_image_host.verify",
    }
)
STORIES_OF_IMAGE = frozenset(
    f"snf_image_host.instance_image.{name}" for name in ("create", "export", "import_", "rename", "verify")
)
MAX_MODULE, MAX_FUNCTION, MAX_ARGUMENTS = 400, 45, 5


@dataclass(frozen=True)
class Module:
    """One source file, its import name and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    def __str__(self) -> str:
        return self.name

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def imports(self) -> frozenset[str]:
        """Everything imported anywhere in the file: for `from a import b` both a and a.b."""
        return frozenset(_imported(self.tree))

    @property
    def imports_of_the_project(self) -> frozenset[str]:
        return frozenset(name for name in self.imports if name.partition(".")[0] in ROOTS)

    @property
    def names(self) -> frozenset[str]:
        """Every dotted name that is used: os.environ, sys.exit, subprocess.run."""
        return frozenset(ast.unparse(node) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _modules() -> tuple[Module, ...]:
    found = []
    for package, root in ROOTS.items():
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found.append(Module(name, path, ast.parse(path.read_bytes())))
    return tuple(found)


MODULES = _modules()
every_module = pytest.mark.parametrize("module", MODULES, ids=str)


def _using(*names: str) -> set[str]:
    """The modules that use one of the dotted names, or anything below it."""
    return {
        module.name
        for module in MODULES
        if any(used == name or used.startswith(f"{name}.") for used in module.names for name in names)
    }


def _importing(*names: str) -> set[str]:
    """The modules that import one of the modules or packages, or anything out of it."""
    return {
        module.name
        for module in MODULES
        if any(imported == name or imported.startswith(f"{name}.") for imported in module.imports for name in names)
    }


def test_all_four_packages_are_read() -> None:
    assert {module.package for module in MODULES} == set(ROOTS)


@every_module
def test_a_tier_imports_itself_and_shared_alone(module: Module) -> None:
    allowed = {module.package, "snf_image_shared"}
    assert {name.partition(".")[0] for name in module.imports_of_the_project} <= allowed


def test_only_cli_imports_the_stories_of_the_host_but_for_those_that_image_varies() -> None:
    assert _importing(*STORIES) <= {"snf_image_host.cli", *STORIES_OF_IMAGE}
    assert _importing(*STORIES_OF_IMAGE) == {"snf_image_host.cli"}


def test_nothing_of_the_host_imports_its_cli() -> None:
    assert _importing("snf_image_host.cli") == set()


def test_only_the_planning_imports_the_tasks() -> None:
    outside = {name for name in _importing("snf_image_helper.tasks") if not name.startswith("snf_image_helper.tasks")}
    assert outside == {"snf_image_helper.planning"}


def test_only_the_session_imports_the_stories_of_the_helper() -> None:
    stories = ("customize", "rename", "inspection", "shell", "archiving.capturing")
    # An import ends as a create does.
    found = _importing(*(f"snf_image_helper.{story}" for story in stories))
    assert found == {"snf_image_helper.session", "snf_image_helper.archiving.importing"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.package == "snf_image_shared"], ids=str)
def test_shared_stands_on_the_standard_library_alone(module: Module) -> None:
    roots = {name.partition(".")[0] for name in module.imports}
    assert roots - {"snf_image_shared"} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [m for m in MODULES if m.package == "snf_image_helper"], ids=str)
def test_the_helper_imports_at_its_start_the_standard_library_and_pyserial_alone(module: Module) -> None:
    at_start = ast.Module([node for node in module.tree.body if not isinstance(node, ast.FunctionDef)], [])
    roots = {name.partition(".")[0] for name in _imported(at_start)}
    assert roots - {"snf_image_shared", "snf_image_helper", "serial"} <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [m for m in MODULES if m.package == "snf_image_helper"], ids=str)
def test_the_helper_imports_nothing_that_its_image_lacks(module: Module) -> None:
    roots = {name.partition(".")[0] for name in module.imports}
    present = {"snf_image_shared", "snf_image_helper", "serial", "hivex", "jinja2"}
    assert roots - present <= sys.stdlib_module_names


def test_asyncio_is_in_three_modules_alone() -> None:
    assert _importing("asyncio") == {f"snf_image_host.vm.{name}" for name in ("deadlines", "helper_vm", "serial_ports")}


def test_programs_are_started_where_it_is_allowed_alone() -> None:
    assert _importing("subprocess") == {
        "snf_image_shared.process",
        "snf_image_shared.pipeline",  # several that run side by side
        "snf_image_host.downloads.connection",  # curl's answer is read while it comes
        "snf_image_host.monitor",
        "snf_image_host.images.decoder_process",  # it talks with us as long as the image is open
        "snf_image_host.images.signatures",  # gpgv reads the image from a pipe while it is copied
        "snf_image_host.images.running_program",  # what it writes is read while it does
        "snf_image_host.disks.storage_daemon",  # it serves a disk as long as the run lasts
        "snf_image_host.images.image_server",  # it serves an image as long as that is copied
        "snf_image_helper_builder.debian",  # mmdebstrap runs for minutes and its progress is shown
    }
    assert _using("os.system", "os.popen", "os.spawnv", "os.posix_spawn", "pty.spawn") == set()


@every_module
def test_nothing_is_given_to_a_shell(module: Module) -> None:
    words = [node for node in ast.walk(module.tree) if isinstance(node, ast.keyword)]
    assert not [word for word in words if word.arg == "shell"]
    assert "asyncio.create_subprocess_shell" not in module.names


def test_the_environment_and_the_command_line_are_read_at_the_edges_alone() -> None:
    edges = {
        "snf_image_host.cli",
        "snf_image_host.ganeti",
        "snf_image_host.configuration.settings",
        "snf_image_helper.__main__",
        "snf_image_helper_builder.cli",
        "snf_image_helper_builder.__main__",
    }
    found = _using("os.environ", "os.environb", "os.getenv", "sys.argv")
    assert {name for name in found if not name.startswith("snf_image_shared")} <= edges


@every_module
def test_what_may_be_anything_is_caught_at_the_edges_alone(module: Module) -> None:
    if module.name.endswith((".cli", ".__main__")):
        return
    for handler in (node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler)):
        kinds = ast.unparse(handler.type) if handler.type else "everything"
        if "BaseException" in kinds or kinds == "everything":
            # Cleaning up after whatever came is no verdict on it, as long as it goes on.
            assert _goes_on(handler), f"line {handler.lineno} swallows what it cannot know"
        else:
            assert kinds != "Exception", f"line {handler.lineno}"


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """A bare `raise`, or the exception is kept for another thread to raise, as the last thing that is done."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) or (isinstance(last, ast.Assign) and ast.unparse(last.value) == handler.name)


def test_exit_codes_are_decided_at_the_edges_alone() -> None:
    found = _using("sys.exit")
    assert {name for name in found if not name.endswith((".cli", ".__main__"))} == set()


@every_module
def test_a_module_fits_into_four_hundred_lines(module: Module) -> None:
    assert len(module.path.read_text().splitlines()) <= MAX_MODULE


@every_module
def test_a_function_fits_on_one_screen(module: Module) -> None:
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        assert (function.end_lineno or first) - first < MAX_FUNCTION, function.name


@every_module
def test_a_function_takes_no_more_than_five_arguments(module: Module) -> None:
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        given = function.args
        names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        assert len([name for name in names if name not in {"self", "cls"}]) <= MAX_ARGUMENTS, function.name


@every_module
def test_a_module_says_its_licence_and_why_it_exists(module: Module) -> None:
    assert module.path.read_text().startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    assert ast.get_docstring(module.tree)


def test_no_module_is_named_for_nothing() -> None:
    leaves = {module.name.rpartition(".")[2] for module in MODULES}
    assert leaves.isdisjoint({"utils", "util", "helpers", "base", "manager", "common", "misc"})


def test_every_folder_of_code_is_installed() -> None:
    """What pyproject.toml does not list is there in a checkout, and missing on a node and in its helper image."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module.name: module.path.parent for module in MODULES if module.path.name == "__init__.py"}
    assert set(settings["packages"]) == set(folders)
    assert {name: PROJECT / path for name, path in settings["package-dir"].items()} == folders


def test_every_file_of_a_task_is_in_a_list() -> None:
    room = "snf_image_helper.tasks"
    the_list = next(module for module in MODULES if module.name == room)
    files = {module.name.removeprefix(f"{room}.") for module in MODULES if module.name.startswith(f"{room}.")}
    assert {f"{name}.TASK" for name in files - {"bsd", "windows"}} <= the_list.names
