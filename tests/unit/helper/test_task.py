# SPDX-License-Identifier: GPL-2.0-or-later
"""Planning and performing: which task runs, in which words it is skipped, and how a failure ends the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import (
    BSD,
    LINUX_ONLY,
    UNIX,
    WINDOWS,
    CloudInit,
    Requires,
    Step,
    Task,
    Work,
    announce_all_skipped,
    check_order,
    check_requirements,
    perform,
    plan,
)
from snf_image_shared.errors import GuestError
from snf_image_shared.job import JOB_VERSION, Job
from snf_image_shared.process import run
from snf_image_shared.report import Event

LINUX = System(OsFamily.LINUX, 1)
Run = Callable[[list[str], Job, Reporter], None]


def job(**properties: str) -> Job:
    return Job(JOB_VERSION, "vm", "vm", "diskdump", ("snf-disk-0",), properties=properties)


def noting(name: str) -> Run:
    """A task's work: it leaves its name in the subject."""
    return lambda subject, job, report: subject.append(name)


def task(name: str = "Alpha", run: Run | None = None) -> Task[list[str]]:
    return Task(name, run or noting(name))


@dataclass
class Said:
    """What a reporter was told."""

    events: list[Event] = field(default_factory=list)

    @property
    def reporter(self) -> Reporter:
        return Reporter(lambda line: self.events.append(Event.decode(line.removesuffix(b"\n"))))

    @property
    def lines(self) -> list[str]:
        return [f"{event.kind} {event.text}" for event in self.events]


def reason(
    one: Task[list[str]], *, mounted: bool = False, system: System = LINUX, **properties: str
) -> tuple[str | None, bool]:
    (step,) = plan([one], job(**properties), system, mounted=mounted).steps
    return step.skipped, step.quiet


def test_a_task_runs_when_nothing_is_against_it() -> None:
    assert reason(task(), mounted=True) == (None, False)


@pytest.mark.parametrize("word", ["yes", "true", "on", "1", "set", "YES", "certainly"])
def test_a_task_is_excluded_by_its_own_name(word: str) -> None:
    assert reason(task(), EXCLUDE_TASK_ALPHA=word) == ("EXCLUDE_TASK_ALPHA is set", False)


@pytest.mark.parametrize("word", ["no", "false", "off", "0", "unset", ""])
def test_no_is_no_exclusion(word: str) -> None:
    assert reason(task(), EXCLUDE_TASK_ALPHA=word, EXCLUDE_ALL_TASKS=word) == (None, False)


def test_some_tasks_cannot_be_excluded_by_name_but_with_all_of_them() -> None:
    fixed = replace(task(), excludable=False)
    assert reason(fixed, EXCLUDE_TASK_ALPHA="yes") == (None, False)
    assert reason(fixed, EXCLUDE_ALL_TASKS="yes") == ("EXCLUDE_ALL_TASKS is set", False)


def test_resizing_is_excluded_together() -> None:
    assert reason(replace(task(), resizes=True), EXCLUDE_FILESYSTEMRESIZE_TASKS="yes")[0]
    assert reason(task(), EXCLUDE_FILESYSTEMRESIZE_TASKS="yes") == (None, False)


def test_the_mounted_stage_is_excluded_together() -> None:
    assert reason(task(), mounted=True, EXCLUDE_MOUNTED_TASKS="yes")[0] == "EXCLUDE_MOUNTED_TASKS is set"
    assert reason(task(), mounted=False, EXCLUDE_MOUNTED_TASKS="yes") == (None, False)


@pytest.mark.parametrize(
    ("kind", "without", "with_it"),
    [(CloudInit.RUNS, True, True), (CloudInit.OFF, True, False), (CloudInit.ONLY, False, True)],
)
def test_cloud_init_turns_tasks_on_and_off(kind: CloudInit, without: bool, with_it: bool) -> None:
    one = replace(task(), cloud_init=kind)
    assert (reason(one)[0] is None) is without
    assert (reason(one, CLOUD_INIT="yes")[0] is None) is with_it


def test_a_task_of_another_family_is_not_worth_a_word() -> None:
    one = replace(task(), families=LINUX_ONLY)
    assert reason(one, system=System(OsFamily.FREEBSD, 1)) == ("not for OSFAMILY freebsd", True)


