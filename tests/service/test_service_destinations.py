"""Where webhooks may lead."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from service.destinations import Allowance, DestinationRefused, is_public, parse_destination

NOTHING = Allowance()

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.9.9.9", "169.254.169.254",
    "172.16.0.1", "172.31.255.254", "192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
    "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1",
    "ff02::1", "ff0e::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_the_public_internets_is_refused_in_every_spelling(address: str) -> None:
    parsed = ip_address(address)
    assert not is_public(parsed)
    host = f"[{address}]" if parsed.version == 6 else address
    with pytest.raises(DestinationRefused):
        NOTHING.check_url(parse_destination(f"https://{host}/hook"))
    named = parse_destination("https://innocent.example/")
    with pytest.raises(DestinationRefused):
        NOTHING.check_addresses(named, [ip_address("8.8.8.8"), parsed])


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.15.0.1", "100.63.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_is_called_over_https_alone(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    NOTHING.check_url(parse_destination(f"https://{host}/hook"))
    with pytest.raises(DestinationRefused, match="https"):
        NOTHING.check_url(parse_destination(f"http://{host}/hook"))
    with pytest.raises(DestinationRefused, match="https"):
        NOTHING.check_addresses(parse_destination("http://name.example/"), [ip_address(address)])


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/",
        "https://127.0.0.1./", "https://127.000.000.001/", "https://a.0x/", "https://a.1/", "https://[::1%25eth0]/",
        "https://[::ffff:7f00:1]/", "https://localhost/", "https://LOCALHOST/", "https://a.localhost/",
        "http://name.example/", "ftp://name.example/", "file:///etc/passwd", "gopher://name.example/", "//name.example/",
        "name.example", "", "https://", "https:///path", "https://user@name.example/", "https://user:pw@name.example/",
        "https://@name.example/", "https://name.example/#part", "https://name.example:0/", "https://name.example:65536/",
        "https://name.example:x/", "https://na me.example/", "https://name.example/\r\nX: y", "https://name.example/\t",
        "https://name.example\\@127.0.0.1/", "https://①②⑦.0.0.1/", "https://bücher.example/", "https://-a.example/",
        "https://a..example/", "https://name.example./", "https://%31%32%37.0.0.1/", f"https://{'a' * 64}.example/",
        f"https://{'a.' * 127}example/", "https://[::1/", "https://[127.0.0.1]/",
    ],
)  # fmt: skip
def test_a_url_that_hides_where_it_leads_is_refused_as_it_is_written(url: str) -> None:
    with pytest.raises(DestinationRefused):
        NOTHING.check_url(parse_destination(url))


def test_a_url_is_taken_apart_once() -> None:
    whole = parse_destination("HTTPS://Hooks.Example:8443/a/b%20c?token=x&y")
    assert (whole.scheme, whole.host, whole.port, whole.target) == (
        "https",
        "hooks.example",
        8443,
        "/a/b%20c?token=x&y",
    )
    assert whole.authority == "hooks.example:8443"
    bare = parse_destination("https://[2A00:0::1]")
    assert (bare.host, bare.port, bare.target, bare.authority) == ("2a00::1", 443, "/", "[2a00::1]")


def test_the_operators_open_hosts_and_networks_and_no_more() -> None:
    allowance = Allowance.parse(" Hooks.corp.example, 10.20.0.0/16 ,127.0.0.1,fd00::/8,")
    for url in ("http://hooks.corp.example/", "http://10.20.3.4:8080/", "http://127.0.0.1/", "https://[fd00::1]/"):
        allowance.check_url(parse_destination(url))
    for url in ("http://10.21.0.1/", "https://127.0.0.2/", "https://localhost/", "https://[::ffff:10.20.0.1]/"):
        with pytest.raises(DestinationRefused):
            allowance.check_url(parse_destination(url))
    private = [ip_address("10.99.0.1")]
    allowance.check_addresses(parse_destination("http://hooks.corp.example/"), private)
    with pytest.raises(DestinationRefused):
        allowance.check_addresses(parse_destination("https://other.corp.example/"), private)
    # A name may lead into an open network, also over http, but not beside it.
    named = parse_destination("http://other.corp.example/")
    allowance.check_url(named)
    allowance.check_addresses(named, [ip_address("10.20.0.9")])
    with pytest.raises(DestinationRefused):
        allowance.check_addresses(named, [ip_address("10.20.0.9"), ip_address("8.8.8.8")])


@pytest.mark.parametrize("text", ["10.0.0.0/33", "https://a.example", "10.0.0.1/8", "a b", "127.1"])
def test_an_entry_that_means_nothing_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no host name, address or network"):
        Allowance.parse(text)
