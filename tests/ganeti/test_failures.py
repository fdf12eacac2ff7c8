# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong, as the one who typed the command sees it; and what does not although much happens at once."""

from __future__ import annotations

import pytest

from ganeti.cluster import DHCP_NETWORK, NOISE, SMALL, Cluster, Order
from ganeti.guests import read_guest
from ganeti.traces import check_nothing_left, traces

pytestmark = pytest.mark.ganeti

MIB = 1 << 20
HELPER_VM, CREATE = "qemu-system-x86_64", "snf-image/create"
IMAGE = {"img_id": SMALL, "img_format": "diskdump"}
# The longest of the tasks by far, and these guests are not started.
QUICK = {**IMAGE, "img_properties": '{"EXCLUDE_TASK_DELETESSHKEYS": "yes"}'}


def last_line(said: str) -> str:
    return said.rstrip().rpartition("\n")[2]


@pytest.mark.row(13, 32)
def test_every_fault_of_the_parameters_is_shown_at_once_and_nothing_is_made(cluster: Cluster) -> None:
    faults = {"img_id": SMALL, "img_format": "qcow", "img_properties": "[1]", "img_passwd": "x", "img_passwd_hash": "y"}
    said = cluster.failing_add(Order("faulty.example.com", secret=faults))
    for name in ("img_format", "img_properties", "img_passwd_hash"):
        assert f"{name}: " in said
    assert "faulty.example.com" not in cluster.instances()


@pytest.mark.row(25)
def test_an_image_that_is_missing_or_too_large_is_the_last_thing_the_user_reads(cluster: Cluster) -> None:
    for name, parameters, reason in (
        ("missing.example.com", {**IMAGE, "img_id": "no-such.diskdump"}, "no-such.diskdump"),
        ("tight.example.com", IMAGE, str(512 * MIB)),
    ):
        said = cluster.failing_add(Order(name, parameters, disks=("size=64M",)))
        assert last_line(said).startswith("[ERROR] ")
        assert reason in last_line(said)
        assert set(cluster.disks(name)[0].read_bytes()) == {0}
        cluster.remove(name)


@pytest.mark.row(25, 80)
def test_a_failure_inside_the_helper_is_what_the_user_reads_and_the_disk_does_not_boot(cluster: Cluster) -> None:
    said = cluster.failing_add(Order("noise.example.com", {**IMAGE, "img_id": NOISE}, disks=("size=64M",)))
    assert last_line(said).startswith("[ERROR] ")
    assert "partition" in last_line(said)
    assert "OS create script failed" in said
    with cluster.disks("noise.example.com")[0].open("rb") as disk:
        assert set(disk.read(MIB)) == {0}
    cluster.remove("noise.example.com")


@pytest.mark.row(26, 101)
@pytest.mark.parametrize("cluster", ["bookworm"], indirect=True)  # the longest, and nothing of it is the release's
def test_three_instances_added_at_once_are_each_what_was_ordered(cluster: Cluster) -> None:
    """With an unmanaged NIC, with DHCP by the network's tag, and with what a variant and Ganeti preset."""
    cluster.gnt("os", "modify", "-O", "img_format=diskdump", "snf-image+small")
    quick = {"img_properties": QUICK["img_properties"]}
    orders = (
        Order("plain.example.com", QUICK, nics=("ip=none",)),
        Order("leased.example.com", QUICK, nics=(f"ip=pool,network={DHCP_NETWORK}",), template="sharedfile"),
        Order("preset.example.com", quick, nics=("ip=none",), os="snf-image+small"),
    )
    jobs = [cluster.submit(order) for order in orders]
    assert [cluster.wait_for_job(job) for job in jobs] == ["success"] * 3, cluster.explain("an add failed")
    guests = {order.name: read_guest(cluster.disks(order.name)[0]) for order in orders}
    assert {name: guest.hostname for name, guest in guests.items()} == {order.name: order.name for order in orders}
    leases = {name: guest.interfaces.count("inet dhcp") for name, guest in guests.items()}
    assert leases == {
        "plain.example.com": 1,
        "leased.example.com": 1,
        "preset.example.com": 0,
    }
    for order in orders:
        cluster.remove(order.name)


def test_what_a_killed_job_was_doing_ends_and_leaves_nothing(cluster: Cluster) -> None:
    before = traces(cluster.node)
    job = cluster.submit(Order("killed.example.com", QUICK))
    (helper_vm,) = cluster.wait(lambda: cluster.processes(HELPER_VM), "the helper VM does not start")
    # Else it might be through before Ganeti has made up its mind.
    cluster.node.run("sh", "-c", f"kill -STOP {helper_vm}")
    cluster.gnt("job", "cancel", "--kill", "--yes-do-it", job)
    assert cluster.wait_for_job(job) == "error"
    # Ganeti lets the script run on, and takes the disk away from under it.
    assert cluster.processes(CREATE)
    cluster.remove("killed.example.com")
    cluster.node.run("sh", "-c", f"kill -CONT {helper_vm}")
    cluster.wait(lambda: not cluster.processes(CREATE), "create goes on for ever")
    check_nothing_left(cluster.node, before)
