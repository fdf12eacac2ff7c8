# SPDX-License-Identifier: GPL-2.0-or-later
"""verify refuses what can never work and is silent about what is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_host.verify import verify
from snf_image_shared.errors import ConfigurationError, RequestError


def test_nothing_at_all_is_no_fault(tmp_path: Path) -> None:
    verify({}, tmp_path)


def test_defaults_of_a_cluster_without_an_image_are_no_fault(tmp_path: Path) -> None:
    verify({"OS_API_VERSION": "20", "OSP_IMG_PROPERTIES": '{"OSFAMILY": "linux"}', "OSP_AUTH_KEYS": "x"}, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMG_FORMAT", "koko"),
        ("IMG_PROPERTIES", "[]"),
        ("INST_PROPERTIES", "x"),
        ("IMG_PERSONALITY", "{}"),
        ("IMG_PASSWD", "a\nb"),
        ("IMG_PASSWD_HASH", "a:b"),
        ("CONFIG_URL", "gopher://example.com/"),
        ("OS_ANSWER_FILE", "file:///etc/shadow"),
    ],
)
def test_a_parameter_that_can_never_work_is_refused_in_lower_case(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(RequestError, match=f"^OS parameter {name.lower()}: "):
        verify({f"OSP_{name}": value}, tmp_path)


def test_password_and_hash_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="exclude each other"):
        verify({"OSP_IMG_PASSWD": "", "OSP_IMG_PASSWD_HASH": "!"}, tmp_path)


def test_what_a_variant_presets_counts(tmp_path: Path) -> None:
    variants = tmp_path / "etc/ganeti/snf-image/variants"
    variants.mkdir(parents=True)
    (variants / "bad.conf").write_text("IMG_FORMAT=koko\n")
    with pytest.raises(RequestError, match="img_format: 'koko'"):
        verify({"OS_VARIANT": "bad"}, tmp_path)
    verify({"OS_VARIANT": "bad", "OSP_IMG_FORMAT": "diskdump"}, tmp_path)


def test_a_variant_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="variant 'none'"):
        verify({"OS_VARIANT": "none"}, tmp_path)
