# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks: what one is, which of them a job asks for, and how they are performed.

plan() is pure and refuses before the first write. The lists in tasks/ are the run order; `after` and `requires`
say why, and check_order() holds the lists to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import combinations
from typing import Generic, Never, TypeVar

from snf_image_helper.reporter import Reporter
from snf_image_helper.system import Care, OsFamily, System
from snf_image_shared.errors import GuestError, SnfImageError
from snf_image_shared.job import Action, Job
from snf_image_shared.process import ProcessError

# A task that can do with any disk can do with ours: contravariant, so that Work[Never] stands for a stage of any kind.
Subject = TypeVar("Subject", contravariant=True)  # noqa: PLC0105  # the bare name is what the signatures read best with

MOUNTED_EXCLUDED = "EXCLUDE_MOUNTED_TASKS"
MOUNT_IMAGE = "MountImage"
UMOUNT_IMAGE = "UmountImage"
LEFT_TO_IGNITION = "Ignition sets this guest up at its first boot"
LINUX_ONLY = frozenset({OsFamily.LINUX})
BSD = frozenset({OsFamily.FREEBSD, OsFamily.OPENBSD, OsFamily.NETBSD})
UNIX = LINUX_ONLY | BSD
WINDOWS = frozenset({OsFamily.WINDOWS, OsFamily.WINDOWS_LEGACY})
ALL_FAMILIES = frozenset(OsFamily)


class CloudInit(StrEnum):
    """What the property CLOUD_INIT does to a task: turns it off, leaves it, or is the only case in which it runs."""

    OFF = "off"
    RUNS = "runs"
    ONLY = "only"


@dataclass(frozen=True)
class Requires:
    """The task depends on the effect of `task` in the cases where `when` holds."""

    task: str
    when: Callable[[Job], bool] = lambda job: True


@dataclass(frozen=True)
class Task(Generic[Subject]):
    """One named change. `run` gets the disk or the mounted guest, the job and the reporter.

    `skip` answers why the job gives this task nothing to do, or None. `excludable` is false for the tasks that
    EXCLUDE_TASK_<NAME> never reached; `resizes` ones also heed EXCLUDE_FILESYSTEMRESIZE_TASKS. `decides` says what it
    only decides when it sees disk or guest, for who reads a plan. It runs where the system takes orders as `care` says.
    A `rare` one is not worth a line where it is not asked for.
    An import of a guest that has lived changes no more than its new disk asks for: those tasks have `on_import`.
    """

    name: str
    run: Callable[[Subject, Job, Reporter], None]
    families: frozenset[OsFamily] = ALL_FAMILIES
    cloud_init: CloudInit = CloudInit.RUNS
    after: tuple[str, ...] = ()
    requires: tuple[Requires, ...] = ()
    excludable: bool = True
    resizes: bool = False
    skip: Callable[[Job], str | None] = lambda job: None
    decides: str = ""
    care: Care = Care.TASKS
    rare: bool = False
    on_import: bool = False

    @property
    def exclude_property(self) -> str:
        """The property that turns this task off."""
        return f"EXCLUDE_TASK_{self.name.upper()}"


@dataclass(frozen=True)
class Step(Generic[Subject]):
    """A task after planning; `skipped` is the reason why it does nothing, or None when it runs.

    A quiet step does not concern this guest at all and is not worth a line; an excluded one was turned off.
    """

    task: Task[Subject]
    skipped: str | None = None
    quiet: bool = False
    excluded: bool = False


@dataclass(frozen=True)
class Work(Generic[Subject]):
    """The steps of one stage, in run order."""

    steps: tuple[Step[Subject], ...] = field(default=())

    @property
    def names(self) -> frozenset[str]:
        """The tasks that really run."""
        return frozenset(step.task.name for step in self.steps if step.skipped is None)


def plan(tasks: Sequence[Task[Subject]], job: Job, system: System, *, mounted: bool) -> Work[Subject]:
    """Decide for each task whether it runs, and why not. `mounted` tells the stage that EXCLUDE_MOUNTED_TASKS ends.

    Of several tasks of one name, each for other families, the system's own is taken.
    """
    own = {task.name for task in tasks if system.family in task.families}
    concerned = [task for task in tasks if system.family in task.families or task.name not in own]
    firsts = {task.name: task for task in reversed(concerned)}
    return Work(tuple(_step(task, job, system, mounted=mounted) for task in concerned if firsts[task.name] is task))


def check_requirements(job: Job, *stages: Work[Never]) -> None:
    """Refuse a plan in which a running task lacks the one it stands on. Raises GuestError."""
    steps = [step for stage in stages for step in stage.steps]
    running = frozenset[str]().union(*(stage.names for stage in stages))
    reasons = {step.task.name: step.skipped for step in steps}
    for step in steps:
        if step.skipped is not None:
            continue
        for needed in step.task.requires:
            if needed.task not in running and needed.when(job):
                reason = reasons.get(needed.task, "unknown")
                raise GuestError(
                    f"{step.task.name} needs {needed.task}, which does not run ({reason}); "
                    f"set {step.task.exclude_property}=yes as well, or let {needed.task} run"
                )


