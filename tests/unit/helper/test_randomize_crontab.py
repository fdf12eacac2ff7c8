# SPDX-License-Identifier: GPL-2.0-or-later
"""Minutes of an instance's own in /etc/crontab: which lines get one, and that nothing else of the file changes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import READ_LIMIT
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import plan
from snf_image_helper.tasks import ON_GUEST
from snf_image_helper.tasks.randomize_crontab import TASK, with_own_minutes
from unit.helper.guest_trees import JOB, guest_in, perform, seen

pytestmark = pytest.mark.image_row(85)

CRONTAB = "/etc/crontab"
# Of Debian's package cron, without most comments.
DEBIAN = b"""\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
#17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly
17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6\t1 * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
#
"""
ENTERPRISE = b"01 * * * * root run-parts /etc/cron.hourly\n02 4 * * * root run-parts /etc/cron.daily"
OTHERS = (
    b"*/10 * * * * root run-parts /etc/cron.often\n",
    b"7,37 * * * * root run-parts /etc/cron.twice\n",
    b"1-59/2 * * * * root run-parts /etc/cron.odd\n",
    b"@daily root run-parts /etc/cron.daily\n",
    b"17 6 * * * root /usr/local/bin/backup /etc/cron.daily\n",
    b"17 6 * * * root run-parts /srv/jobs\n",
    b"17 6 * * *\nroot run-parts /etc/cron.daily\n",
    b"-*/15 * * * * root test -x /usr/lib/cron/run-crons && /usr/lib/cron/run-crons >/dev/null 2>&1\n",
    b"",
)


def minutes(crontab: bytes) -> list[int]:
    return [int(line.split()[0]) for line in crontab.splitlines() if line.lstrip()[:1].isdigit()]


@pytest.mark.parametrize("before", [DEBIAN, ENTERPRISE, b" \t5 4 * * * root nice run-parts /etc/cron.local \xff\r\n"])
def test_the_minutes_alone_are_others_and_stay_so(before: bytes) -> None:
    after = with_own_minutes(before, "web1.example.com")
    assert [line.lstrip(b" \t").partition(b" ")[2] for line in after.split(b"\n")] == [
        line.lstrip(b" \t").partition(b" ")[2] for line in before.split(b"\n")
    ]
    assert minutes(after) != minutes(before)
    assert all(0 <= minute < 60 for minute in minutes(after))
    assert with_own_minutes(after, "web1.example.com") == after


def test_jobs_of_one_instance_stay_apart_and_instances_differ() -> None:
    found = [minutes(with_own_minutes(DEBIAN, f"web{number}.example.com")) for number in range(120)]
    assert all(len({*each}) == 4 for each in found)
    assert all(len({each[place] for each in found}) > 40 for place in range(4))


def test_a_copy_of_a_guest_gets_minutes_of_its_own() -> None:
    first = with_own_minutes(DEBIAN, "web1.example.com")
    assert with_own_minutes(first, "web2.example.com") == with_own_minutes(DEBIAN, "web2.example.com") != first


@pytest.mark.parametrize("line", OTHERS)
def test_what_somebody_has_decided_stays(line: bytes) -> None:
    assert with_own_minutes(line, "web1.example.com") == line


def test_a_line_as_long_as_a_file_may_be_is_no_work_without_end() -> None:
    line = b"17 6 * * * root " + b"run-parts " * (READ_LIMIT // 10)
    assert with_own_minutes(line, "web1.example.com") == line


@pytest.mark.root
def test_the_file_keeps_its_owner_and_mode_and_a_guest_without_one_gets_none(tmp_path: Path) -> None:
    with guest_in(tmp_path / "debian", {CRONTAB: DEBIAN}) as guest:
        os.chown(f"{guest.root}{CRONTAB}", 0, 42)
        Path(f"{guest.root}{CRONTAB}").chmod(0o640)
        perform(TASK, guest)
        assert guest.read_bytes(CRONTAB) == with_own_minutes(DEBIAN, JOB.instance)
        assert seen(guest, CRONTAB) == (0, 42, 0o640)
    with guest_in(tmp_path / "other", {"/etc/hostname": ""}) as guest:
        perform(TASK, guest)
        assert guest.list_directory("/etc") == ("hostname",)


@pytest.mark.parametrize(
    ("task", "properties", "runs"),
    [
        ("RandomizeCrontab", {}, False),
        ("RandomizeCrontab", {"CRON_RANDOMIZE": "no"}, False),
        ("RandomizeCrontab", {"CRON_RANDOMIZE": "yes"}, True),
        ("RandomizeCrontab", {"CRON_RANDOMIZE": "yes", "EXCLUDE_TASK_RANDOMIZECRONTAB": "yes"}, False),
        ("SELinuxAutorelabel", {}, True),
        ("SELinuxAutorelabel", {"EXCLUDE_TASK_SELINUXAUTORELABEL": "yes"}, False),
    ],
)
def test_minutes_and_labels_are_options(task: str, properties: dict[str, str], runs: bool) -> None:
    steps = plan(ON_GUEST, replace(JOB, properties=properties), System(OsFamily.LINUX, 1), mounted=True).steps
    (step,) = [step for step in steps if step.task.name == task]
    assert (step.skipped is None) is runs
