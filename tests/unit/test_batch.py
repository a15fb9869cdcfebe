"""A batch as data: its ids, its slices, and its tasks made from a template."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.batch import (
    MOST_TASKS,
    Source,
    batch_id_of,
    filled,
    has_own_job,
    per_slice,
    place_of,
    slice_job,
    task_id,
    with_name,
)
from core.manifest import Manifest, write
from support.builders import a_task

SOURCE = Source("clip.final.mp4", "https://media.example/clip.final.mp4?s=1")


@given(st.integers(0, MOST_TASKS - 1), st.uuids())
def test_a_task_of_a_batch_is_known_by_its_id(index: int, unique: UUID) -> None:
    batch_id = batch_id_of(str(unique))
    assert place_of(task_id(batch_id, index)) == (batch_id, index)
    assert str(UUID(task_id(batch_id, index))) == task_id(batch_id, index)


def test_other_ids_are_no_places() -> None:
    batch_id = batch_id_of(str(uuid4()))
    assert [place_of(one) for one in (batch_id, "x", "", batch_id[:-4] + "2711", batch_id[:-4] + "ffff")] == [None] * 5


def test_the_gaps_are_filled_with_what_is_not_read_again() -> None:
    template = a_task(
        command="-i '{name}' -i logo.png -metadata title='{stem} {other}' 'small-{stem}.mkv'",
        input_files={"{name}": "{url}", "logo.png": "https://media.example/logo.png"},
        output_files=("small-{stem}.mkv",),
    )

    task = filled(template, SOURCE._replace(name="a {stem} {name}.mp4"))

    assert task.command == (
        "-i 'a {stem} {name}.mp4' -i logo.png -metadata 'title=a {stem} {name} {other}' 'small-a {stem} {name}.mkv'"
    )
    assert task.input_files == {"a {stem} {name}.mp4": SOURCE.url, "logo.png": "https://media.example/logo.png"}
    assert task.output_files == ("small-a {stem} {name}.mkv",)


def test_a_url_gets_into_no_command() -> None:
    template = a_task(command="-i '{name}' -metadata comment='{url}' out.mkv", input_files={"{name}": "{url}"})
    assert "media.example" not in filled(template, SOURCE).command


def test_a_name_without_an_extension_is_its_stem() -> None:
    assert with_name("{stem}.mkv of {name}", "clip") == "clip.mkv of clip"


@pytest.mark.parametrize(
    ("count", "size", "workers", "concurrency", "expected"),
    [
        (200, 300_000, 2, None, 25),  # several slices for each worker
        (24, 300_000, 2, None, 12),  # but none that is over before it has begun
        (1, 300_000, 2, None, 1),
        (10_000, None, 2, None, 60),  # minutes each
        (10_000, 4_000_000_000, 2, None, 1),
        (200, 300_000, 8, 2, 25),  # no more at once than are wanted
        (10_000, None, None, None, 60),
        (10_000, None, None, 10, 1000),  # where slices are what runs at once
        (3, None, None, 10, 60),
    ],
)
def test_a_slice_is_worth_its_start(
    count: int, size: int | None, workers: int | None, concurrency: int | None, expected: int
) -> None:
    sources = [SOURCE._replace(size_bytes=size)] * count
    assert per_slice(sources, workers=workers, concurrency=concurrency) == expected


def test_a_job_is_a_task_s_own_unless_it_is_a_slice_s() -> None:
    assert slice_job("job-1", 7) == "job-1:7"
    assert slice_job("job-1:7", 7) == "job-1:7"
    owned = [has_own_job(a_task(job_id=job_id)) for job_id in (None, "job-1", "job-1:7")]
    assert owned == [False, True, False]


def test_a_manifest_gives_back_what_was_written() -> None:
    sources = [SOURCE, Source("ü mit\u2028Zeilen.mov", "file:///srv/%C3%BC.mov", 5)]
    manifest = Manifest(write(sources))
    assert (list(manifest), manifest[-1], manifest[0:1], len(manifest)) == (sources, sources[1], sources[:1], 2)
