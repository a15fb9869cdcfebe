"""URLs as users and attackers write them, with the verdicts of tests/cases/urls.json, and what the list leaves out."""

import ipaddress
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import addresses, urls
from core.errors import UrlNotAllowed

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "urls.json").read_text())["cases"]
DEVELOPMENT = urls.Policy(
    private_networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")), buckets=("media",)
)


def refusal(url: str, policy: urls.Policy = urls.PUBLIC, field: str = "input_files.a.mp4") -> UrlNotAllowed:
    with pytest.raises(UrlNotAllowed) as caught:
        urls.check(url, field=field, policy=policy)
    return caught.value


def named(case: dict[str, Any]) -> str:
    return f"{case['id']} {case['why']}"


def has_literal(case: dict[str, Any]) -> bool:
    return "dns" not in case


@pytest.mark.parametrize("case", [case for case in CASES if has_literal(case)], ids=named)
def test_what_needs_no_name_looked_up_is_judged_by_its_text(case: dict[str, Any]) -> None:
    if case["expected"] == "allow":
        urls.check(case["url"], field="input_files.a.mp4")
        return
    error = refusal(case["url"])
    assert error.message.startswith("The URL of input_files.a.mp4 ")
    assert error.details == {"field": "input_files.a.mp4"}
    assert len(error.message.encode()) < 300


@pytest.mark.parametrize("case", [case for case in CASES if not has_literal(case)], ids=named)
def test_what_only_the_connection_shows_passes_the_text(case: dict[str, Any]) -> None:
    urls.check(case["url"], field="input_files.a.mp4")


@pytest.mark.parametrize(
    ("url", "fetched"),
    [
        ("HTTPS://MEDIA.Example.COM/In.MP4", "https://media.example.com/In.MP4"),
        ("https://media.example.com.:8443/v", "https://media.example.com:8443/v"),
        ("https://media.example.com:443", "https://media.example.com/"),
        ("http://media.example.com:443/", "http://media.example.com:443/"),
        ("https://BÜCHER.example.com/ü?ü=ß#t=1", "https://xn--bcher-kva.example.com/ü?ü=ß"),
        ("https://r3---sn-4g5e6nzz.googlevideo.com/v", "https://r3---sn-4g5e6nzz.googlevideo.com/v"),
        ("https://my_bucket.s3.amazonaws.com/v?a=b@c", "https://my_bucket.s3.amazonaws.com/v?a=b@c"),
        ("https://[2606:2800:0220:0001::1]/v", "https://[2606:2800:220:1::1]/v"),
        ("https://media.example.com/映画 一".replace(" ", "%20"), "https://media.example.com/映画%20一"),
    ],
)
def test_check_gives_the_one_spelling_that_is_fetched(url: str, fetched: str) -> None:
    found = urls.check(url, field="x")

    assert isinstance(found, urls.Web)
    assert found.url == fetched
    assert httpx.URL(found.url).raw_host.decode() == found.host


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example.com#@127.0.0.1/",
        "http://media.example.com?@127.0.0.1/",
        "http://media.example.com/#@127.0.0.1/",
        "http://media.example.com:80:80/",
        "http://media.example.com:080/",
        "http://media.example.com:22/",
        "http://93.184.216.34:6379/",
        "http://[::1",
        "http://[::1]x/",
        "http://[127.0.0.1]/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://1.2.3.0x/",
        "http://example.1/",
        "http://media.example.com../",
        "http://localhost./",
        "http://a.home.arpa/",
        "http://printer.lan/",
        "http://localhost.localdomain4/",
        "http://files.intranet/",
        "http://\u212a8s.example.com/",
        "http://xn--0.example.com/",
        "http://media。example.com/",
        "http://ｍedia.example.com/",
        "http://①.example.com/",
        "http://93.184.216.34./",
        "http://-.example.com/",
        "http://a%2eexample.com/",
        "http:///v.mp4",
        "http:example.com",
        "http://media.example.com/\x7f",
        "http://media.example.com/\u2028",
        "http://media.example.com/\ud800",
        "http://" + "ü" * 5000 + ".example.com/",
        "http://" + "a." * 130 + "com/",
    ],
)
def test_more_of_the_same_kinds_is_refused(url: str) -> None:
    refusal(url)


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::808:808", "64:ff9b:1::1", "2002:808:808::1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:0:808:808",
        "fec0::1", "192.88.99.1", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1",
        "0.0.0.0", "::", "127.255.255.255", "100.127.255.255", "198.19.255.255", "255.255.255.255", "2001::1",
        "2001:2::1", "2001:db8::1", "3fff::1", "4000::1", "5f00::1", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_addresses_that_lead_elsewhere_are_not_public(address: str) -> None:
    assert not addresses.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "100.128.0.1", "172.32.0.1", "2606:2800:220:1::1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert addresses.is_public(ipaddress.ip_address(address))


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**32 - 1).map(ipaddress.IPv4Address))
def test_what_python_calls_private_is_never_public(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not addresses.is_public(address)
    assert not addresses.is_public(ipaddress.IPv6Address(f"::ffff:{address}"))
    assert not addresses.is_public(ipaddress.IPv6Address(f"64:ff9b::{address}"))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9000/v", "http://10.1.2.3:8123/v", "http://localhost:9000/v", "http://minio:9000/v"],
)
def test_opened_networks_may_be_named_on_any_port(url: str) -> None:
    urls.check(url, field="x", policy=DEVELOPMENT)
    refusal(url)


