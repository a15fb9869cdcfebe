"""Which internet addresses may be reached: the one predicate behind register (literals) and the worker (everything).

Python's `ipaddress` knows what the registries call global; that is not what a service may be sent to. The networks
below are refused whatever it says, so that the answer does not change with Python's version.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Not for us: private, shared, reserved, for documentation and tests, multicast, and what leads into another network.
_DENIED_V4 = (
    "0.0.0.0/8",  # this host
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT; also Alibaba's metadata
    "127.0.0.0/8",
    "168.63.129.16/32",  # Azure's wire server, global by the registry
    "169.254.0.0/16",  # link-local: EC2's, ECS's and most other clouds' metadata, and Amazon's DNS
    "172.16.0.0/12",
    "192.0.0.0/24",  # protocol assignments; Oracle's metadata
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
)
# All unicast on the IPv6 internet lies here. What does not: loopback, mapped and translated IPv4 (::/96, ::ffff:0:0/96,
# ::ffff:0:0:0/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local, link-local, site-local, multicast.
_UNICAST_V6 = IPv6Network("2000::/3")
_DENIED_V6 = (
    "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, with any IPv4 address inside
    "3fff::/20",  # documentation
)
# Where clouds hand out credentials and orders. No setting opens these.
_NEVER = (
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fe80::/10",
)


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_DENIED = _networks((*_DENIED_V4, *_DENIED_V6))
_CLOSED = _networks(_NEVER)


def read(text: str) -> Address | None:
    """The address that `text` is, in its usual spelling; None for anything else, and for one with a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address


def is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST_V6:
        return False
    return address.is_global and not _within(address, _DENIED)


def is_opened(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks that an operator has opened has it; where secrets are handed out, none counts."""
    return _within(address, networks) and not _within(address, _CLOSED)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
