"""Which URLs may be an input, judged by their text alone: no name is looked up here, so this is no oracle.

The same judgement is made at register, in the worker, and at each redirect. What a name resolves to is judged when
the connection is made (worker/guard.py), by the same `Policy.reaches`. What passes is given back in the one spelling
that is then fetched, so that no two parsers can differ about it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePath
from urllib.parse import quote, unquote, urlsplit

from core import addresses
from core.errors import UrlNotAllowed

MAX_URL_BYTES = 8192
UPLOAD = "upload:"
PORTS = frozenset({80, 443, 8080, 8443})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FILE = "file://"
_MAX_SHOWN = 160  # characters of a field's name

_WEB = re.compile(r"(?P<scheme>https?)://(?P<place>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#(?P<fragment>.*))?")
_PLACE = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:@%]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_BUCKET = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
_UPLOADED = re.compile(r"upload:(?P<upload_id>[A-Za-z0-9-]{1,64})")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as a last label, libc and browsers read the host as an IPv4 address
# Names of one machine or one network. The public DNS has none of them.
_LOCAL = frozenset({"localhost", "localdomain", "localdomain4", "localdomain6", "local", "internal", "intranet"}) | {
    "private",
    "lan",
    "home",
    "corp",
    "arpa",
    "svc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this installation takes: the public internet, and what its operator has opened besides."""

    private_networks: Collection[addresses.Network] = ()
    buckets: Collection[str] = ()
    folders: Collection[PurePath] = ()
    uploads: bool = False

    @property
    def web_only(self) -> "Policy":
        """The same, but for what is no server: for what a server leads to, and what is sent out."""
        return replace(self, buckets=(), folders=(), uploads=False)

    def reaches(self, address: addresses.Address, port: int) -> bool:
        """Whether a connection may be made there."""
        if addresses.is_opened(address, self.private_networks):
            return True
        return port in PORTS and addresses.is_public(address)


PUBLIC = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """An http or https URL, and the parts of it that matter; `host` is a name in ASCII or an address."""

    url: str
    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An `s3://` URL."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """`upload:` and the id of an upload."""

    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A `file://` URL."""

    path: str  # absolute


class _Refused(Exception):
    """The message ends a sentence that begins with the URL. It never holds a part of the URL."""


