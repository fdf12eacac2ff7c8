# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of the OS parameters is what Ganeti, the manual and the schemas say; and where a value comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from snf_image_host.configuration.settings import Settings
from snf_image_host.parameters.network_document import NETWORK
from snf_image_host.parameters.osparams import OS_PARAMETERS, REGISTRY, os_parameters, parameters_list
from snf_image_host.parameters.schemas import published
from snf_image_host.parameters.spec import SPEC_DOCUMENT

PROJECT = Path(__file__).resolve().parents[3]
OLD = (
    *("img_id", "img_format", "img_passwd", "img_passwd_hash", "img_properties", "inst_properties"),
    *("img_personality", "auth_keys", "os_product_key", "os_answer_file", "config_url", "cloud_userdata"),
)
NEW = ("img_checksum", "hostname", "network", "spec")


def settings(root: Path, conf: str = "", variant: str = "") -> Settings:
    """Settings of files with these texts."""
    for name, text in (("snf-image/snf-image.conf", conf), ("ganeti/snf-image/variants/x.conf", variant)):
        path = root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Settings.load("x", root)


@pytest.mark.row(2)
def test_there_are_the_twelve_old_parameters_and_four_new_ones() -> None:
    assert sorted(parameter.name for parameter in REGISTRY) == sorted((*OLD, *NEW))


@pytest.mark.row(2)
def test_ganetis_list_is_the_registry_with_a_description_in_each_line() -> None:
    text = (PROJECT / "host/ganeti/parameters.list").read_text()
    assert text == parameters_list(), "run: make parameters"
    lines = text.removesuffix("\n").split("\n")
    assert [line.split(maxsplit=1)[0] for line in lines] == [parameter.name for parameter in REGISTRY]
    # Ganeti falls over blank lines and missing descriptions, and takes "#" for a parameter.
    assert all(len(line.split(maxsplit=1)) == 2 and not line.startswith("#") for line in lines)
    assert text.isascii()


def test_every_parameter_has_a_section_of_the_manual() -> None:
    manual = (PROJECT / "docs/parameters.md").read_text()
    assert re.findall(r"^### `(\w+)`", manual, re.MULTILINE) == [parameter.name for parameter in REGISTRY]


def test_every_example_of_the_manual_is_taken() -> None:
    manual = (PROJECT / "docs/parameters.md").read_text()
    examples = re.findall(r"```json (network|spec)\n(.*?)```", manual, re.DOTALL)
    assert {kind for kind, _ in examples} == {"network", "spec"}
    for kind, text in examples:
        (NETWORK if kind == "network" else SPEC_DOCUMENT).validate_json(text, strict=True)
        Draft202012Validator(json.loads(published()[f"{kind}.json"])).validate(json.loads(text))


def test_the_published_schemas_are_those_of_the_models() -> None:
    directory = PROJECT / "docs/schema"
    found = {path.name: json.loads(path.read_text()) for path in directory.iterdir()}
    assert found == {name: json.loads(text) for name, text in published().items()}, "run: make parameters"


@pytest.mark.parametrize("name", published())
def test_a_published_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(json.loads(published()[name]))


def test_the_schema_of_a_spec_has_every_parameter_but_itself() -> None:
    schema = json.loads(published()["spec.json"])
    assert set(schema["properties"]) == {*OLD, *NEW} - {"spec"}
    assert schema["additionalProperties"] is False


@pytest.mark.row(26)
@pytest.mark.parametrize(
    ("conf", "variant", "env", "expected"),
    [
        ("", "", {}, None),
        ("IMG_ID=a", "", {}, "a"),
        ("IMG_ID=a", "IMG_ID=b", {}, "b"),
        ("IMG_ID=a", "IMG_ID=b", {"OSP_IMG_ID": "c"}, "c"),
        ("IMG_ID=a", "IMG_ID=b", {"OSP_IMG_ID": ""}, ""),
        # A spec counts where it is given, and loses to what is given there by itself.
        ("""SPEC='{"img_id": "a"}'""", "", {}, "a"),
        ("""SPEC='{"img_id": "a"}'\nIMG_ID=b""", "", {}, "b"),
        ("""IMG_ID=b\nSPEC='{"img_id": "a"}'""", "", {}, "b"),
        ("IMG_ID=a", """SPEC='{"img_id": "b"}'""", {}, "b"),
        ("""SPEC='{"img_id": "a"}'""", "IMG_ID=b", {}, "b"),
        ("""SPEC='{"img_id": "a"}'""", """SPEC='{"img_format": "diskdump"}'""", {}, "a"),
        ("", "IMG_ID=b", {"OSP_SPEC": '{"img_id": "c"}'}, "c"),
        ("", "IMG_ID=b", {"OSP_SPEC": '{"img_id": "c"}', "OSP_IMG_ID": "d"}, "d"),
        ("", "IMG_ID=b", {"OSP_SPEC": '{"img_id": null}'}, "b"),
        ("", "IMG_ID=b", {"OSP_SPEC": "{"}, "b"),
        ("", "IMG_ID=b", {"OSP_SPEC": ""}, "b"),
    ],
)
def test_the_higher_place_wins_and_an_empty_value_is_one(
    tmp_path: Path, conf: str, variant: str, env: Mapping[str, str], expected: str | None
) -> None:
    assert os_parameters(env, settings(tmp_path, conf, variant)).get("IMG_ID") == expected


@pytest.mark.parametrize("name", OS_PARAMETERS)
def test_ganetis_word_for_a_reset_is_no_value(tmp_path: Path, name: str) -> None:
    assert os_parameters({f"OSP_{name}": "default"}, settings(tmp_path)) == {}
    assert os_parameters({f"OSP_{name}": "default"}, settings(tmp_path, f"{name}=preset"))[name] == "preset"


def test_the_same_word_in_a_file_is_a_value(tmp_path: Path) -> None:
    assert os_parameters({}, settings(tmp_path, "IMG_ID=default"))["IMG_ID"] == "default"


def test_members_of_a_spec_that_are_json_become_the_text_of_their_parameters(tmp_path: Path) -> None:
    spec = {
        "img_properties": {"SWAP": "2:512", "DO_SYNC": True, "N": 1},
        "inst_properties": '{"USERS": "root"}',
        "img_personality": [{"path": "/a", "contents": ""}],
        "network": {"nics": []},
        "img_passwd": "",
    }
    found = os_parameters({"OSP_SPEC": json.dumps(spec)}, settings(tmp_path))
    assert json.loads(found["IMG_PROPERTIES"]) == spec["img_properties"]
    assert found["INST_PROPERTIES"] == '{"USERS": "root"}'
    assert json.loads(found["IMG_PERSONALITY"]) == spec["img_personality"]
    assert (found["NETWORK"], found["IMG_PASSWD"]) == ('{"nics": []}', "")
