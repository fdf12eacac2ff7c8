# SPDX-License-Identifier: GPL-2.0-or-later
"""What the settings do to a run of create, up to where it needs a helper image: IMAGE_DEBUG, and what is turned off."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared")]!r}
from pathlib import Path
from snf_image_host.cli import main
sys.exit(main("create", Path(sys.argv.pop(1))))
"""
SECRET = "c4n4ry"
ENCODED = base64.b64encode(SECRET.encode()).decode()
INSTANCE = {
    "OS_API_VERSION": "20",
    "INSTANCE_NAME": "web1.example.com",
    "HYPERVISOR": "kvm",
    "DISK_COUNT": "1",
    "DISK_0_PATH": "/nonexistent/disk",
    "NIC_COUNT": "1",
    "NIC_0_MAC": "aa:00:00:11:22:33",
    "OSP_IMG_ID": "debian.diskdump",
    "OSP_IMG_FORMAT": "diskdump",
    "OSP_IMG_PASSWD": SECRET,
    "OSP_IMG_PROPERTIES": json.dumps({"OSFAMILY": "linux", "TOKEN": SECRET}),
    "OSP_IMG_PERSONALITY": json.dumps([{"path": "/root/f", "contents": ENCODED}]),
    "OSP_AUTH_KEYS": f"ssh-ed25519 {SECRET}",
    "OSP_CLOUD_USERDATA": ENCODED,
}


def create(root: Path, settings: str, **extra: str) -> tuple[int, str]:
    """Exit code and log of a run that has no helper image."""
    main = root / "etc/snf-image/snf-image.conf"
    main.parent.mkdir(parents=True, exist_ok=True)
    main.write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root)],
        env={"PATH": os.defpath, **INSTANCE, **extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
    )
    return done.returncode, done.stdout


@pytest.mark.row(41)
def test_image_debug_logs_more_and_never_a_secret(tmp_path: Path) -> None:
    code, log = create(tmp_path, f"IMAGE_DEBUG=yes\nHELPER_MEMORY=600\nCURL='curl -u me:{SECRET}'\n")
    told = [line.removeprefix("[DEBUG] ") for line in log.splitlines() if line.startswith("[DEBUG] ")]
    assert code == 3  # there is no helper image
    assert "setting HELPER_MEMORY=600" in told
    assert "setting CURL=(set, not shown)" in told
    assert "OS parameters that are set: AUTH_KEYS, CLOUD_USERDATA, IMG_FORMAT, IMG_ID, IMG_PASSWD, " in log
    assert "properties that are set: OSFAMILY, TOKEN" in told
    assert "file /root/f, 8 characters of base64" in told
    assert any(line.startswith("NIC 0: ") and "aa:00:00:11:22:33" in line for line in told)
    assert SECRET not in log
    assert ENCODED not in log


@pytest.mark.row(41)
def test_without_image_debug_there_is_none_of_it(tmp_path: Path) -> None:
    assert "[DEBUG]" not in create(tmp_path, "")[1]


@pytest.mark.parametrize(
    ("file", "image", "text"),
    [
        ("src/null.disabled", "null", "needs the source 'null', which {path} turns off on this node"),
        ("dst/local.disabled", "null", "needs the target 'local', which {path} turns off on this node"),
    ],
)
def test_what_is_turned_off_is_refused_before_anything_is_opened(
    tmp_path: Path, file: str, image: str, text: str
) -> None:
    path = tmp_path / "etc/snf-image/backends" / file
    path.parent.mkdir(parents=True)
    path.touch()
    code, log = create(tmp_path, "", OSP_IMG_ID=image)
    assert code == 2
    assert log.splitlines()[0].startswith(f"[WARNING] {path}: ")
    assert text.format(path=path) in log.splitlines()[-1]
