# SPDX-License-Identifier: GPL-2.0-or-later
"""The job comes out of the floppy as it went in, or not at all."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_shared.errors import HelperError
from snf_image_shared.job import JOB_VERSION, Ipv4Method, Ipv6Method, Job, Nic, PersonalityFile, Secrets

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=30)  # NUL and lone surrogates included
MAYBE = st.none() | ANY_TEXT
NICS = st.builds(Nic, ANY_TEXT, ANY_TEXT, st.sampled_from(Ipv4Method), MAYBE, MAYBE, st.sampled_from(Ipv6Method))
FILES = st.builds(PersonalityFile, ANY_TEXT, ANY_TEXT, MAYBE, MAYBE, st.integers())
JOBS = st.builds(
    Job,
    version=st.just(JOB_VERSION),
    instance=ANY_TEXT,
    hostname=ANY_TEXT,
    image_format=ANY_TEXT,
    disks=st.lists(ANY_TEXT, max_size=3).map(tuple),
    properties=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
    personality=st.lists(FILES, max_size=3).map(tuple),
    nics=st.lists(NICS, max_size=3).map(tuple),
    secrets=st.builds(Secrets, MAYBE, MAYBE, MAYBE, MAYBE),
    environment=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
    seed=ANY_TEXT,
    cloud_init_debug=st.booleans(),
    debug=st.booleans(),
)
CANARY = "c4n4ry-Sw0rdf1sh"
JOB = Job(
    JOB_VERSION,
    "vm.example.com",
    "vm.example.com",
    "diskdump",
    ("snf-disk-0",),
    personality=(PersonalityFile("/etc/motd", "aGk="),),
    nics=(Nic("aa:00:00:00:00:01"),),
    secrets=Secrets(password="x"),
)


@given(JOBS)
def test_every_job_survives_the_way_to_the_helper(job: Job) -> None:
    assert Job.load(job.dump()) == job


@given(JOBS)
def test_a_job_is_one_line_of_ascii(job: Job) -> None:
    assert job.dump().isascii()
    assert b"\n" not in job.dump()


@pytest.mark.parametrize("member", [member.name for member in fields(Secrets)])
@pytest.mark.parametrize("value", [None, "", "x"])
def test_a_secret_that_is_empty_is_not_one_that_is_absent(member: str, value: str | None) -> None:
    job = replace(JOB, secrets=replace(Secrets(), **{member: value}))
    assert getattr(Job.load(job.dump()).secrets, member) == value


def test_what_is_shown_of_a_job_holds_no_secret() -> None:
    secrets = Secrets(CANARY, CANARY, CANARY, CANARY)
    files = (PersonalityFile("/etc/x", CANARY),)
    job = replace(JOB, secrets=secrets, personality=files, seed=CANARY, environment={"NIC_0_X": CANARY})
    for shown in (repr(job), str(job), repr(secrets), repr(files), f"{job}", repr([secrets])):
        assert CANARY not in shown


def plain() -> dict[str, object]:
    document: dict[str, object] = json.loads(JOB.dump())
    return document


@pytest.mark.parametrize("member", [member.name for member in fields(Job)])
def test_a_job_without_a_member_is_refused_by_name(member: str) -> None:
    document = plain()
    del document[member]
    with pytest.raises(HelperError, match=rf"Job: members differ .*{member}.*snf-image-update-helper"):
        Job.load(json.dumps(document).encode())


def test_a_job_with_an_unknown_member_is_refused_by_name() -> None:
    with pytest.raises(HelperError, match=r"colour.*snf-image-update-helper"):
        Job.load(json.dumps({**plain(), "colour": "red"}).encode())


@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("version", True, "Job.version: bool where int belongs"),
        ("version", 1.0, "Job.version: float where int belongs"),
        ("instance", None, "Job.instance: NoneType where str belongs"),
        ("disks", "snf-disk-0", "Job.disks: str where list belongs"),
        ("disks", [1], r"Job.disks\[0\]: int where str belongs"),
        ("properties", [], "Job.properties: list where dict belongs"),
        ("properties", {"A": 1}, "Job.properties.A: int where str belongs"),
        ("debug", 0, "Job.debug: int where bool belongs"),
        ("secrets", {"password": None}, "Job.secrets: members differ"),
        ("nics", [{"mac": "x"}], r"Job.nics\[0\]: members differ"),
        ("personality", [{}], r"Job.personality\[0\]: members differ"),
    ],
)
def test_a_job_with_a_member_of_another_type_is_refused_by_path(member: str, value: object, path: str) -> None:
    with pytest.raises(HelperError, match=path):
        Job.load(json.dumps({**plain(), member: value}).encode())


@pytest.mark.parametrize("method", ["", "DHCP", "bootp", None, [], {}])
def test_a_word_outside_a_closed_set_is_refused(method: object) -> None:
    document = plain()
    document["nics"] = [{**json.loads(JOB.dump())["nics"][0], "ipv4": method}]
    with pytest.raises(HelperError, match=r"Job.nics\[0\].ipv4"):
        Job.load(json.dumps(document).encode())


def test_a_job_of_another_version_is_refused() -> None:
    with pytest.raises(HelperError, match="version 6, this helper speaks 5; rebuild"):
        Job.load(replace(JOB, version=JOB_VERSION + 1).dump())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_job_or_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(HelperError):
        Job.load(text)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"9" * 5000, b"\xff", b"", b"null"])
def test_hostile_documents_are_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(HelperError):
        Job.load(text)
