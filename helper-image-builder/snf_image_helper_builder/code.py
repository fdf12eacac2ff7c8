# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper's own Python as it goes into the VM: our packages as installed here, compiled by the VM's Python."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from snf_image_helper_builder.initrd import CODE
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import run

PACKAGES = ("snf_image_helper", "snf_image_shared")

# Unchecked: the image's files all have one time stamp, and nobody edits them there. Runs inside the root, so that the
# magic number is its own; reads and writes nothing but its standard streams.
_COMPILE = """
import base64, importlib.util, importlib._bootstrap_external as loader, json, sys
compiled = {}
for path, source in json.load(sys.stdin).items():
    code = compile(source, path, "exec", dont_inherit=True)
    pyc = loader._code_to_hash_pyc(code, importlib.util.source_hash(source.encode()), False)
    compiled[importlib.util.cache_from_source(path)] = base64.b64encode(pyc).decode()
json.dump(compiled, sys.stdout)
"""


def packages() -> dict[str, bytes]:
    """Path below CODE -> content, of every file of our packages but caches. They are found, not imported.

    Raises ConfigurationError when a package is not installed.
    """
    files = {}
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError(
                f"the Python package {package} is not installed here: install snf-image completely"
            )
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                files[f"{package}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files


def fingerprint(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def compiled(files: Mapping[str, bytes], tree: Path) -> dict[str, bytes]:
    """The .pyc beside each .py of `files`, made by the Python of the root `tree`. ProcessError: a syntax error."""
    sources = {f"/{CODE}/{name}": content.decode() for name, content in files.items() if name.endswith(".py")}
    done = run(
        ["chroot", str(tree), "/usr/bin/python3", "-I", "-S", "-B", "-c", _COMPILE], stdin=json.dumps(sources).encode()
    )
    results: dict[str, str] = json.loads(done.stdout)
    return {path.removeprefix(f"/{CODE}/"): base64.b64decode(pyc) for path, pyc in results.items()}
