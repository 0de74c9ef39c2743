"""Names, addresses and sizes of the test cluster."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tests.cluster.errors import BadName
from tests.cluster.layout import (
    CONTROL_PLANE_IP,
    LAN_BITS,
    LAN_GATEWAY,
    MAX_NODES,
    POD_CIDR,
    Layout,
    check_volume_name,
    node_ip,
    node_name,
    node_number,
    parse_size,
    pod_subnet,
)


def test_every_node_has_an_address_of_its_own_on_the_lan() -> None:
    lan = ipaddress.ip_network(f"{LAN_GATEWAY}/{LAN_BITS}", strict=False)
    addresses = [LAN_GATEWAY, CONTROL_PLANE_IP, *(node_ip(number) for number in range(1, MAX_NODES + 1))]
    assert len(set(addresses)) == MAX_NODES + 2
    assert all(ipaddress.ip_address(address) in lan for address in addresses)


def test_the_pods_of_every_node_have_addresses_of_their_own() -> None:
    subnets = [ipaddress.ip_network(pod_subnet(number)) for number in range(1, MAX_NODES + 1)]
    everything = ipaddress.ip_network(POD_CIDR)
    assert len(set(subnets)) == MAX_NODES
    assert all(isinstance(s, ipaddress.IPv4Network) and s.subnet_of(ipaddress.IPv4Network(everything)) for s in subnets)


@pytest.mark.parametrize("number", [1, 9, MAX_NODES])
def test_a_node_is_known_by_its_name(number: int) -> None:
    assert node_number(node_name(number)) == number


@pytest.mark.parametrize("name", ["", "n", "n0", "n01", f"n{MAX_NODES + 1}", "cp", "N1", "n1 ", "../n1"])
def test_what_is_no_node_is_refused(name: str) -> None:
    with pytest.raises(BadName, match="n1 to"):
        node_number(name)


@pytest.mark.parametrize("prefix", ["", "S", "1a", "a-b", "a/b", "toolongprefix", "a b", ".."])
def test_a_prefix_that_could_meet_another_one_is_refused(prefix: str) -> None:
    with pytest.raises(BadName):
        Layout(prefix, Path("/x"))


def test_a_cluster_owns_the_cgroups_of_its_prefix_and_no_others() -> None:
    layout = Layout("sm", Path("/x"))
    assert all(layout.owns_cgroup(name) for name in ("sm-cp", "sm-n1", "sm-n16"))
    assert not any(layout.owns_cgroup(name) for name in ("sme-n1", "sm", "sm-n0", "sm-cp2", "xsm-n1", "sm-n1.slice"))


def test_the_state_of_two_prefixes_lies_apart() -> None:
    one, other = Layout.of("sm", {}), Layout.of("sme", {})
    assert one.state != other.state
    assert one.lock != other.lock
    assert Layout.of("sm", {"STORAGEMIRROR_CLUSTER_STATE": "/elsewhere"}).state == Path("/elsewhere/sm")


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("1Ki", 1 << 10), ("300Mi", 300 << 20), ("300M", 300 << 20), ("2Gi", 2 << 30)]
)
def test_a_size_is_read_with_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5Gi", "10 Mi", "1Ti", "Gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadName, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize("name", ["a", "data-1", "a.b", "x" * 42])
def test_a_volume_may_be_called_so(name: str) -> None:
    assert check_volume_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a-", "A", "x" * 43])
def test_a_volume_may_not_be_called_so(name: str) -> None:
    with pytest.raises(BadName):
        check_volume_name(name)
