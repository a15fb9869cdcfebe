"""The commands, as typed: what they answer, in words and as JSON, and how they exit."""

import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from handlers import cli
from handlers.client import config, private
from handlers.client.faults import Fault, Interrupted, Refused, TaskFailed, Unreachable, Usage
from handlers.client.signals import _ENDING
from support import api_server, client, signed_in
from support.answering import answering
from support.api_server import Api
from support.signed_in import KEYS
from support.upload_front import before

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b"not really a video"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Call]:
    """Calls the client in a folder of its own; gives back its exit code, stdout and stderr."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("FFMPEG_TASK_", "XDG_"))]:
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in _ENDING}

    def called(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        return (code, *capsys.readouterr())

    try:
        yield called
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture
def api(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    data = tmp_path / "data"
    data.mkdir()
    with api_server.running(data) as api:
        monkeypatch.setenv("FFMPEG_TASK_SERVER", str(api.http.base_url))
        yield api


def as_json(answer: tuple[int, str, str]) -> tuple[int, Any]:
    """The exit code and the one document; nothing else was said."""
    code, out, err = answer
    assert err == ""
    return code, json.loads(out)


def test_status_shows_the_task(api: Api, call: Call) -> None:
    task_id = api.registered()

    code, out, _ = call("status", task_id)

    assert (code, out.splitlines()[:2]) == (0, [f"task       {task_id}", "status     pending"])
    shown = as_json(call("status", task_id, "--json"))
    assert shown == (0, api.http.get(f"/ffmpeg/status/{task_id}").json())


def test_list_follows_the_pages_to_the_limit(api: Api, call: Call) -> None:
    ids = [api.registered() for _ in range(3)]

    code, shown = as_json(call("list", "--limit", "2", "--json"))
    assert (code, [item["task_id"] for item in shown["items"]]) == (0, ids[:0:-1])
    code, out, _ = call("list", "--status", "pending")
    assert [line.split()[0] for line in out.splitlines()] == ["task", *reversed(ids)]
    assert call("list", "--status", "failed")[1] == "There are no tasks.\n"
    assert call("list", "--status", "nonsense")[0] == 4


def test_cancel_says_what_became_of_each(api: Api, call: Call) -> None:
    ids = [api.registered(), api.registered()]

    code, out, _ = call("cancel", *ids)

    assert (code, out) == (0, "".join(f"{one} canceled\n" for one in ids))
    code, shown = as_json(call("cancel", ids[0], "--json"))
    assert (code, shown["error"]["code"], shown["exit_code"]) == (4, "TASK_ENDED", 4)


def test_cancel_goes_on_after_one_that_is_refused(api: Api, call: Call) -> None:
    ended, live = api.registered(), api.registered()
    call("cancel", ended)

    code, shown = as_json(call("cancel", ended, live, "--json"))

    assert (code, shown["error"]["code"], shown["error"]["details"]) == (4, "TASK_ENDED", {"canceled": [live]})
    other = api.registered()
    code, out, err = call("cancel", ended, other)
    assert (code, out) == (4, f"{other} canceled\n")
    assert err.startswith(f"ffmpeg-task: {ended}: ")


def test_result_is_stored_under_its_own_name_or_another(api: Api, call: Call) -> None:
    task_id = api.registered()
    api.completed(task_id, CONTENT)

    code, shown = as_json(call("result", task_id, "--json"))
    assert code == 0
    assert shown["task"]["task_id"] == task_id
    (file,) = shown["files"]
    assert (file["path"], file["filename"], file["size_bytes"]) == ("output.mp4", "output.mp4", len(CONTENT))
    assert Path("output.mp4").read_bytes() == CONTENT
    assert call("result", task_id)[0] == 2  # it is there now
    assert call("result", task_id, "--output", "b.mp4", "-q") == (0, "b.mp4: 18 bytes\n", "")
    assert call("result", task_id, "--link")[1].startswith("http://127.0.0.1")


def test_result_goes_into_this_folder_whatever_the_service_calls_it(call: Call, tmp_path: Path) -> None:
    made = {"filename": "o.mp4", "url": "http://127.0.0.1:1/o.mp4", "size_bytes": 1, "sha256": ""}
    shown = {"task_id": "t", "status": "completed", "outputs": [made], "output_count": 1}
    Path("o.mp4").touch()
    with answering((200, {}, json.dumps({**shown, "output_files": [f"{tmp_path}/elsewhere/o.mp4"]}))) as (url, _):
        code, _, err = call("result", "t", "-q", "--server", url)

    assert (code, err) == (2, "ffmpeg-task: o.mp4 is there already; --force overwrites it.\n")


def test_name_that_is_no_text_is_shown_as_far_as_it_is(api: Api, call: Call) -> None:
    task_id, name = api.registered(), os.fsdecode(b"o\xff.mp4")
    api.completed(task_id, CONTENT)

    assert call("result", task_id, "--output", name, "-q") == (0, "o\\udcff.mp4: 18 bytes\n", "")
    code, shown = as_json(call("result", task_id, "--output", name, "-f", "--json"))
    assert (code, shown["files"][0]["path"]) == (0, name)
    code, shown = as_json(
        call("submit", "-i", "https://a.example/a.mov", "--output", "o.mp4", "--metadata", f"a={name}", "--json")
    )
    assert (code, "no UTF-8" in shown["error"]["message"]) == (2, True)


def test_result_before_the_end_is_not_ready(api: Api, call: Call) -> None:
    code, shown = as_json(call("result", api.registered(), "--json"))

    assert (code, shown["error"]["code"]) == (2, "TASK_NOT_READY")


def test_watch_of_a_completed_task_is_0_and_of_a_canceled_one_1(api: Api, call: Call) -> None:
    done, gone = api.registered(), api.registered()
    api.completed(done, CONTENT)
    call("cancel", gone)

    code, shown = as_json(call("watch", done, "--json"))
    assert (code, shown["status"]) == (0, "completed")
    code, shown = as_json(call("watch", gone, "--json"))
    assert (code, shown["status"]) == (1, "canceled")
    code, _, err = call("watch", gone)
    assert (code, err.splitlines()[-2]) == (1, "ffmpeg-task: The task was canceled.")


def test_log_that_there_is_not_is_an_error_of_the_service(api: Api, call: Call) -> None:
    code, _, err = call("log", api.registered())

    assert code == 4
    assert err.startswith("ffmpeg-task: ")


def test_submit_registers_and_executes_and_prints_ids(api: Api, call: Call) -> None:
    code, out, _ = call("submit", "https://a.example/a.mov", "https://a.example/b.mov", "--output", "{stem}.mp4", "-q")

    ids = out.split()
    assert (code, len(ids)) == (0, 2)
    tasks = [api.store.get(one) for one in ids]
    assert [(task.status, task.output_files) for task in tasks] == [("queued", ("a.mp4",)), ("queued", ("b.mp4",))]
    code, shown = as_json(call("submit", "-i", "https://a.example/a.mov", "--output", "o.mp4", "--crf", "20", "--json"))
    assert (code, len(shown["tasks"])) == (0, 1)
    assert "-crf 20" in shown["tasks"][0]["command"]


def test_submit_tells_what_it_has_handed_over_when_it_ends_before_its_time(api: Api, call: Call) -> None:
    sources = "https://a.example/a.mov", "http://10.0.0.1/b.mov", "https://a.example/c.mov"

    code, shown = as_json(call("submit", *sources, "--output", "{stem}.mp4", "--json"))

    (task,) = api.store.page(limit=9, below=None, status=None).tasks
    assert (code, shown["error"]["code"]) == (4, "URL_NOT_ALLOWED")
    assert shown["error"]["details"]["submitted"] == [task.task_id]


def test_task_whose_registration_was_not_answered_is_canceled(api: Api, call: Call, tmp_path: Path) -> None:
    with before(str(api.http.base_url), tmp_path / "front") as front:
        front.faults.lost_answer = "/ffmpeg/register"

        code, _, err = call("run", "-i", "https://a.example/a.mov", "--output", "o.mp4", "--server", front.url)

    (task,) = api.store.page(limit=9, below=None, status=None).tasks
    assert (code, task.status) == (3, "canceled")
    assert f"Canceled task {task.task_id}." in err


def test_validate_says_what_is_wrong(api: Api, call: Call) -> None:
    assert call("validate", "-i", "a.mov", "--output", "o.mp4")[0] == 0
    code, out, _ = call("validate", "-i", "a.mov", "--command", "-i a.mov -nope o.mp4", "--output", "o.mp4")
    assert (code, out.splitlines()[0]) == (4, "Not allowed:")
    code, shown = as_json(
        call("validate", "-i", "a.mov", "--command", "-i a.mov -nope o.mp4", "--output", "o.mp4", "--json")
    )
    assert (code, shown["valid"]) == (4, False)
    assert not api.store.page(limit=1, below=None, status=None).tasks


def test_presets_and_health_are_told(api: Api, call: Call) -> None:
    told = call("presets")[1]
    assert "web-mp4-720p  (mp4" in told
    assert "64000 to 100000000" in told
    code, shown = as_json(call("health", "--json"))
    assert (code, shown["status"]) == (0, "healthy")


def test_refusal_of_a_command_lists_all_that_is_wrong(api: Api, call: Call) -> None:
    code, out, err = call(
        "run", "-i", "https://a.example/a.mov", "--command", "-i a.mov -nope -neither o.mp4", "--output", "o.mp4", "-q"
    )

    assert (code, out) == (4, "")
    assert "-nope" in err
    assert "-neither" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: ffmpeg-task"),
        (("nonsense",), "No such command"),
        (("run", "--nonsense"), "No such option"),
        (("run", "-i", "none.mov", "--output", "o.mp4"), "none.mov is not there."),
        (
            ("run", "-i", "https://a.example/a.mov", "--output", "none/o.mp4"),
            "The folder none is not there: make it first.",
        ),
        (("run", "-i", "https://a.example/a.mov", "--output", "there.mp4"), "there.mp4 is there already"),
        (("run", "-i", "there.mp4", "--output", "./there.mp4", "--force"), "there.mp4 is an input"),
        (("run", "-i", "https://a.example/a.mov", "--output", "."), "is a folder"),
        (("list", "--key", "\u00e9"), "The key has characters that no key has"),
        (("list", "--server", "http://a b"), "http://HOST:PORT"),
        (("list", "--server", "http://..:80"), "http://HOST:PORT"),
        (("run", "-i", "https://a.example/a.mov", "--output", "o.mp4", "-o", "x"), "give it as NAME=VALUE"),
        (("run", "-i", "https://a.example/a", "--output", "o.mp4", "--server", "nonsense"), "http://HOST:PORT"),
        (("batch", "--output", "{stem}.mp4"), "There is nothing to do"),
        (("batch", "*.nothing", "--output", "{stem}.mp4"), "No file matches '*.nothing'"),
        (("batch", "there.mp4", "there.mp4", "--output", "o.mp4"), "Two results would be o.mp4"),
        (("batch", "there.mp4", "--output", "o.mp4", "--command", "-i a o.mp4"), "{input} and {output}"),
        (("batch", "--list", "none.txt", "--output", "o.mp4"), "--list none.txt cannot be read"),
        (("submit", "--output", "o.mp4"), "Give the inputs of one task with -i, or sources"),
    ],
)
def test_what_cannot_be_meant_is_2_and_nothing_is_done(
    api: Api, call: Call, arguments: tuple[str, ...], words: str
) -> None:
    Path("there.mp4").write_bytes(CONTENT)

    code, out, err = call(*arguments)

    assert code == 2
    assert words in out + err
    assert api.counted == []
    assert Path("there.mp4").read_bytes() == CONTENT
    if arguments:
        code, shown = as_json(call(*arguments, "--json"))
        assert (code, shown["error"]["code"] in ("USAGE", "FILE_EXISTS")) == (2, True)


def test_trouble_of_this_machine_is_5(api: Api, call: Call) -> None:
    code, shown = as_json(call("run", "-i", "https://a.example/a.mov", "--output", f"{300 * 'x'}.mp4", "--json"))

    assert (code, shown["error"]["code"]) == (5, "LOCAL_TROUBLE")
    assert shown["error"]["message"].endswith("File name too long.")


def test_answer_that_lacks_something_is_of_another_version(call: Call) -> None:
    with answering((200, {}, json.dumps({"task_id": "t"}))) as (url, _):
        code, _, err = call("status", "t", "--server", url)

    assert (code, "has no 'status'" in err or "has no 'progress'" in err) == (3, True), err


def test_error_that_nobody_reads_ends_it_without_a_word(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread:
        done = subprocess.run(
            [*client.COMMAND, "status", "", "--json"],
            env=client.environment(tmp_path),
            stdout=unread,
            stderr=subprocess.PIPE,
            timeout=60,
        )

    assert (done.returncode, done.stderr) == (2, b"")


def test_service_of_its_own_that_does_not_start_says_why() -> None:
    with pytest.raises(Fault, match="MAX_CONCURRENT_TASKS"), private.running({"MAX_CONCURRENT_TASKS": "none"}):
        pass


def test_absent_service_is_3(call: Call) -> None:
    code, shown = as_json(call("list", "--server", "http://127.0.0.1:1", "--json"))

    assert (code, shown["exit_code"], shown["error"]["code"]) == (3, 3, "UNREACHABLE")


def test_server_and_key_are_taken_from_flags_then_environment_then_file(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "signed"
    data.mkdir()
    with signed_in.running(data) as scene:
        url = str(scene.nobody.base_url)
        task_id = scene.registered(scene.alice)
        file = config.place(os.environ)
        file.parent.mkdir(parents=True)
        file.write_text(f'server = "{url}"\nkey = "{KEYS["alice"]}"\n\n[list]\nlimit = 1\n')

        assert task_id in call("list")[1]
        monkeypatch.setenv("FFMPEG_TASK_KEY", KEYS["bob"])
        assert call("list")[1] == "There are no tasks.\n"
        assert task_id in call("list", "--key", KEYS["root"])[1]
        monkeypatch.setenv("FFMPEG_TASK_SERVER", "http://127.0.0.1:1")
        assert call("list")[0] == 3
        assert call("list", "--server", url)[0] == 0
        scene.registered(scene.bob)
        scene.registered(scene.bob)
        assert len(call("list", "--server", url)[1].splitlines()) == 2  # its head, and limit = 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = ", "is no TOML"),
        ("colour = 1", "'colour' is no setting and no command"),
        ("[run]\nnonsense = 1", "[run] takes no 'nonsense'"),
        ("[list]\njson = true", "[list] takes no 'json'"),
        ('key = "\\u00e9"', "The key has characters that no key has"),
        ("[list]\nlimit = 0", "0 is not in the range"),
    ],
)
def test_configuration_that_is_wrong_is_said(call: Call, text: str, words: str) -> None:
    file = config.place(os.environ)
    file.parent.mkdir(parents=True)
    file.write_text(text)

    code, _, err = call("list")

    assert (code, words in err) == (2, True), err


def test_configuration_has_the_flags_as_they_are_typed(api: Api, call: Call) -> None:
    file = config.place(os.environ)
    file.parent.mkdir(parents=True)
    file.write_text(
        'key = " k "\n[list]\nstatus = "failed"\n'
        '[submit]\noutput = ["{stem}.mp4"]\nno-audio = true\nvideo_preset = "fast"'
    )
    task_id = api.registered()

    assert task_id not in call("list")[1]
    code, shown = as_json(call("submit", "https://a.example/a.mov", "--json"))
    assert (code, shown["tasks"][0]["output_files"]) == (0, ["a.mp4"])
    assert "-preset fast" in shown["tasks"][0]["command"]
    assert "-an" in shown["tasks"][0]["command"]


def test_configuration_that_is_named_must_be_there(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFMPEG_TASK_CONFIG", "none.toml")

    assert call("list") == (2, "", "ffmpeg-task: none.toml is not there; FFMPEG_TASK_CONFIG names it.\n")


def test_place_of_the_configuration_follows_the_environment() -> None:
    assert config.place({"HOME": "/h"}) == Path("/h/.config/ffmpeg-task/config.toml")
    assert config.place({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/ffmpeg-task/config.toml")
    assert config.place({"HOME": "/h", "FFMPEG_TASK_CONFIG": "/y.toml"}) == Path("/y.toml")
    assert config.place({"FFMPEG_TASK_CONFIG": "~nobody-here/y.toml"}) == Path("~nobody-here/y.toml")


def test_server_with_a_user_name_is_refused_without_showing_it() -> None:
    with pytest.raises(Usage) as refused:
        config.base_url("https://me:secret@a.example")

    assert "secret" not in refused.value.message


def test_hangup_is_politely_answered_though_it_comes_twice(call: Call) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which these tests may have been told to ignore, as by nohup
    call("completion", "bash")  # installs the handlers, which the fixture takes away

    with pytest.raises(Interrupted) as first:
        signal.raise_signal(signal.SIGHUP)

    assert (first.value.number, signal.getsignal(signal.SIGHUP)) == (signal.SIGHUP, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.default_int_handler)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_for_this_command(call: Call, shell: str) -> None:
    code, out, _ = call("completion", shell)

    assert code == 0
    assert "_FFMPEG_TASK_COMPLETE" in out


def test_completion_is_of_files_where_files_are_named() -> None:
    files = {
        f"{command.name} {param.name}"
        for command in cli.COMMANDS
        for param in command.params
        if param.name in ("inputs", "sources", "outputs", "output", "pattern", "list_file")
        and not isinstance(param.type, click.Path)
    }

    assert files == set()


def test_every_command_answers_with_json() -> None:
    lacking = {
        command.name for command in cli.COMMANDS if not any("--json" in option.opts for option in command.params)
    }

    assert lacking == {"serve", "completion"}


def test_readme_has_every_command_and_exit_code() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Command line\n")[1].split("\n## ")[0]
    tables = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    named = {word for cell in tables for word in re.findall(r"`(\w+)`", cell)}
    told = set(re.findall(r"`(\w+)`", section))

    assert {command.name for command in cli.COMMANDS} <= named | told
    codes = {int(code) for cell in tables for code in re.findall(r"\b\d+\b", cell)}
    assert codes == {0, *(fault.exit_code for fault in (TaskFailed, Usage, Unreachable, Refused, Fault)), 130, 143, 129}


def test_package_has_the_dependencies_of_the_local_service() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed: set[str] = set()
    for file in ("requirements/local.in", "requirements/cli.in", "src/requirements.in", "container/requirements.in"):
        lines = (ROOT / file).read_text().splitlines()
        listed |= {line for line in lines if line and not line.startswith(("#", "-r"))}

    assert set(project["dependencies"]) == listed - {"aws-lambda-powertools"}
    assert project["scripts"] == {"ffmpeg-task": "handlers.cli:main"}