def check(url: str, *, field: str, policy: Policy = PUBLIC) -> Web | Object | File | Uploaded:
    """What `url` names. Raises UrlNotAllowed, with `field` in it, when that cannot be an input."""
    try:
        if policy.uploads and url.startswith(UPLOAD):
            return _uploaded(url)
        if url.startswith("s3://"):
            return _object(url, policy)
        return _file(url, policy) if url.startswith(_FILE) else _web(url, policy)
    except _Refused as fault:
        shown = field if len(field) <= _MAX_SHOWN else f"{field[:_MAX_SHOWN]}..."
        raise UrlNotAllowed(f"The URL of {shown} {fault}", details={"field": field}) from None


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user, password, query and fragment, each of which may carry a secret."""
    if _UPLOADED.fullmatch(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    if url.startswith(_FILE):
        return f"{_FILE}/.../{parts.path.rpartition('/')[2]}"
    if not parts.netloc:
        return "(not a URL)"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{shown}?..." if parts.query else shown


def _uploaded(url: str) -> Uploaded:
    found = _UPLOADED.fullmatch(url)
    if not found:
        raise _Refused("must have the form upload:ID, as POST /ffmpeg/uploads answers it in `input`.")
    return Uploaded(upload_id=found["upload_id"])


def _object(url: str, policy: Policy) -> Object:
    found = _BUCKET.fullmatch(url)
    # A key is taken as it is written: it may hold spaces, question marks and whatever else can be seen.
    if not found or not url.isprintable() or len(found["key"].encode()) > 1024:
        raise _Refused("must have the form s3://bucket/key.")
    if found["bucket"] not in policy.buckets:
        raise _Refused(
            "is in a bucket that is not open to this service; its operator lists buckets in INPUT_BUCKETS, with "
            "BACKEND=aws. A presigned https:// URL of the object works everywhere."
        )
    return Object(bucket=found["bucket"], key=found["key"])


def file_url(path: str) -> str:
    """The URL of the file at that absolute path."""
    return _FILE + quote(path, errors="surrogateescape")


def _file(url: str, policy: Policy) -> File:
    """By its text: where it leads on the disk is for whoever opens it to see."""
    path = unquote(url.removeprefix(_FILE), errors="surrogateescape")
    parts = path.split("/")
    if parts[0] or len(parts) < 3 or any(part in ("", ".", "..") for part in parts[1:]) or "\0" in path:
        raise _Refused("must have the form file:///folder/file, with nothing that leads elsewhere.")
    if "?" in url or "#" in url or not url.isprintable():
        raise _Refused("has a query, a fragment or invisible characters; percent-encode what belongs to the name.")
    if not any(PurePath(folder) in PurePath(path).parents for folder in policy.folders):
        raise _Refused(
            "is not in a folder that is open to this service; its operator lists folders in INPUT_ROOTS, on one "
            "machine only."
        )
    return File(path=path)


def _web(url: str, policy: Policy) -> Web:
    if len(url.encode(errors="replace")) > MAX_URL_BYTES:
        raise _Refused(f"is longer than {MAX_URL_BYTES} bytes.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise _Refused("has spaces, backslashes or invisible characters; percent-encode them.")
    scheme, separator, rest = url.partition("://")
    parts = _WEB.fullmatch(f"{scheme.lower()}{separator}{rest}")
    if not parts or not parts["place"]:
        raise _Refused("must begin with http:// or https:// and a host.")
    _refuse_disguises(parts)
    place = _PLACE.fullmatch(_lowered(parts["place"]))
    if not place:
        raise _Refused("must have a plain host after the //, and after it at most a colon and a port from 1 to 65535.")
    host = _host(place["host"])
    port = int(place["port"] or _DEFAULT_PORTS[parts["scheme"]])
    _judge(host, port, policy)
    written = f"[{host}]" if ":" in host else host
    shown_port = "" if port == _DEFAULT_PORTS[parts["scheme"]] else f":{port}"
    canonical = f"{parts['scheme']}://{written}{shown_port}{parts['path'] or '/'}{parts['query'] or ''}"
    return Web(url=canonical, scheme=parts["scheme"], host=host, port=port)


def _refuse_disguises(parts: re.Match[str]) -> None:
    """What makes one reader see another host than the next one."""
    if "@" in parts["place"]:
        raise _Refused("must not carry a user name or password; use a signed link instead.")
    if "@" in (parts["fragment"] or "") or (not parts["path"] and "@" in (parts["query"] or "")):
        raise _Refused("has an @ that could be taken for the end of a user name; percent-encode it as %40.")


def _lowered(place: str) -> str:
    lowered = place.lower()
    # Such as the Kelvin sign, whose small letter is a plain k.
    if len(lowered) != len(place) or (lowered.isascii() and not place.isascii()):
        raise _Refused("has a host with characters that names do not have.")
    return lowered


def _host(written: str) -> str:
    """The host in the one spelling that is used from here on: an address as it is usual, or a name in ASCII."""
    if written.startswith("["):
        address = addresses.read(written[1:-1])
        if address is None or address.version != 6:
            raise _Refused("has no IPv6 address between its brackets.")
        return str(address)
    if len(written) > 254:
        raise _Refused("has a host that is no valid name.")
    name = _in_ascii(written.removesuffix("."))
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        address = addresses.read(name)
        if address is None or written.endswith("."):
            raise _Refused("has a number for a host; write an IPv4 address as four decimal numbers, like 192.0.2.1.")
        return str(address)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _Refused("has a host that is no valid name.")
    return name


def _in_ascii(name: str) -> str:
    """The name as DNS has it. Strictly by IDNA 2008: nothing is mapped, so nothing turns into a dot or a digit."""
    if name.isascii() and "xn--" not in name:
        return name
    import idna  # its tables take longer to load than all else here, and few names need them

    try:
        return idna.encode(name, strict=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _Refused("has a host that is no valid internationalised name (IDNA 2008).") from None


def _judge(host: str, port: int, policy: Policy) -> None:
    address = addresses.read(host)
    if address is not None:
        if policy.reaches(address, port):
            return
        if not addresses.is_public(address):
            raise _Refused("has an address that is not on the public internet.")
    # With private networks opened, local names and other ports may lead there: that shows when the name is resolved.
    elif policy.private_networks:
        return
    elif "." not in host or host.rpartition(".")[2] in _LOCAL:
        raise _Refused("has a name that is not on the public internet.")
    if port not in PORTS:
        raise _Refused(f"must use one of the ports {', '.join(map(str, sorted(PORTS)))}.")
