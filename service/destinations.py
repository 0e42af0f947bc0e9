"""Which addresses a webhook may lead to: public ones over https, and others where the operators say so.

A name is judged twice: as it is written when it is registered, and by every address that it resolves to when a message
leaves, which then goes to the address that was judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's special-purpose registry of IPv4, and multicast. `is_global` alone lets 192.0.0.8, 192.88.99.0/24 and 224/4 by.
_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 only global unicast: what maps, translates or tunnels IPv4 lies outside of it, or is taken out.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)  # fmt: skip

_URL = re.compile(r"[\x21-\x7e]+")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_NAME_CHARS = 253
# Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses; so does whoever wants to hide one.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PORTS = {"https": 443, "http": 80}


class DestinationRefused(Exception):
    """Nothing is sent there; the message says why, without the rest of the URL."""


@dataclass(frozen=True)
class Destination:
    """A URL, taken apart once: what is checked is what is used."""

    scheme: str
    host: str
    """A name in lower case, or the canonical text of an address."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """The address, where the host is one."""
        return _literal(self.host)


@dataclass(frozen=True)
class Allowance:
    """What the operators allow beyond the public internet: hosts by name and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """Names, addresses and networks, separated by commas.

        Raises:
            ValueError: for an entry that is none of these.
        """
        hosts, networks = set(), []
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if not _NAME.fullmatch(entry) or _ENDS_IN_NUMBER.fullmatch(entry):
                    raise ValueError(f"{entry!r} is no host name, address or network like 10.0.0.0/8") from None
                hosts.add(entry)
        return cls(frozenset(hosts), tuple(networks))

    def holds(self, destination: Destination, address: Address) -> bool:
        """Whether the operators named the host, or a network that the address is in."""
        return destination.host in self.hosts or any(address in network for network in self.networks)

    def check_url(self, destination: Destination) -> None:
        """Refuse what no resolver could make acceptable.

        Raises:
            DestinationRefused: with what to mend.
        """
        literal = destination.address
        if literal is not None:
            self.check_addresses(destination, [literal])
        elif destination.host not in self.hosts:
            if destination.host == "localhost" or destination.host.endswith(".localhost"):
                raise DestinationRefused("this name stands for the machine of the service itself")
            if destination.scheme == "http" and not self.networks:
                raise DestinationRefused(_WANTS_HTTPS)

    def check_addresses(self, destination: Destination, addresses: Sequence[Address]) -> None:
        """Refuse a host unless every one of its addresses may be called.

        Raises:
            DestinationRefused: naming the address.
        """
        if not addresses:
            raise DestinationRefused("the name has no address")
        for address in addresses:
            if self.holds(destination, address):
                continue
            if not is_public(address):
                raise DestinationRefused(f"{address} is not a public address")
            if destination.scheme != "https":
                raise DestinationRefused(_WANTS_HTTPS)


_WANTS_HTTPS = "an address of the public internet is called over https only"


def parse_destination(url: str) -> Destination:
    """Take a URL apart.

    Raises:
        DestinationRefused: unless it is absolute http or https, of printable ASCII, without user, password and fragment.
    """
    # urlsplit drops tabs and line breaks silently, and a backslash means a slash to some readers and not to others.
    if not _URL.fullmatch(url) or "\\" in url:
        raise DestinationRefused(
            "a URL has printable ASCII characters only; write others as %XX, and names in punycode"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise DestinationRefused("this is no URL like https://example.org/path") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _PORTS or not host:
        raise DestinationRefused("a webhook's URL begins with https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise DestinationRefused("a URL with a user name or a password is not called")
    if parts.fragment:
        raise DestinationRefused("a URL with a fragment (#…) is not called")
    literal = _literal(host)
    if literal is None and (
        len(host) > _MAX_NAME_CHARS or not _NAME.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host)
    ):
        raise DestinationRefused("the host is neither a name nor an address in its usual form")
    if port == 0:
        raise DestinationRefused("no receiver listens on port 0")
    target = parts.path or "/"
    return Destination(
        scheme=scheme,
        host=host if literal is None else str(literal),
        port=_PORTS[scheme] if port is None else port,
        target=target if not parts.query else f"{target}?{parts.query}",
    )


def is_public(address: Address) -> bool:
    """Whether the address is one host of the public internet, reached as itself: nothing mapped or tunnelled."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_6)


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None
