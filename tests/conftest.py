# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests share: the caches of images, an installed provider, and one way to call its scripts as Ganeti does."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Only Debian has the modules of libnbd and hivex. Last in line, so that nothing else of its takes the place of ours.
sys.path.append("/usr/lib/python3/dist-packages")

pytest.register_assert_rewrite("leaks", "ganeti.traces", "unit.helper.network_rooms")

from provider import Provider  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
# Nothing fails because the machine is busy, and the same commit is tried with the same examples wherever it is tried.
hypothesis.settings.register_profile(
    "patient", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of a virtual machine needs root as well; without root the run fails loudly instead of skipping."""
    if os.geteuid() == 0:
        return
    marks = ("root", "vm", "ganeti")
    wanting = [item.nodeid for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    if wanting:
        pytest.exit(f"{len(wanting)} tests need root, {wanting[0]} among them; run them with sudo", returncode=1)


@pytest.fixture(autouse=True)
def no_xz_threads_left() -> Iterator[None]:
    """The threads of an xz reader that a test has let go of end before the next test, which may count threads."""
    yield
    deadline = time.monotonic() + 60
    while any(thread.name == "xz" for thread in threading.enumerate()):
        gc.collect()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="session")
def cache() -> Path:
    """Images that outlive a run, under keys of what they are made from."""
    directory = PROJECT / ".cache"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Provider:
    """The provider installed by `make install` below a directory of its own, with the helper image of the cache.

    What /dev/kvm is worth here, test_failures asks: one that opens and does not work is a warning, and a second QEMU.
    """
    provider = Provider.install(tmp_path_factory.mktemp("installed"), cache)
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_ACCEL="tcg")
    return provider
