# SPDX-License-Identifier: GPL-2.0-or-later
"""Who overrides whom, from the file of the node to the document of an orchestrator, for every combination of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from http_server import Answer, HttpServer, http_server
from snf_image_host.configuration.settings import Settings
from snf_image_host.parameters.config_url import fetched
from snf_image_host.parameters.osparams import os_parameters

LEVELS = ("default", "main", "variant", "OSP", "document")  # lowest first
COMBINATIONS = [("default", *found) for size in range(5) for found in combinations(LEVELS[1:], size)]
FILES = {"main": "etc/snf-image/snf-image.conf", "variant": "etc/ganeti/snf-image/variants/v.conf"}


@pytest.fixture(scope="module")
def orchestrator() -> Iterator[HttpServer]:
    documents = {f"/{value}": Answer(json.dumps({"img_passwd": value}).encode()) for value in ("document", "")}
    with http_server({**documents, "/none": Answer(b"{}")}) as server:
        yield server


@pytest.mark.row(17, 26, 27)
@pytest.mark.parametrize("highest_is_empty", [False, True], ids=["filled", "empty"])
@pytest.mark.parametrize("present", COMBINATIONS, ids="-".join)
def test_the_highest_level_that_gives_a_parameter_decides_even_if_it_gives_nothing(
    tmp_path: Path, orchestrator: HttpServer, present: tuple[str, ...], highest_is_empty: bool
) -> None:
    given = {level: "" if highest_is_empty and level == present[-1] else level for level in present}
    for level, name in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"IMG_PASSWD='{given[level]}'\n" if level in given else "")
    settings = Settings.load("v", tmp_path)
    env = {"OSP_CONFIG_URL": f"{orchestrator.url}/{given.get('document', 'none')}"}
    if "OSP" in given:
        env["OSP_IMG_PASSWD"] = given["OSP"]
    password = fetched(os_parameters(env, settings), settings).get("IMG_PASSWD")
    assert password == (None if present == ("default",) else given[present[-1]])
