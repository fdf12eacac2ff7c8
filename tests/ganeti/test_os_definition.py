# SPDX-License-Identifier: GPL-2.0-or-later
"""What Ganeti says of the OS definition, before there is any instance."""

from __future__ import annotations

import re

import pytest

from ganeti.cluster import OS, SMALL, Cluster, Order

pytestmark = pytest.mark.ganeti

PARAMETERS = (
    *("auth_keys", "cloud_userdata", "config_url", "hostname", "img_checksum", "img_format", "img_id", "img_passwd"),
    *("img_passwd_hash", "img_personality", "img_properties", "inst_properties", "network", "os_answer_file"),
    *("os_product_key", "spec"),
)


@pytest.mark.row(1)
def test_diagnose_finds_the_definition_valid_and_nothing_to_complain_about(cluster: Cluster) -> None:
    said = [line for line in cluster.gnt("os", "diagnose").splitlines() if line.strip()]
    assert len(said) == 6, said  # of the definition image as well
    first = said.index("OS: snf-image [global status: valid]")
    assert "status: valid (path: /usr/share/ganeti/os/snf-image) [API versions: 20]" in said[first + 2]


@pytest.mark.row(2)
def test_info_shows_every_parameter_with_a_description(cluster: Cluster) -> None:
    said = cluster.gnt("os", "info", "snf-image")
    assert re.findall(r"(?m)^    - ([a-z_]+): \S.{20,}$", said) == list(PARAMETERS)


@pytest.mark.row(3)
def test_list_shows_the_default_variant_and_the_administrators_own(cluster: Cluster) -> None:
    listed = cluster.gnt("os", "list", "--no-headers").split()
    assert [name for name in listed if name.startswith("snf-image")] == [OS, "snf-image+small"]


@pytest.mark.row(15)
def test_defaults_of_the_cluster_are_set_one_by_one(cluster: Cluster) -> None:
    def presets() -> list[str]:
        return [line for line in cluster.gnt("cluster", "info").splitlines() if line.strip().startswith("img_")]

    before = presets()
    cluster.gnt("os", "modify", "-O", "img_properties={}", OS)
    cluster.gnt("os", "modify", "-O", "img_format=diskdump", OS)
    assert len(presets()) == len(before) + 2
    cluster.gnt("os", "modify", "-O", "img_format=default,img_properties=default", OS)
    assert presets() == before


@pytest.mark.row(10, 11, 25)
def test_a_wrong_default_of_the_cluster_is_refused_with_its_name_value_and_cure(cluster: Cluster) -> None:
    said = cluster.failing_gnt("os", "modify", "-O", "img_format=qcow", OS)
    assert "img_format: 'qcow' is not one of diskdump" in said
    assert "qcow" not in cluster.gnt("cluster", "info")


@pytest.mark.row(17)
def test_an_unknown_variant_is_refused_by_ganeti_and_when_forced_by_us(cluster: Cluster) -> None:
    order = Order("variant.example.com", {"img_id": SMALL, "img_format": "diskdump"}, os="snf-image+nosuch")
    assert "does not support variant 'nosuch'" in cluster.failing_add(order)
    forced = cluster.failing_add(order, "--force-variant")
    assert "'nosuch'" in forced
    assert "/etc/ganeti/snf-image/variants/nosuch.conf" in forced
    assert cluster.instances() == []
