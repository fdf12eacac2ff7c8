# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-config: what it shows, what it hides, and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.config_command import main, quoted
from snf_image_host.configuration.assignments import parse_assignments
from snf_image_host.configuration.settings import setting_fields
from snf_image_host.configuration.settings_manual import entries, markdown
from snf_image_host.hooks.switches import SWITCH_FILE
from snf_image_host.parameters.osparams import SECRET_PARAMETERS

PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared")]!r}
from pathlib import Path
from snf_image_host.config_command import main
sys.exit(main(Path(sys.argv.pop(1))))
"""
MAIN = "etc/snf-image/snf-image.conf"
VARIANTS = "etc/ganeti/snf-image/variants"


@dataclass(frozen=True)
class Done:
    """How the command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def program(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(root), *arguments]


def call(root: Path, *arguments: str, files: Mapping[str, str] | None = None) -> Done:
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(root, list(arguments))
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def shown(done: Done) -> dict[str, tuple[str, str]]:
    """Name -> (value as it was written, origin)."""
    lines = [line.partition("  # ") for line in done.stdout.splitlines() if not line.startswith("# ")]
    return {text.partition("=")[0]: (text.rstrip().partition("=")[2], origin) for text, _, origin in lines}


def test_without_files_everything_is_a_default(tmp_path: Path) -> None:
    done = call(tmp_path, "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(shown(done)) == set(setting_fields())
    assert {origin for _, origin in shown(done).values()} == {"default"}
    assert shown(done)["HELPER_MEMORY"] == ("512", "default")
    assert done.stdout.endswith(
        "# sources, in the order in which they are asked: null (30), network (20), local (10)\n"
        "# targets, in the order in which they are asked: uri (20), local (10)\n"
    )


def test_each_value_is_shown_with_the_file_and_line_that_it_counts_from(tmp_path: Path) -> None:
    files = {
        MAIN: "# x\nHELPER_MEMORY=600\nDHCP_TAGS='a b'\nHELPER_ACCEL=\nDEFAULT_NIC_CONFIG=\nIMG_FORMAT=diskdump\n",
        f"{VARIANTS}/v.conf": "HELPER_MEMORY=700\nIMG_ID=x\n",
    }
    main_file, variant = tmp_path / MAIN, tmp_path / VARIANTS / "v.conf"
    found = shown(call(tmp_path, "show", "--variant", "v", files=files))
    assert found["HELPER_MEMORY"] == ("700", f"{variant}, line 1")
    assert found["DHCP_TAGS"] == ("'a b'", f"{main_file}, line 3")
    assert found["HELPER_ACCEL"] == ("auto", "default")
    assert found["DEFAULT_NIC_CONFIG"] == ("", f"{main_file}, line 5")
    assert found["IMG_FORMAT"] == ("diskdump", f"{main_file}, line 6")
    assert found["IMG_ID"] == ("x", f"{variant}, line 2")
    assert shown(call(tmp_path, "show"))["HELPER_MEMORY"] == ("600", f"{main_file}, line 2")


def test_what_is_shown_can_be_read_back(tmp_path: Path) -> None:
    files = {MAIN: 'KVM="kvm -name \'a b\'"\nIMG_PROPERTIES=$\'{"D":\\n "it\\\'s é\\377"}\'\nIMG_PASSWD=x\n'}
    first = call(tmp_path, "show", files=files)
    again = call(tmp_path, "show", files={MAIN: first.stdout})
    values = {name: value for name, (value, _) in shown(first).items()}
    assert values == {name: value for name, (value, _) in shown(again).items()}
    assert "IMG_PROPERTIES" in values
    assert "IMG_PASSWD" not in values


@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_any_value_is_spelt_so_that_it_is_read_back(value: str) -> None:
    written = value.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")  # as a file can hold it
    text = quoted(written)
    assert "\n" not in text
    assert [each.value for each in parse_assignments(f"A={text}  # x", "x")] == [written]


@pytest.mark.row(43)
@pytest.mark.parametrize("options", [("show",), ("show", "--json"), ("check",)])
@pytest.mark.parametrize("fault", ["", "HELPER_MEMORY=1\n", "A B\n"])
def test_no_secret_is_shown(tmp_path: Path, options: tuple[str, ...], fault: str) -> None:
    secrets = "".join(f"{name}='c4n4ry \n{name}'\n" for name in sorted(SECRET_PARAMETERS))
    secrets += "CURL='curl -u me:c4n4ry'\nPROGRESS_MONITOR='mon amqp://me:c4n4ry@host/'\n"
    done = call(tmp_path, *options, files={MAIN: secrets + fault})
    assert done.returncode == (3 if fault else 0)
    assert "c4n4ry" not in done.stdout + done.stderr
    if options == ("show",) and not fault:
        assert done.stdout.count("(set, not shown)") == len(SECRET_PARAMETERS) + 2


@pytest.mark.parametrize(
    "curl", ["curl -fL --cacert /x", "curl --retry 3 -sS", "/usr/bin/curl -k", "curl -A a -x proxy:80"]
)
def test_a_curl_without_credentials_is_shown(tmp_path: Path, curl: str) -> None:
    assert shown(call(tmp_path, "show", files={MAIN: f"CURL='{curl}'"}))["CURL"][0].strip("'") == curl


@pytest.mark.parametrize(
    "option",
    [
        "-ume:x",
        "-su me:x",
        "--user me:x",
        "--user=me:x",
        "-H 'A: x'",
        "--proxy-user a:b",
        "-x http://a:b@proxy",
        "-x a:b@proxy:3128",
        "--proxy a:b@proxy",
        "--proxy-u a:b",
        "--oauth2-b x",
        "--proxy-tlspassword x",
        "--data x",
        "-b c",
    ],
)
def test_a_curl_with_credentials_is_not(tmp_path: Path, option: str) -> None:
    done = call(tmp_path, "show", files={MAIN: f'CURL="curl {option}"'})
    assert "# CURL (set, not shown)" in done.stdout


def test_the_same_is_told_as_json(tmp_path: Path) -> None:
    files = {
        MAIN: "HELPER_MEMORY=600\nIMG_PASSWD=\nAWK=gawk\n",
        "etc/snf-image/backends/src/local.disabled": "",
        "etc/snf-image/backends/dst/local.priority": "70",
    }
    done = call(tmp_path, "show", "--json", files=files)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    origin = {"file": str(tmp_path / MAIN), "line": 1}
    assert set(told["settings"]) == set(setting_fields())
    assert told["settings"]["HELPER_MEMORY"] == {"value": "600", "origin": origin}
    assert told["settings"]["RENAME"] == {"value": "yes", "origin": None}
    assert told["os_parameters"] == {"IMG_PASSWD": {"value": "(set, not shown)", "origin": {**origin, "line": 2}}}
    assert told["backends"] == [
        {"kind": "src", "name": "null", "priority": 30, "disabled": False},
        {"kind": "src", "name": "network", "priority": 20, "disabled": False},
        {"kind": "src", "name": "local", "priority": 10, "disabled": True},
        {"kind": "dst", "name": "uri", "priority": 20, "disabled": False},
        {"kind": "dst", "name": "local", "priority": 70, "disabled": False},
    ]
    assert [warning.split(";")[0] for warning in told["warnings"]] == [
        f"{tmp_path / MAIN}, line 3: AWK has no effect any more",
        f"{tmp_path}/etc/snf-image/backends/src/local.disabled: the source 'local' is turned off",
    ]


def test_warnings_come_last_and_on_standard_error(tmp_path: Path) -> None:
    done = call(tmp_path, "show", files={MAIN: "AWK='\x1b[2J'\nPARTED=x"})
    assert done.returncode == 0
    assert [line.split(": ")[1].split()[0] for line in done.stderr.splitlines()] == ["AWK", "PARTED"]
    assert done.stderr.startswith(f"[WARNING] {tmp_path / MAIN}, line 1: ")


@pytest.mark.parametrize("command", ["show", "check"])
def test_faults_are_told_one_a_line_and_end_it_with_three(tmp_path: Path, command: str) -> None:
    files = {MAIN: "HELPER_MEMORY=1\nHELPER_ACCEL=\x1bx\n", f"{VARIANTS}/v.conf": ""}
    done = call(tmp_path, command, "--variant", "v", files=files)
    assert (done.returncode, done.stdout) == (3, "")
    assert [line.rpartition(": ")[0] for line in done.stderr.splitlines()] == [
        f"[ERROR] {tmp_path / MAIN}, line 1: HELPER_MEMORY",
        f"[ERROR] {tmp_path / MAIN}, line 2: HELPER_ACCEL",
    ]


def test_check_looks_at_every_variant_and_tells_each_fault_once(tmp_path: Path) -> None:
    files = {
        MAIN: f"VARIANTS_DIR={tmp_path}/own\nHELPER_MEMORY=1\n",
        "own/a.conf": "HELPER_DEBUG=x",
        "own/good.conf": "HELPER_MEMORY=512",
        "etc/ganeti/snf-image/variants.list": "published\n",
    }
    done = call(tmp_path, "check", files=files)
    assert (done.returncode, done.stdout) == (3, "")
    faults = done.stderr.splitlines()
    assert [fault.partition(": ")[0] for fault in faults] == [
        f"[ERROR] {tmp_path / MAIN}, line 2",
        f"[ERROR] {tmp_path}/own/a.conf, line 1",
        "[ERROR] variant 'published'",
    ]
    assert call(tmp_path, "check", "--variant", "good").returncode == 0


def test_check_is_content_with_good_files(tmp_path: Path) -> None:
    done = call(tmp_path, "check", files={MAIN: "AWK=gawk\n", f"{VARIANTS}/v.conf": ""})
    assert (done.returncode, done.stdout) == (0, "No fault found in the settings and the variants v.\n")
    assert done.stderr.count("[WARNING] ") == 1


@pytest.mark.parametrize("arguments", [[], ["x"], ["show", "x"], ["show", "--variant"], ["check", "--json"]])
def test_wrong_arguments_get_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = call(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: snf-image-config")


def test_the_c_locale_is_enough_for_any_value(tmp_path: Path) -> None:
    (tmp_path / MAIN).parent.mkdir(parents=True)
    (tmp_path / MAIN).write_text("DHCP_TAGS='é\x1b'")
    env = {"PATH": os.defpath, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(program(tmp_path, "show"), env=env, capture_output=True, check=True)
    assert rb"DHCP_TAGS=$'\xe9\033'" in done.stdout


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            program(tmp_path, "show"), env={"PATH": os.defpath}, stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_manual_has_every_setting_with_its_default() -> None:
    assert [entry.name for entry in entries()] == list(setting_fields())
    defaults = {entry.name: entry.default for entry in entries()}
    assert (defaults["HELPER_MEMORY"], defaults["RENAME"], defaults["HELPER_BOOT_TIMEOUT"]) == ("512", "yes", "")
    assert defaults["IMAGE_DIR"] == "/var/lib/snf-image"


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    assert (PROJECT / "docs/settings.md").read_text() == markdown(), "run `make settings-page`"


@pytest.mark.image_row(1, 99)
def test_the_settings_of_the_definition_image_are_shown_and_checked_as_well(tmp_path: Path) -> None:
    defaults, directory = "etc/default/ganeti-instance-image", "etc/ganeti/instance-image"
    files = {
        defaults: "IMAGE_TYPE=tarball\nIMG_PASSWD=geheim\n",
        f"{directory}/variants.list": "default\n",
        f"{directory}/variants/default.conf": "OVERLAY=$INSTANCE_NAME\nSWAP=no\n",
        f"{directory}/variants/bad.conf": "SWAP=perhaps\n",
    }
    done = call(tmp_path, "--definition", "image", "show", "--variant", "default", files=files)
    assert (done.returncode, done.stderr) == (0, "")
    found = shown(done)
    assert found["IMAGE_TYPE"] == ("tarball", f"{tmp_path / defaults}, line 1")
    assert found["SWAP"] == ("no", f"{tmp_path / directory}/variants/default.conf, line 2")
    assert found["FILESYSTEM"] == ("ext3", "default")
    assert "geheim" not in done.stdout
    document = json.loads(call(tmp_path, "--definition", "image", "show", "--json").stdout)
    assert document["settings"]["IMAGE_TYPE"]["value"] == "tarball"
    checked = call(tmp_path, "--definition", "image", "check")
    assert (checked.returncode, checked.stderr.count("[ERROR]")) == (3, 1)
    assert f"{tmp_path / directory}/variants/bad.conf, line 1: SWAP: 'perhaps'" in checked.stderr


@pytest.mark.image_row(99)
def test_networks_and_overlays_of_image_are_checked_where_their_hooks_are_switched_on(tmp_path: Path) -> None:
    directory = "etc/ganeti/instance-image"
    files = {
        "etc/default/ganeti-instance-image": "OVERLAY=gone\n",
        f"{directory}/variants.list": "",
        f"{directory}/hooks/interfaces": SWITCH_FILE.decode(),
        f"{directory}/hooks/overlays": SWITCH_FILE.decode(),
        f"{directory}/networks/subnets/prod": "NETMASK=255.255.255.0\n",
        f"{directory}/networks/instances/good.example.com": "ADDRESS=192.0.2.7\nSUBNET=prod\n",
        f"{directory}/networks/instances/bad.example.com": "ADDRESS=192.0.2.8\nSUBNET=$(hostname)\n",
        f"{directory}/networks/instances/bad.example.com~": "no file of an instance's\n",
        f"{directory}/networks/instances/lost.example.com": "ADDRESS=192.0.2.9\nSUBNET=lost\n",
    }
    assert call(tmp_path, "--definition", "image", "check", files=files).returncode == 0
    for hook in ("interfaces", "overlays"):
        (tmp_path / directory / "hooks" / hook).chmod(0o755)
    done = call(tmp_path, "--definition", "image", "check")
    faults = [line for line in done.stderr.splitlines() if line.startswith("[ERROR]")]
    assert (done.returncode, len(faults)) == (3, 3), done.stderr
    assert f"{tmp_path / directory}/networks/instances/bad.example.com, line 2" in faults[0]
    assert f"{tmp_path / directory}/networks/subnets/lost: is missing" in faults[1]
    assert f"OVERLAY: {tmp_path / directory}/overlays/gone not found" in faults[2]
