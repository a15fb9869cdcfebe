"""API_KEYS: what can stand in it, how a key is recognised, and how one is made."""

import hashlib
import hmac
import re
import subprocess
import sys
from unittest import mock

import pytest

from core import keys
from core.keys import Key
from core.settings import Settings, SettingsInvalid
from handlers import keys as tool
from handlers import local
from support.service import ROOT

ALICE = hashlib.sha256(b"alice's key").hexdigest()
NEXT = hashlib.sha256(b"alice's next key").hexdigest()
BOB = hashlib.sha256(b"bob's key").hexdigest()


def test_entries_have_a_name_a_digest_and_what_is_special_about_them() -> None:
    assert keys.read(f" alice:{ALICE} , bob:{BOB.upper()}:admin:rate=30:live=2,") == (
        Key(name="alice", digest=bytes.fromhex(ALICE)),
        Key(name="bob", digest=bytes.fromhex(BOB), admin=True, rate=30, live=2),
    )
    assert keys.read(f"alice:{ALICE}:user:rate=0")[0].rate == 0


def test_two_keys_of_one_name_are_one_caller_who_changes_keys() -> None:
    old, new = keys.read(f"alice:{ALICE}:live=3,alice:{NEXT}:live=3")
    assert (old.name, new.name) == ("alice", "alice")
    assert old.digest != new.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",", "must list keys as name:sha256[:role]"),
        (":", "a name is 1 to 64 of"),
        (f"al ice:{ALICE}", "a name is 1 to 64 of"),
        (f"{'a' * 65}:{ALICE}", "a name is 1 to 64 of"),
        ("ffk_the-key-itself", "entry 1 needs the SHA-256"),
        ("alice", "entry 1 needs the SHA-256 of its key, 64 hex digits"),
        (f"bob:{BOB},alice:ffk_the-key-itself", "entry 2 needs the SHA-256 of its key"),
        (f"alice:{ALICE[:-1]}", "entry 1 needs the SHA-256"),
        (f"alice:{ALICE}:root", "may end in :user or :admin, :rate=NUMBER and :live=NUMBER only"),
        (f"alice:{ALICE}:rate=-1", "may end in"),
        (f"alice:{ALICE}:rate=", "may end in"),
        (f"alice:{ALICE}:", "may end in"),
        (f"alice:{ALICE}:user:admin", "entry 1 gives its role or a limit twice"),
        (f"alice:{ALICE}:rate=1:live=2:rate=1", "entry 1 gives its role or a limit twice"),
        (f"alice:{ALICE},bob:{ALICE}", "lists one key twice"),
        (f"alice:{ALICE},alice:{NEXT}:admin", "all keys named 'alice' must have the same role and limits"),
        (f"alice:{ALICE}:rate=1,alice:{NEXT}", "all keys named 'alice' must have the same role and limits"),
    ],
)
def test_what_cannot_be_an_entry_is_refused_and_not_repeated(text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({"API_KEYS": text})

    (fault,) = caught.value.faults
    assert fault.startswith("API_KEYS: ")
    assert words in fault
    assert "ffk_" not in fault


def test_a_key_is_found_by_its_digest_alone() -> None:
    listed = keys.read(f"alice:{ALICE},bob:{BOB}:admin,alice:{NEXT}")

    found = [
        keys.find(listed, given) for given in (b"alice's key", b"alice's next key", b"bob's key", ALICE.encode(), b"")
    ]

    assert found == [listed[0], listed[2], listed[1], None, None]
    assert keys.find((), b"alice's key") is None


def test_every_key_is_compared_in_constant_time_whichever_it_is() -> None:
    listed = keys.read(f"alice:{ALICE},bob:{BOB},alice:{NEXT}")
    for given in (b"alice's key", b"bob's key", b"nobody's"):
        with mock.patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compared:
            keys.find(listed, given)
        digest = hashlib.sha256(given).digest()
        assert [call.args for call in compared.call_args_list] == [(key.digest, digest) for key in listed]


def test_a_new_key_is_32_random_bytes_and_its_entry_knows_only_the_digest() -> None:
    made = [keys.make("alice", admin=True) for _ in range(50)]

    assert len({key for key, _ in made}) == 50
    for key, entry in made:
        assert re.fullmatch(r"ffk_[A-Za-z0-9_-]{43}", key)
        assert entry == f"alice:{hashlib.sha256(key.encode()).hexdigest()}:admin"
        assert keys.find(keys.read(entry), key.encode()) == keys.read(entry)[0]


def test_the_program_prints_the_key_and_its_entry() -> None:
    command = [sys.executable, "-m", "handlers.keys", "alice"]
    said = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    key, entry = said[1], said[-1]
    assert keys.find(Settings.from_env({"API_KEYS": entry}).api_keys, key.encode()) == keys.read(entry)[0]
    assert (keys.read(entry)[0].name, keys.read(entry)[0].admin) == ("alice", False)


@pytest.mark.parametrize("name", ["", "al ice", "a:admin", "a,b"])
def test_the_program_refuses_what_is_no_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main([name])

    said = capsys.readouterr()
    assert (said.out, "a name is 1 to 64 of" in said.err) == ("", True)


def test_keys_stay_with_the_service() -> None:
    settings = Settings.from_env({"API_KEYS": f"alice:{ALICE}", "HOST": "0.0.0.0"})

    assert "API_KEYS" not in settings.to_env()
    assert ALICE not in repr(settings) + str(settings.to_env())
    Settings.from_env(settings.to_env())  # a worker listens nowhere, and has nothing to say of the address


@pytest.mark.parametrize(
    ("env", "open_to_all"),
    [
        ({}, False),
        ({"HOST": "::1"}, False),
        ({"HOST": "localhost"}, False),
        ({"HOST": "0.0.0.0"}, True),
        ({"HOST": "192.0.2.1"}, True),
        ({"HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "true"}, False),
        ({"HOST": "0.0.0.0", "API_KEYS": f"alice:{ALICE}"}, False),
    ],
)
def test_other_addresses_than_loopback_need_keys(env: dict[str, str], *, open_to_all: bool) -> None:
    assert Settings.from_env(env).lets_strangers_in is open_to_all


def test_the_service_does_not_listen_for_strangers(capsys: pytest.CaptureFixture[str]) -> None:
    assert local.main({"HOST": "0.0.0.0"}) == 1

    said = capsys.readouterr().err
    assert "HOST='0.0.0.0': anybody who reaches this address could use the service; set API_KEYS" in said
