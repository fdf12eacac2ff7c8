# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's programs for what has to happen on the node itself, before and after an instance is made.

They run as root on the node, by run-parts' rules, and never see anything of a guest: before its disk is written, and
after the helper VM has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.hooks.switches import runnable
from snf_image_host.progress import Progress
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import Limits, ProcessError, run_capped

_LAST_LINES = 3


class Moment(StrEnum):
    """The directories in NODE_HOOKS_DIR."""

    PRE = "pre"
    POST = "post"


def run_node_hooks(moment: Moment, environment: Mapping[str, str], settings: Settings, progress: Progress) -> None:
    """Run those of this moment; what they write is in the log. `environment` is what Ganeti says of the instance.

    All of them run. Raises ConfigurationError that names those which failed, with their last words.
    """
    if settings.node_hooks_dir is None:
        return
    directory = settings.node_hooks_dir / moment
    try:
        names = runnable(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigurationError(f"{directory}: {error.strerror}; the node's hooks cannot be read") from error
    failures = []
    for name in names:
        progress.log(f"Running {directory / name}...")
        if failure := _run(directory / name, environment, settings, progress):
            failures.append(f"{directory / name} {failure}")
    if failures:
        done = "nothing was written" if moment is Moment.PRE else "the instance itself is complete"
        raise ConfigurationError(f"{'; '.join(failures)}; {done}")


def _run(path: Path, environment: Mapping[str, str], settings: Settings, progress: Progress) -> str | None:
    """Why it failed, if it did."""
    try:
        limits = Limits(timeout=settings.hooks_timeout, accept=frozenset(range(256)))
        done = run_capped([str(path)], name=path.name, env={"HOME": "/root", **environment}, limits=limits)
    except ProcessError as error:
        return error.outcome
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        progress.log(line)
    if not done.status:
        return None
    last = " / ".join(line.strip() for line in lines[-_LAST_LINES:])
    return f"failed with status {done.status}" + (f" ({last})" if last else "")
