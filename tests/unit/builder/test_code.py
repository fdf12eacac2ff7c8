# SPDX-License-Identifier: GPL-2.0-or-later
"""Our Python on its way into the VM. The root it is compiled by is this machine's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snf_image_helper_builder import code
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import ProcessError

HERE = Path("/")


def test_every_source_of_both_packages_goes_in_and_no_cache() -> None:
    files = code.packages()
    assert {"snf_image_helper/__init__.py", "snf_image_shared/errors.py"} <= set(files)
    assert {name.split("/")[0] for name in files} == set(code.PACKAGES)
    assert not [name for name in files if name.endswith(".pyc")]


def test_templates_go_in_too() -> None:
    template = code.packages()["snf_image_helper/windows/unattend.xml.j2"]
    assert b"urn:schemas-microsoft-com:unattend" in template


def test_the_helper_is_found_without_being_imported() -> None:
    program = "import sys; from snf_image_helper_builder import code; code.packages()"
    program += "; assert 'snf_image_helper' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def test_a_package_that_is_not_installed_is_named() -> None:
    program = "from snf_image_helper_builder import code; code.packages()"
    paths = [path for path in sys.path if not path.endswith("/helper")]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": ":".join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{ConfigurationError.__name__}: the Python package snf_image_helper is not installed" in done.stderr


@pytest.mark.root
def test_the_roots_python_runs_the_pyc_without_looking_at_the_source(tmp_path: Path) -> None:
    files = {"pack/__init__.py": b"", "pack/word.py": "print('Grüße')\n".encode(), "pack/note.txt": b"\xff"}
    compiled = code.compiled(files, HERE)
    assert len(compiled) == 2
    for name, content in {**files, **compiled, "pack/word.py": b"print('changed')"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = ["/usr/bin/python3", "-B", "-c", "import pack.word"]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True)
    assert done.stdout.decode() == "Grüße\n"


@pytest.mark.root
def test_a_traceback_names_the_file_where_it_lies_in_the_vm() -> None:
    [pyc] = code.compiled({"pack/word.py": b"1"}, HERE).values()
    assert b"/usr/lib/snf-image/pack/word.py" in pyc


@pytest.mark.root
def test_a_syntax_error_stops_the_build() -> None:
    with pytest.raises(ProcessError, match="SyntaxError"):
        code.compiled({"pack/word.py": b"def ("}, HERE)


def test_each_changed_file_changes_the_fingerprint() -> None:
    assert code.fingerprint({"a": b"1", "b": b"2"}) != code.fingerprint({"a": b"1", "b": b"3"})
    assert code.fingerprint({"a": b"1"}) != code.fingerprint({"b": b"1"})