def check_order(names: Sequence[str], tasks: Sequence[Task[Subject]]) -> None:
    """Hold `names`, the run order of all stages, to the edges of `tasks`. Raises ValueError: a programmer's mistake."""
    position = {name: number for number, name in enumerate(names)}
    if len(position) != len(names):
        raise ValueError("a name stands in the list twice")
    for one, another in combinations(tasks, 2):
        if one.name == another.name and one.families & another.families:
            raise ValueError(f"{one.name} is in the list twice for one family")
    for task in tasks:
        for other in (*task.after, *(needed.task for needed in task.requires)):
            if other not in position:
                raise ValueError(f"{task.name} comes after {other}, which is in no list")
            if position[other] >= position[task.name]:
                raise ValueError(f"{task.name} must stand after {other}")


def plainly(name: str, subject: object, job: Job, run: Callable[[], None]) -> None:
    """Run a task as it is: what perform() does unless it is told to do something around it."""
    run()


def perform(
    work: Work[Subject],
    subject: Subject,
    job: Job,
    report: Reporter,
    around: Callable[[str, Subject, Job, Callable[[], None]], None] = plainly,
) -> None:
    """Run the steps in order; a skipped one is announced with its reason. The first failure ends it.

    `around` gets a task's name, the subject, the job and what would run the task.
    """
    for step in work.steps:
        if step.skipped is None:
            with reported(step.task.name, report):
                around(step.task.name, subject, job, partial(step.task.run, subject, job, report))
        else:
            announce_skipped(step, report)


@contextmanager
def reported(name: str, report: Reporter) -> Iterator[None]:
    """Report start and end of a task around the block; a failure becomes a GuestError that begins with its name."""
    report.task_start(name)
    try:
        yield
    except ProcessError as error:
        report.stderr("\n".join(error.stderr_tail) or str(error))
        raise GuestError(f"{name}: {error}") from error
    except SnfImageError as error:
        raise GuestError(f"{name}: {error}") from error
    except OSError as error:
        raise GuestError(f"{name}: {error.filename or 'the disk'}: {error.strerror}") from error
    report.task_end(name)


def announce_all_skipped(work: Work[Subject], reason: str, report: Reporter) -> None:
    """Say of every step of a stage that is not entered why it does not run."""
    for step in work.steps:
        announce_skipped(Step(step.task, step.skipped or reason, step.quiet), report)


def announce_skipped(step: Step[Subject], report: Reporter) -> None:
    """Start, warning, end: what an orchestrator saw of a skipped task since snf-image 0.23."""
    if not step.quiet:
        announce(step.task.name, step.skipped or "", report)


def announce(name: str, reason: str, report: Reporter) -> None:
    """Start, reason and end of a task that does not run."""
    report.task_start(name)
    report.warning(f"Task {name} skipped: {reason}")
    report.task_end(name)


def _step(task: Task[Subject], job: Job, system: System, *, mounted: bool) -> Step[Subject]:
    if alien := _alien(task, job, system):
        return Step(task, alien, quiet=True)
    if excluded := _excluded(task, job, mounted=mounted):
        return Step(task, f"{excluded} is set", excluded=True)
    if task.cloud_init is CloudInit.OFF and job.wishes.flag("CLOUD_INIT"):
        return Step(task, "CLOUD_INIT is set: cloud-init does it in the guest")
    if reason := job.kept_off.get(task.name):
        return Step(task, reason)
    skipped = task.skip(job)
    if skipped and task.rare:
        return Step(task, skipped, quiet=True)
    if skipped is None and task.care is not system.care:
        return Step(task, LEFT_TO_IGNITION)
    return Step(task, skipped)


def _alien(task: Task[Subject], job: Job, system: System) -> str | None:
    """Why the task has nothing to do with such a guest."""
    if job.action is Action.IMPORT and not task.on_import:
        return "an import leaves the guest as it is"
    if system.family not in task.families:
        return f"not for OSFAMILY {system.family}"
    if task.care is Care.IGNITION and system.care is not Care.IGNITION:
        return "Ignition does not set this guest up"
    if task.cloud_init is CloudInit.ONLY and not job.wishes.flag("CLOUD_INIT"):
        return "CLOUD_INIT is not set"
    return None


def _excluded(task: Task[Subject], job: Job, *, mounted: bool) -> str | None:
    """The property that turns the task off."""
    properties = (
        ("EXCLUDE_ALL_TASKS", True),
        (task.exclude_property, task.excludable),
        ("EXCLUDE_FILESYSTEMRESIZE_TASKS", task.resizes),
        (MOUNTED_EXCLUDED, mounted),
    )
    return next((name for name, reaches in properties if reaches and job.wishes.flag(name)), None)
