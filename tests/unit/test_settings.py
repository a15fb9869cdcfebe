"""The settings that open more than the public internet: what they mean, and what is said when they cannot be read."""

from ipaddress import ip_address, ip_network

import pytest

from core.destination import Destination
from core.settings import Settings, SettingsInvalid
from support.moto_server import SETTINGS


def test_nothing_but_the_public_internet_is_open_by_default() -> None:
    policy = Settings.from_env({}).url_policy

    assert (policy.private_networks, policy.buckets) == ((), ())


def test_networks_and_buckets_are_lists_and_survive_the_way_to_a_worker() -> None:
    env = {
        **SETTINGS,
        "ALLOW_PRIVATE_NETWORKS": " 127.0.0.0/8, ::1/128 ,10.1.2.3",
        "INPUT_BUCKETS": "media, my.archive",
    }

    settings = Settings.from_env(env)

    assert settings.allow_private_networks == tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "10.1.2.3/32")))
    assert settings.url_policy.buckets == ("media", "my.archive")
    assert settings.url_policy.reaches(ip_address("127.0.0.1"), 9000)
    assert Settings.from_env(settings.to_env()) == settings


def test_buckets_count_only_where_there_is_a_role_to_read_them() -> None:
    assert Settings.from_env({"INPUT_BUCKETS": "media"}).url_policy.buckets == ()


def test_destinations_are_buckets_with_or_without_a_prefix_and_survive_the_way_to_a_worker() -> None:
    settings = Settings.from_env({"DESTINATIONS": " media-out, partner-bucket/in coming ,partner-bucket/b/c"})

    assert settings.destinations == (
        Destination(bucket="media-out"),
        Destination(bucket="partner-bucket", prefix="in coming"),
        Destination(bucket="partner-bucket", prefix="b/c"),
    )
    assert Settings.from_env(settings.to_env()) == settings
    assert Settings.from_env({}).destinations == ()


ONE = "whsec_" + "c2VjcmV0" * 4


@pytest.mark.parametrize("text", [ONE, f"{ONE} {ONE[:-8]}dGVyY2Vz", f"  {ONE}  {ONE}  "])
def test_webhook_secret_is_one_or_two(text: str) -> None:
    assert (Settings.from_env({"WEBHOOK_SECRET": text}).webhook_secret or "").split() == text.split()


@pytest.mark.parametrize(
    "text",
    ["hunter2", "whsec_", ONE[6:], f"{ONE[:-8]}", f"{ONE},{ONE}", f"{ONE} {ONE} {ONE}", f"{ONE} hunter2", f"{ONE}!"],
)
def test_bad_webhook_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({"WEBHOOK_SECRET": text})

    assert caught.value.faults == [
        "WEBHOOK_SECRET: must be whsec_ and then 24 to 64 bytes in base64; or two of these, with a space between them"
    ]


def test_webhook_secret_is_for_those_who_send_alone() -> None:
    settings = Settings.from_env({"WEBHOOK_SECRET": ONE})
    assert ONE not in repr(settings)
    assert ONE not in str(settings.to_env())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ALLOW_PRIVATE_NETWORKS", "yes", "must be networks like 127.0.0.0/8,::1/128: 'yes' does not appear to be"),
        ("ALLOW_PRIVATE_NETWORKS", "127.0.0.1/8", "127.0.0.1/8 has host bits set"),
        ("ALLOW_PRIVATE_NETWORKS", "10.0.0.0/8;127.0.0.0/8", "must be networks like"),
        ("INPUT_BUCKETS", "s3://media", "must be names of buckets, like media,archive: 's3://media' is none"),
        ("INPUT_BUCKETS", "media,*", "'*' is none"),
        ("DESTINATIONS", "s3://media", "like media-out,partner-bucket/incoming: 's3://media' is none"),
        ("DESTINATIONS", "media-out,media/../x", "'media/../x' is none"),
    ],
)
def test_bad_value_is_reported_with_what_is_wanted(name: str, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({name: text})

    (fault,) = caught.value.faults
    assert fault.startswith(f"{name}={text!r}: ")
    assert words in fault
