"""Connections to the service and to the links that it gives out.

The proxies of the environment are for what is far; on loopback there are none.
"""

import ssl
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from handlers.client.faults import Unreachable, Usage

# A service may close what is idle for five seconds, and what is asked just then is lost.
_LIMITS = httpx.Limits(keepalive_expiry=2.0)


def http(url: str, **settings: Any) -> httpx.Client:
    """For requests to the host of `url`. Raises Usage where the environment names what cannot be used."""
    trusted = _trusted()
    try:
        return httpx.Client(trust_env=not is_loopback(url), verify=trusted, limits=_LIMITS, **settings)
    except ImportError as error:
        raise Usage(
            "The environment names a SOCKS proxy, as ALL_PROXY does: unset it, or pip install 'httpx[socks]'."
        ) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise Usage("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no proxy's URL: give it as http://HOST:PORT.") from error


@cache
def _trusted() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise Usage("The authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read.") from error


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def absent(server: str, error: httpx.RequestError) -> Unreachable:
    """That the service did not answer, and why."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        why = "has a certificate that is not trusted here (SSL_CERT_FILE may name another authority)"
    else:
        why = "does not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        why += " by way of the environment's proxy (NO_PROXY excepts hosts)" if _by_proxy(server) else ""
    return Unreachable(f"The service at {server} {why}.", passing=True)


def _by_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    named = parts.scheme in proxies or "all" in proxies
    return named and not is_loopback(url) and not proxy_bypass(parts.hostname or "")