@pytest.mark.parametrize(
    "url", ["http://192.168.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://8.8.8.8:22/", "http://127.1/"]
)
def test_opened_networks_open_no_others(url: str) -> None:
    refusal(url, DEVELOPMENT)


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"])
def test_nothing_opens_where_clouds_hand_out_credentials(address: str) -> None:
    everything = urls.Policy(private_networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
    refusal(f"http://{address}/", everything)
    refusal("http://[fd00:ec2::254]/", everything)


def test_objects_of_listed_buckets_are_taken_as_they_are_written() -> None:
    found = urls.check("s3://media/2026/my clip?#1%20ü.mp4", field="x", policy=DEVELOPMENT)

    assert found == urls.Object(bucket="media", key="2026/my clip?#1%20ü.mp4")


@pytest.mark.parametrize(
    "url", ["s3://other/v.mp4", "s3://media", "s3://media/", "s3://MEDIA/v.mp4", "s3:/media/v.mp4"]
)
def test_other_objects_are_refused(url: str) -> None:
    refusal(url, DEVELOPMENT)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:secret@media.example.com/", "must not carry a user name or password; use a signed link instead."),
        ("https://media.example.com:22/", "must use one of the ports 80, 443, 8080, 8443."),
        ("https://media.example.com/a b", "has spaces, backslashes or invisible characters; percent-encode them."),
        ("https://media.example.com/" + "a" * 8192, "is longer than 8192 bytes."),
        ("media.example.com/a.mp4", "must begin with http:// or https:// and a host."),
        ("http://10.0.0.1/", "has an address that is not on the public internet."),
        ("http://nas.lan/", "has a name that is not on the public internet."),
    ],
)
def test_refusal_says_what_to_do(url: str, words: str) -> None:
    assert refusal(url).message == f"The URL of input_files.a.mp4 {words}"


def test_a_bucket_that_is_not_listed_says_what_to_do() -> None:
    assert refusal("s3://media/v.mp4").message == (
        "The URL of input_files.a.mp4 is in a bucket that is not open to this service; its operator lists buckets in "
        "INPUT_BUCKETS, with BACKEND=aws. A presigned https:// URL of the object works everywhere."
    )


@pytest.mark.parametrize("case", [case for case in CASES if case["stage"] == "parse"], ids=named)
def test_no_refusal_repeats_the_url(case: dict[str, Any]) -> None:
    error = refusal(f"{case['url']}?token=hunter2", field="x" * 500)

    assert "hunter2" not in str(error)
    assert len(error.message.encode()) < 400


TAKING = urls.Policy(uploads=True, buckets=("media",))


def test_upload_is_an_input_where_uploads_are_taken() -> None:
    found = urls.check("upload:0d6c2f3a-7b1e", field="input_files.a.mp4", policy=TAKING)
    assert found == urls.Uploaded(upload_id="0d6c2f3a-7b1e")
    assert urls.without_secrets("upload:0d6c2f3a-7b1e") == "upload:0d6c2f3a-7b1e"


@pytest.mark.parametrize(
    "url", ["upload:", "upload://a", "upload:a/b", "upload:../a", "upload:a\n", "upload:a?x=1", "upload:" + "a" * 65]
)
def test_what_only_looks_like_an_upload_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed, match="must have the form upload:ID"):
        urls.check(url, field="input_files.a.mp4", policy=TAKING)


@pytest.mark.parametrize("url", ["upload:a", "UPLOAD:a", "s3://media/key"])
def test_nothing_leads_from_the_web_to_an_upload_or_into_a_bucket(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        urls.check(url, field="location", policy=TAKING.web_only)


HOSTILE = [case["url"] for case in CASES if len(case["url"]) < 200]
PIECES = [
    *["127.0.0.1", "localhost", "169.254.169.254", "::1", "0x7f", "0177", "2130706433", "80", "s3://", "xn--", "%2e"],
    *["@", ":", "#", "?", "\\", "%00", ".", "[", "]", "/", "//", "\t", " ", "。", "．", "①"],
    *["\u00ad", "\u200b", "\u212a", "ſ", "ß"],
]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    url: str = draw(st.sampled_from(HOSTILE))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(url)))
        until = draw(st.integers(at, min(len(url), at + 6)))
        url = url[:at] + draw(st.sampled_from(PIECES) | st.text(max_size=2)) + url[until:]
    return url


@settings(deadline=None)
@given(mutated())
def test_no_mutation_makes_two_readers_differ_or_names_a_private_host(url: str) -> None:
    """Whatever passes is an ASCII host that httpx reads as we do, and no private address in anybody's spelling."""
    try:
        found = urls.check(url, field="x")
    except UrlNotAllowed:
        return
    assert isinstance(found, urls.Web)
    for read in (httpx.URL(found.url), httpx.URL(url)):
        host = read.raw_host.decode().removesuffix(".")
        assert (read.scheme, read.port or found.port) == (found.scheme, found.port)
        assert host == found.host or ipaddress.ip_address(host) == ipaddress.ip_address(found.host)
        assert not read.userinfo
    address = addresses.read(found.host)
    if address:
        assert addresses.is_public(address)
    else:
        with pytest.raises(OSError, match="illegal"):
            socket.inet_aton(found.host)  # the most generous reader of numbers
