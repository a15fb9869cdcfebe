"""The settings at run time: what may be set, what holds, and who wins when two set them at once."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidArgument, RecordChanged, ServiceUnavailable, SettingsChanged
from core.ffmpeg.codecs import QUALITIES
from core.live_settings import FRESH, NOT_ON_AWS, LiveSettings, Stored, applied, judged
from core.local.record_store import SqliteRecordStore
from core.ports import Record
from core.settings import Settings
from handlers.web.admin_models import shown_settings
from support.builders import NOW

ENVIRONMENT = Settings(result_ttl_hours=24, max_concurrent_tasks=2)
ALL = {
    "default_preset": "gif",
    "default_quality": "small",
    "result_ttl_hours": 0,
    "max_concurrent_tasks": 256,
}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqliteRecordStore]:
    with closing(SqliteRecordStore(tmp_path / "tasks.db")) as store:
        yield store


def test_what_is_stored_goes_before_the_environment_and_nothing_else_changes() -> None:
    assert applied(ENVIRONMENT, Stored()) == ENVIRONMENT
    assert applied(ENVIRONMENT, Stored(values=ALL)) == replace(ENVIRONMENT, **ALL)  # type: ignore[arg-type]


def test_null_is_the_environments() -> None:
    assert judged({**ALL, "result_ttl_hours": None, "default_preset": None}, ENVIRONMENT) == {
        "default_quality": "small",
        "max_concurrent_tasks": 256,
    }


def test_every_quality_can_be_the_default() -> None:
    for quality in QUALITIES:
        assert judged({"default_quality": quality}, ENVIRONMENT) == {"default_quality": quality}


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = {
        "default_preset": "no-such",
        "default_quality": "best",
        "result_ttl_hours": -1,
        "max_concurrent_tasks": True,
        "port": 80,
    }

    with pytest.raises(InvalidArgument) as refused:
        judged(wrong, ENVIRONMENT)

    faults = refused.value.details["errors"]
    assert [fault["field"] for fault in faults] == list(wrong)
    assert refused.value.details["field"] == "default_preset"
    assert refused.value.message == faults[0]["message"]
    assert [fault["message"] for fault in faults[1:]] == [
        "default_quality must be one of high, balanced, small.",
        "result_ttl_hours must be from 0 to 87600.",
        "max_concurrent_tasks must be a whole number.",
        "port is not among what can be set: default_preset, default_quality, result_ttl_hours, max_concurrent_tasks.",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_preset", ""),
        ("default_preset", 5),
        ("default_quality", ""),
        ("result_ttl_hours", 24.0),
        ("result_ttl_hours", "24"),
        ("result_ttl_hours", 10 * 365 * 24 + 1),
        ("max_concurrent_tasks", 0),
        ("max_concurrent_tasks", 257),
        ("max_concurrent_tasks", []),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        judged({name: value}, ENVIRONMENT)
    assert refused.value.details["field"] == name


def test_on_aws_the_pool_is_not_ours_and_the_bucket_has_a_rule_of_its_own() -> None:
    aws = replace(ENVIRONMENT, backend="aws")

    with pytest.raises(InvalidArgument) as refused:
        judged({"max_concurrent_tasks": 3, "result_ttl_hours": 25}, aws)
    assert [fault["field"] for fault in refused.value.details["errors"]] == ["max_concurrent_tasks", "result_ttl_hours"]
    assert refused.value.message == NOT_ON_AWS
    with pytest.raises(InvalidArgument):
        judged({"result_ttl_hours": 0}, aws)
    assert judged({"result_ttl_hours": 12}, aws) == {"result_ttl_hours": 12}
    assert judged({"result_ttl_hours": 0}, replace(aws, result_ttl_hours=0)) == {"result_ttl_hours": 0}


def test_what_was_stored_holds_no_more_where_the_stack_keeps_outputs_for_less() -> None:
    stored = Stored(values={"result_ttl_hours": 48, "default_quality": "small"}, version=1)
    kept_longer = replace(ENVIRONMENT, backend="aws", result_ttl_hours=72)
    assert applied(kept_longer, stored).result_ttl_hours == 48
    lowered = replace(kept_longer, result_ttl_hours=24)
    assert applied(lowered, stored) == replace(lowered, default_quality="small")
    shown = shown_settings(lowered, stored)
    assert shown.result_ttl_hours.model_dump() == {"value": 24, "source": "environment"}
    assert shown.default_quality.model_dump() == {"value": "small", "source": "stored"}


def test_a_change_is_known_at_once_here_and_some_seconds_later_elsewhere(records: SqliteRecordStore) -> None:
    here, elsewhere = LiveSettings(records, ENVIRONMENT), LiveSettings(records, ENVIRONMENT)
    assert elsewhere.current(now=NOW) == ENVIRONMENT

    stored = here.put({"max_concurrent_tasks": 5}, now=NOW, changed_by="root")

    changed = replace(ENVIRONMENT, max_concurrent_tasks=5)
    assert stored == Stored(values={"max_concurrent_tasks": 5}, version=1, changed_at=NOW, changed_by="root")
    assert here.current(now=NOW) == changed
    assert elsewhere.current(now=NOW + FRESH - timedelta(milliseconds=1)) == ENVIRONMENT
    assert elsewhere.current(now=NOW + FRESH) == changed
    assert LiveSettings(records, ENVIRONMENT).stored(now=NOW) == stored


def test_a_change_replaces_all(records: SqliteRecordStore) -> None:
    live = LiveSettings(records, ENVIRONMENT)
    live.put(ALL, now=NOW, changed_by=None)

    assert live.put({"result_ttl_hours": 5, "default_quality": None}, now=NOW, changed_by=None).values == {
        "result_ttl_hours": 5
    }
    assert live.current(now=NOW) == replace(ENVIRONMENT, result_ttl_hours=5)


def test_of_two_changes_to_one_version_one_is_refused(records: SqliteRecordStore) -> None:
    one, other = LiveSettings(records, ENVIRONMENT), LiveSettings(records, ENVIRONMENT)
    one.put({"result_ttl_hours": 1}, now=NOW, changed_by="one", expected=0)

    with pytest.raises(SettingsChanged) as refused:
        other.put({"result_ttl_hours": 2}, now=NOW, changed_by="other", expected=0)

    assert refused.value.details == {"version": 1}
    assert other.stored(now=NOW).values == {"result_ttl_hours": 1}
    assert other.put({"result_ttl_hours": 2}, now=NOW, changed_by="other", expected=1).version == 2


class Overtaken(SqliteRecordStore):
    """Where, before each of the first writes, somebody else writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.rivals: list[dict[str, Any]] = []

    def create(self, record: Record) -> Record:
        self._overtake()
        return super().create(record)

    def replace(self, new: Record, previous: Record) -> Record:
        self._overtake()
        return super().replace(new, previous)

    def _overtake(self) -> None:
        if self.rivals:
            rival, self.rivals = self.rivals[0], self.rivals[1:]
            later, self.rivals = self.rivals, []
            LiveSettings(self, ENVIRONMENT).put(rival, now=NOW, changed_by="rival")
            self.rivals = later


