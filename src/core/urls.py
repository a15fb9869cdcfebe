"""Which URLs may be an input, judged by their text alone: no name is looked up here, so this is no oracle.

What a name resolves to, and where a redirect leads, is judged in worker/fetch.py when the connection is made.
"""

from urllib.parse import SplitResult, urlsplit

from core.errors import UrlNotAllowed

MAX_URL_BYTES = 8192


def check(url: str, *, field: str) -> None:
    """Raise UrlNotAllowed, naming `field`, unless `url` is an absolute http or https URL with a host."""
    fault = _fault(url)
    if fault:
        raise UrlNotAllowed(f"The URL of {field} {fault}", details={"field": field})


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user, password, query and fragment, each of which may carry a secret."""
    parts = _split(url)
    if parts is None or not parts.netloc:
        return "(not a URL)"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{shown}?..." if parts.query else shown


def _fault(url: str) -> str | None:
    if len(url.encode(errors="replace")) > MAX_URL_BYTES:
        return f"is longer than {MAX_URL_BYTES} bytes."
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "has characters that must be percent-encoded."
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be an absolute http:// or https:// URL."
    if "@" in parts.netloc:
        return "must not carry a user name or password."
    return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return None
    return parts