def test_a_task_may_find_that_the_job_gives_it_nothing_to_do() -> None:
    one = replace(task(), skip=lambda job: None if job.nics else "there is no network card")
    assert reason(one) == ("there is no network card", False)


def test_what_the_user_excluded_is_told_before_what_there_is_to_do() -> None:
    one = replace(task(), skip=lambda job: "nothing to do")
    assert reason(one, EXCLUDE_TASK_ALPHA="yes")[0] == "EXCLUDE_TASK_ALPHA is set"


FLAGS = (
    "EXCLUDE_TASK_ALPHA",
    "EXCLUDE_FILESYSTEMRESIZE_TASKS",
    "EXCLUDE_MOUNTED_TASKS",
    "EXCLUDE_ALL_TASKS",
    "CLOUD_INIT",
)


@given(
    st.sets(st.sampled_from(FLAGS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(CloudInit),
)
def test_a_task_runs_exactly_when_nothing_that_holds_for_it_is_set(
    flags: set[str], mounted: bool, excludable: bool, resizes: bool, cloud_init: CloudInit
) -> None:
    one = replace(task(), excludable=excludable, resizes=resizes, cloud_init=cloud_init)
    against = {"EXCLUDE_ALL_TASKS"}
    against |= {"EXCLUDE_TASK_ALPHA"} if excludable else set()
    against |= {"EXCLUDE_FILESYSTEMRESIZE_TASKS"} if resizes else set()
    against |= {"EXCLUDE_MOUNTED_TASKS"} if mounted else set()
    against |= {"CLOUD_INIT"} if cloud_init is CloudInit.OFF else set()
    runs = flags.isdisjoint(against) and (cloud_init is not CloudInit.ONLY or "CLOUD_INIT" in flags)
    (step,) = plan([one], job(**dict.fromkeys(flags, "yes")), LINUX, mounted=mounted).steps
    assert (step.skipped is None) is runs


def test_a_plan_keeps_the_order_of_the_list() -> None:
    found = plan([task("C"), task("A"), task("B")], job(EXCLUDE_TASK_A="yes"), LINUX, mounted=False)
    assert [step.task.name for step in found.steps] == ["C", "A", "B"]
    assert found.names == {"C", "B"}


def test_of_tasks_with_one_name_a_plan_has_that_of_the_guests_family() -> None:
    theirs = (replace(task(), families=WINDOWS), replace(task(), families=BSD), task("Beta"))
    for system, own in ((System(OsFamily.WINDOWS, 1), theirs[0]), (System(OsFamily.NETBSD, 1), theirs[1])):
        assert [step.task for step in plan(theirs, job(), system, mounted=False).steps] == [own, theirs[2]]
    alien, _ = plan(theirs, job(), LINUX, mounted=False).steps
    assert (alien.task.name, alien.quiet) == ("Alpha", True)


def test_two_tasks_of_one_name_for_one_family_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="twice for one family"):
        check_order(["Alpha"], [replace(task(), families=UNIX), replace(task(), families=BSD)])


def needing(name: str, needed: str, when: Callable[[Job], bool] = lambda job: True) -> Task[list[str]]:
    return replace(task(name), requires=(Requires(needed, when),))


def test_a_task_without_the_one_it_stands_on_is_refused_with_two_cures() -> None:
    found = job(EXCLUDE_TASK_ALPHA="yes")
    stages = [plan([one], found, LINUX, mounted=False) for one in (task("Alpha"), needing("Beta", "Alpha"))]
    with pytest.raises(GuestError) as caught:
        check_requirements(found, *stages)
    assert str(caught.value) == (
        "Beta needs Alpha, which does not run (EXCLUDE_TASK_ALPHA is set); "
        "set EXCLUDE_TASK_BETA=yes as well, or let Alpha run"
    )


def test_what_a_skipped_task_stands_on_may_be_missing() -> None:
    found = job(EXCLUDE_TASK_ALPHA="yes", EXCLUDE_TASK_BETA="yes")
    check_requirements(found, plan([task("Alpha"), needing("Beta", "Alpha")], found, LINUX, mounted=False))


def test_a_requirement_counts_in_its_cases_alone() -> None:
    found = job(EXCLUDE_TASK_ALPHA="yes")
    tasks = [task("Alpha"), needing("Beta", "Alpha", lambda job: "SWAP" in job.properties)]
    check_requirements(found, plan(tasks, found, LINUX, mounted=False))
    swapping = replace(found, properties={**found.properties, "SWAP": "2:512"})
    with pytest.raises(GuestError):
        check_requirements(swapping, plan(tasks, swapping, LINUX, mounted=False))


def test_a_list_in_the_order_of_its_edges_is_accepted() -> None:
    check_order(["A", "B", "C"], [replace(task("B"), after=("A",)), needing("C", "B"), task("A")])


@pytest.mark.parametrize(
    ("names", "one", "problem"),
    [
        (["B", "A"], replace(task("B"), after=("A",)), "B must stand after A"),
        (["B", "A"], needing("B", "A"), "B must stand after A"),
        (["B"], replace(task("B"), after=("A",)), "B comes after A, which is in no list"),
        (["B"], replace(task("B"), after=("B",)), "B must stand after B"),
        (["B", "B"], task("B"), "a name stands in the list twice"),
    ],
)
def test_a_list_against_its_edges_is_a_programmers_mistake(
    names: list[str], one: Task[list[str]], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        check_order(names, [one])


def test_tasks_are_announced_run_and_closed_in_order() -> None:
    said, subject = Said(), list[str]()
    perform(Work((Step(task("A")), Step(task("B")))), subject, job(), said.reporter)
    assert subject == ["A", "B"]
    assert said.lines == ["task-start A", "task-end A", "task-start B", "task-end B"]


def test_a_skipped_task_is_announced_with_its_reason_and_a_quiet_one_is_not() -> None:
    said, subject = Said(), list[str]()
    steps = (Step(task("A"), "EXCLUDE_TASK_A is set"), Step(task("B"), "not for OSFAMILY linux", quiet=True))
    perform(Work(steps), subject, job(), said.reporter)
    assert subject == []
    assert said.lines == ["task-start A", "warning Task A skipped: EXCLUDE_TASK_A is set", "task-end A"]


def test_a_stage_that_is_not_entered_is_announced_whole() -> None:
    said = Said()
    steps = (Step(task("A")), Step(task("B"), "own reason"), Step(task("C"), "x", quiet=True))
    announce_all_skipped(Work(steps), "no stage", said.reporter)
    assert [line for line in said.lines if "warning" in line] == [
        "warning Task A skipped: no stage",
        "warning Task B skipped: own reason",
    ]


def failing(error: Exception) -> Run:
    def run_and_fail(subject: list[str], job: Job, report: Reporter) -> None:
        raise error

    return run_and_fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GuestError("no /etc/shadow"), "A: no /etc/shadow"),
        (FileNotFoundError(2, "No such file or directory", "/etc/x"), "A: /etc/x: No such file or directory"),
        (OSError(28, "No space left on device"), "A: the disk: No space left on device"),
    ],
)
def test_the_first_failure_ends_the_run_and_its_task_stays_open(error: Exception, message: str) -> None:
    said, subject = Said(), list[str]()
    with pytest.raises(GuestError) as caught:
        perform(Work((Step(task("A", failing(error))), Step(task("B")))), subject, job(), said.reporter)
    assert str(caught.value) == message
    assert subject == []
    assert said.lines == ["task-start A"]


def test_a_failed_program_is_told_by_its_last_words() -> None:
    def run_and_fail(subject: list[str], job: Job, report: Reporter) -> None:
        run(["sh", "-c", "seq 20 >&2; exit 3"])

    said = Said()
    with pytest.raises(GuestError, match=r"^A: sh failed with status 3: 20$"):
        perform(Work((Step(task("A", run_and_fail)),)), [], job(), said.reporter)
    assert said.lines == ["task-start A", "stderr " + "\n".join(str(number) for number in range(11, 21))]


def test_a_mistake_of_ours_is_not_taken_for_the_guests() -> None:
    with pytest.raises(ZeroDivisionError):
        perform(Work((Step(task("A", failing(ZeroDivisionError()))),)), [], job(), Said().reporter)