def test_who_is_overtaken_decides_anew(tmp_path: Path) -> None:
    with closing(Overtaken(tmp_path / "tasks.db")) as records:
        records.rivals = [{"result_ttl_hours": 1}, {"result_ttl_hours": 2}]
        live = LiveSettings(records, ENVIRONMENT)

        assert live.put({"result_ttl_hours": 3}, now=NOW, changed_by="me").version == 3
        records.rivals = [{"result_ttl_hours": 4}]
        with pytest.raises(SettingsChanged):
            live.put({"result_ttl_hours": 5}, now=NOW, changed_by="me", expected=3)
        assert live.stored(now=NOW) == Stored(
            values={"result_ttl_hours": 4}, version=4, changed_at=NOW, changed_by="rival"
        )


class Unreachable(SqliteRecordStore):
    away = False

    def find(self, kind: str, record_id: str) -> Record | None:
        if self.away:
            raise ServiceUnavailable
        return super().find(kind, record_id)


def test_what_was_read_holds_while_the_store_cannot_be_reached(tmp_path: Path) -> None:
    with closing(Unreachable(tmp_path / "tasks.db")) as records:
        live = LiveSettings(records, ENVIRONMENT)
        live.put({"result_ttl_hours": 3}, now=NOW, changed_by=None)
        records.away = True

        assert live.current(now=NOW + timedelta(hours=1)).result_ttl_hours == 3
        with pytest.raises(ServiceUnavailable):
            LiveSettings(records, ENVIRONMENT).current(now=NOW)


def test_what_another_version_has_stored_is_let_be(records: SqliteRecordStore) -> None:
    values = {"result_ttl_hours": 7, "new_one": 1}
    body = json.dumps({"values": values, "changed_at": NOW.isoformat(), "changed_by": None})
    records.create(Record(kind="settings", record_id="live", body=body, created_at=NOW))

    assert LiveSettings(records, ENVIRONMENT).current(now=NOW) == replace(ENVIRONMENT, result_ttl_hours=7)


def test_the_record_is_created_once(records: SqliteRecordStore) -> None:
    LiveSettings(records, ENVIRONMENT).put({}, now=NOW, changed_by=None)
    with pytest.raises(RecordChanged):
        records.create(Record(kind="settings", record_id="live", body="{}", created_at=NOW))
