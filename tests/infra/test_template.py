"""The template describes what the code uses: its handlers, settings, table, bucket and events."""

import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from core import task, uploads
from core.aws import batch_event, task_store, upload_store
from core.settings import Settings
from support import moto_server
from support.lambda_module import imported
from support.lambda_process import ROOT
from support.template import FILE, Stack

sweep_handler = imported("handlers.sweep")

FUNCTIONS = ("ApiFunction", "SweepFunction", "EventsFunction")
JOBS = ("GpuJob", "CpuJob")
BARE = Stack({"WorkerImage": "worker:1"})
# With all that can be asked for.
FULL = Stack(
    {
        "WorkerImage": "worker:1",
        "Profile": "prod",
        "OutputBucketName": "media-out",
        "InputBuckets": "media,archive",
        "Destinations": "partner-bucket,partner-bucket/incoming",
        "DestinationBuckets": "partner-bucket",
        "InputDeletion": "allowed",
        "WebhookSecretArn": "arn:aws:ssm:eu-central-1:123456789012:parameter/webhook",
        "EventBus": "default",
        "ApiKeysArn": "arn:aws:ssm:eu-central-1:123456789012:parameter/keys",
        "AlarmEmail": "ops@example.com",
        "PresetsBucket": "media-presets",
        "PresetsPrefix": "team/presets",
        "VpcId": "vpc-0a",
        "SubnetIds": "subnet-0a,subnet-0b",
        "EventsConcurrency": "10",
        "ResultTtlDays": "30",
        "TaskTimeoutHours": "8",
    }
)
STACKS = pytest.mark.parametrize("stack", [BARE, FULL], ids=["bare", "full"])

# Settings that no function has, each with its reason.
NOT_OF_FUNCTIONS = {
    "ffmpeg_path": "the worker's, whose image has the right one",
    "scratch_dir": "the worker's",
    "sandbox": "the worker's",
    "max_input_bytes": "the default is good",
    "max_output_bytes": "the default is good",
    "max_task_bytes": "the worker's, by its disk",
    "max_memory_bytes": "the worker's, which asks the machine",
    "stall_seconds": "the default is good",
    "retry_delay_seconds": "the default is good",
    "default_preset": "set at run time, by PUT /ffmpeg/settings",
    "default_quality": "set at run time, by PUT /ffmpeg/settings",
    "allow_private_networks": "there are none to be opened",
    "host": "one machine's",
    "port": "one machine's",
    "public_url": "one machine's",
    "data_dir": "one machine's",
    "max_concurrent_tasks": "one machine's",
    "input_roots": "one machine's",
    "allow_unauthenticated": "one machine's",
    "upload_origins": "one machine's; the bucket has rules of its own",
    "upload_ttl_hours": "the default is good",
    "max_open_uploads_per_key": "the default is good",
}
OF_THE_API = {"api_keys", "rate_limit_per_minute", "max_live_tasks_per_key", "presets_dir"}  # nobody calls the others
# Settings that only functions have.
NOT_OF_JOBS = {
    "link_ttl_seconds": "the worker makes no links",
    "webhook_secret": "the worker sends no notices",
    "event_bus": "the worker sends no notices",
    "cpu_job_queue": "the worker submits nothing",
    "cpu_job_definition": "the worker submits nothing",
}


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def names() -> set[str]:
    return {field.name for field in fields(Settings)}


def test_every_handler_is_in_the_code_that_is_packed(function: str) -> None:
    shared = BARE.template["Globals"]["Function"]
    module, _, name = BARE.properties(function)["Handler"].rpartition(".")
    source = (FILE.parent / shared["CodeUri"]).resolve()
    found = importlib.util.find_spec(module)
    assert found
    assert found.origin
    assert Path(found.origin).is_relative_to(source)
    assert callable(getattr(imported(module), name))
    assert (source / "requirements.txt").exists()


# Settings


@STACKS
def test_the_functions_have_the_settings_that_aws_needs(stack: Stack, function: str) -> None:
    others = set() if function == "ApiFunction" else OF_THE_API
    assert {name.lower() for name in stack.variables(function)} == names() - set(NOT_OF_FUNCTIONS) - others
    assert set(NOT_OF_FUNCTIONS) <= names()


@STACKS
@pytest.mark.parametrize("job", JOBS)
def test_the_jobs_have_the_settings_that_a_worker_needs(stack: Stack, job: str) -> None:
    own = {"scratch_dir", "sandbox", "max_task_bytes"}
    without_region = {name.lower() for name in stack.job_variables(job)} - {"aws_default_region"}
    assert without_region == (names() - set(NOT_OF_FUNCTIONS) - set(NOT_OF_JOBS) - OF_THE_API) | own


@STACKS
def test_the_settings_can_be_read(stack: Stack, function: str) -> None:
    settings = _settings(stack.variables(function))
    assert (settings.backend, settings.output_bucket) == ("aws", "<OutputBucket>" if stack is BARE else "media-out")
    assert settings.job_queues == ("transcoding-gpu", "transcoding-cpu")
    assert settings.input_buckets == (() if stack is BARE else ("media", "archive"))
    assert list(map(str, settings.destinations)) == (
        [] if stack is BARE else ["partner-bucket", "partner-bucket/incoming"]
    )
    of_the_api = function == "ApiFunction" and stack is FULL
    assert settings.presets_uri == ("s3://media-presets/team/presets" if of_the_api else None)
    assert settings.result_ttl_hours == (24 if stack is BARE else 720)


def _settings(variables: Mapping[str, str]) -> Settings:
    """As the functions read them; what API_KEYS leads to is read before."""
    return Settings.from_env({**variables, "API_KEYS": ""})


@STACKS
@pytest.mark.parametrize("job", JOBS)
def test_worker_and_api_agree_on_what_both_have(stack: Stack, job: str) -> None:
    worker, api = stack.job_variables(job), stack.variables("ApiFunction")
    both = worker.keys() & api.keys()
    assert {name: worker[name] for name in both} == {name: api[name] for name in both}
    assert Settings.from_env(worker).task_timeout_seconds == _settings(api).task_timeout_seconds


def test_the_parameters_fit_the_settings() -> None:
    parameters = BARE.template["Parameters"]
    for level in parameters["LogLevel"]["AllowedValues"]:
        Settings.from_env({"LOG_LEVEL": level})
    for mode in parameters["Sandbox"]["AllowedValues"]:
        Settings.from_env({"SANDBOX": mode})
    for bound in ("MinValue", "MaxValue", "Default"):
        Settings.from_env({"LINK_TTL_SECONDS": str(parameters["LinkTtlSeconds"][bound])})


def test_every_parameter_says_what_it_is_and_stands_in_one_group() -> None:
    parameters = BARE.template["Parameters"]
    groups = BARE.template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]

    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)
    assert [name for name, parameter in parameters.items() if not parameter.get("Description")] == []


@pytest.mark.parametrize("text", ["", "media-out", "media-out,partner.bucket-1/incoming/a_b.c,x.y/ü"])
def test_destinations_that_can_be_deployed_can_be_read(text: str) -> None:
    assert re.fullmatch(BARE.template["Parameters"]["Destinations"]["AllowedPattern"], text)
    assert ",".join(map(str, Settings.from_env({"DESTINATIONS": text}).destinations)) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "*",
            "media-*",
            "media-out/*",
            "media-out/a?",
            "media-out/${aws:username}",
            "media-out/a b",
            "s3://media-out",
        ),
        *("media-out/", "media-out//a", "media-out,", ",media-out", "Media", "arn:aws:s3:::media-out"),
    ],
)
def test_no_destination_stands_for_more_than_it_says(text: str) -> None:
    """Each is put into the rights that are granted, where stars and the like mean something."""
    parameters = BARE.template["Parameters"]
    assert not re.fullmatch(parameters["Destinations"]["AllowedPattern"], text)
    assert not re.fullmatch(parameters["DestinationBuckets"]["AllowedPattern"], text)


def test_a_job_may_take_as_long_as_a_worker_of_a_batch_may_for_each_task() -> None:
    for limit in BARE.template["Mappings"]["TimeLimit"].values():
        assert Settings.from_env({"TASK_TIMEOUT_SECONDS": limit["Task"]}).job_seconds == limit["Job"]


def test_no_environment_has_a_secret(function: str) -> None:
    generated = Stack({"WebhookSecretArn": "generate"}).variables(function)["WEBHOOK_SECRET"]
    assert generated == "whsec_<WebhookSecret>"  # a Ref, which for a secret is its ARN
    assert BARE.variables(function)["WEBHOOK_SECRET"] == ""
    assert FULL.variables(function)["WEBHOOK_SECRET"] == FULL.parameters["WebhookSecretArn"]
    assert not any(parameter.get("NoEcho") for parameter in BARE.template["Parameters"].values())


def test_a_generated_secret_is_one_that_notices_can_be_signed_with() -> None:
    made = BARE.properties("WebhookSecret")["GenerateSecretString"]
    assert made == {"PasswordLength": 44, "ExcludePunctuation": True}
    Settings.from_env({"WEBHOOK_SECRET": "whsec_" + "aZ09" * 11})


# What is kept, and for how long


def test_the_table_is_the_one_that_the_store_is_tested_on() -> None:
    table = BARE.properties("TaskTable")
    assert {name: table[name] for name in moto_server.TABLE_SCHEMA} == moto_server.TABLE_SCHEMA
    indexes = [index["IndexName"] for index in table["GlobalSecondaryIndexes"]]
    used = (task_store.INDEX, task_store.LIVE_INDEX, task_store.LIST_INDEX, task_store.STATE_INDEX)
    assert indexes == [*used, task_store.BATCH_INDEX]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": task_store.EXPIRES, "Enabled": True}
    assert [stack.properties("TaskTable")["DeletionProtectionEnabled"] for stack in (BARE, FULL)] == [False, True]


def test_the_bucket_is_private_and_takes_tls_only() -> None:
    bucket = BARE.properties("OutputBucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert bucket["BucketEncryption"]
    (statement,) = BARE.properties("OutputBucketPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == ["<OutputBucket>", "<OutputBucket>/*"]


def test_the_bucket_forgets_half_uploads() -> None:
    rules = BARE.properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
    aborting = {
        (rule["Prefix"], rule["Status"]): rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in rules
        if "AbortIncompleteMultipartUpload" in rule
    }
    assert aborting == {("outputs/", "Enabled"): 1, ("uploads/", "Enabled"): 7}


def test_the_bucket_keeps_uploads_longer_than_the_service_does() -> None:
    rules = BARE.properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
    (kept,) = [rule for rule in rules if rule["Prefix"] == f"{upload_store.PREFIX}/"]
    assert kept["ExpirationInDays"] > uploads.KEPT_AT_MOST.days
    assert kept["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] > uploads.KEPT_AT_MOST.days


@pytest.mark.parametrize("days", BARE.template["Parameters"]["ResultTtlDays"]["AllowedValues"])
def test_the_bucket_keeps_outputs_longer_than_the_service_does(days: str) -> None:
    stack = Stack({"ResultTtlDays": days})
    settings = Settings.from_env(stack.variables("SweepFunction"))
    rules = stack.properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
    ours = [rule for rule in rules if rule["Prefix"] == f"{settings.output_prefix}/"]
    (outputs,) = [rule for rule in ours if "ExpirationInDays" in rule]
    assert settings.result_ttl_hours == int(days) * 24
    if settings.result_ttl_seconds is None:
        assert outputs["Status"] == "Disabled"
        return
    # An object is as old as the upload, and is kept from the task's end on; a day for S3, which counts from midnight.
    longest = BARE.template["Mappings"]["TimeLimit"]["24"]["Job"]
    assert outputs["Status"] == "Enabled"
    assert outputs["ExpirationInDays"] * 24 * 3600 > settings.result_ttl_seconds + longest + 24 * 3600


@pytest.mark.parametrize("days", BARE.template["Parameters"]["ResultTtlDays"]["AllowedValues"])
def test_the_bucket_keeps_the_lists_of_batches_for_as_long_as_the_service_may_need_them(days: str) -> None:
    """A batch is kept for as long as its tasks are, and they as long as their outputs, and a month more."""
    rules = Stack({"ResultTtlDays": days}).properties("OutputBucket")["LifecycleConfiguration"]["Rules"]
    (lists,) = [rule for rule in rules if rule.get("Prefix") == "batches/"]
    if days == "0":
        assert lists["Status"] == "Disabled"
    else:
        assert lists["Status"] == "Enabled"
        assert lists["ExpirationInDays"] > 30 + int(days) + task.KEEP_RECORD.days


def test_a_record_outlives_the_outputs_that_it_tells_of() -> None:
    assert task.KEEP_RECORD.days >= 1


def test_what_holds_data_outlives_the_stack() -> None:
    for name in ("TaskTable", "OutputBucket"):
        resource = BARE.template["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_browsers_may_upload_from_the_origins_that_are_named() -> None:
    asked = Stack({"UploadOrigins": "https://a.example,https://b.example"}).properties("OutputBucket")
    (rule,) = asked["CorsConfiguration"]["CorsRules"]
    assert (rule["AllowedMethods"], rule["AllowedOrigins"]) == (["PUT"], ["https://a.example", "https://b.example"])
    assert "CorsConfiguration" not in BARE.properties("OutputBucket")


def test_a_bucket_that_exists_is_neither_made_nor_changed() -> None:
    assert [FULL.exists(name) for name in ("OutputBucket", "OutputBucketPolicy")] == [False, False]


def test_logs_are_not_kept_for_ever() -> None:
    groups = [name for name, it in BARE.template["Resources"].items() if it["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 5
    assert {BARE.properties(name)["RetentionInDays"] for name in groups} == {30}


# The API


def test_the_api_is_closed_to_strangers() -> None:
    assert BARE.properties("HttpApi")["Auth"] == {"EnableIamAuthorizer": True, "DefaultAuthorizer": "AWS_IAM"}


def test_the_api_gives_up_before_the_gateway_does() -> None:
    assert BARE.properties("ApiFunction")["Timeout"] < 29


def test_the_api_is_throttled_and_its_log_has_no_query_strings() -> None:
    api = BARE.properties("HttpApi")
    assert api["DefaultRouteSettings"] == {"ThrottlingRateLimit": 50, "ThrottlingBurstLimit": 100}
    logged = json.loads(api["AccessLogSettings"]["Format"])
    assert {"$context.path", "$context.status", "$context.requestId"} <= set(logged.values())
    assert not re.search("query|header|authorizer", api["AccessLogSettings"]["Format"], re.IGNORECASE)


# The sweep and the events


def test_the_sweep_comes_every_minute_and_has_time_for_a_page() -> None:
    function = BARE.properties("SweepFunction")
    assert function["Events"]["EveryMinute"]["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert function["Timeout"] > sweep_handler.LEFT_FOR_ENDED > sweep_handler.LEFT_AT_THE_END
    assert function["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
    assert "ReservedConcurrentExecutions" not in function


def test_events_leave_the_api_its_share_of_functions_where_that_is_asked_for() -> None:
    assert FULL.properties("EventsFunction")["ReservedConcurrentExecutions"] == "10"
    assert "ReservedConcurrentExecutions" not in BARE.properties("EventsFunction")


def test_what_the_events_function_cannot_handle_is_kept_and_rings() -> None:
    function, queue = BARE.properties("EventsFunction"), "<UnhandledEvents>"
    assert function["EventInvokeConfig"]["MaximumRetryAttempts"] == 2
    assert function["EventInvokeConfig"]["DestinationConfig"] == {"OnFailure": {"Type": "SQS", "Destination": queue}}
    for rule in function["Events"].values():
        assert rule["Properties"]["DeadLetterConfig"] == {"Arn": queue}
    assert BARE.properties("UnhandledEvents")["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert BARE.properties("UnhandledEventsFromRules")["PolicyDocument"]["Statement"][0]["Resource"] == queue


def matches(pattern: Any, event: Any) -> bool:
    """EventBridge's rule for patterns of this kind: each field named is one of the values listed."""
    if isinstance(pattern, dict):
        return all(field in event and matches(part, event[field]) for field, part in pattern.items())
    return event in pattern


def sample(name: str, **detail: str) -> Any:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    event["detail"] |= {"jobQueue": event["detail"]["jobQueue"].replace("/transcode", "/transcoding-gpu"), **detail}
    return event


@pytest.fixture(scope="module")
def patterns() -> list[Any]:
    return [rule["Properties"]["Pattern"] for rule in BARE.properties("EventsFunction")["Events"].values()]


@pytest.mark.parametrize("queue", ["transcoding-gpu", "transcoding-cpu"])
@pytest.mark.parametrize("name", ["job_failed", "queue_blocked", "slice_failed"])
def test_the_rules_pass_the_events_of_our_queues_and_no_others(patterns: list[Any], name: str, queue: str) -> None:
    event = sample(name, jobQueue=f"arn:aws:batch:eu-central-1:123456789012:job-queue/{queue}")
    settings = Settings.from_env(BARE.variables("EventsFunction"))
    assert [matches(pattern, event) for pattern in patterns].count(True) == 1
    assert batch_event.task_of(event, queues=settings.job_queues) or batch_event.slice_of(
        event, queues=settings.job_queues
    )
    for other in (
        {**event, "source": "aws.ecs"},
        {**event, "detail-type": "Batch Service Job Queue Blocked"},
        {**event, "detail": {**event["detail"], "jobQueue": event["detail"]["jobQueue"] + "2"}},
    ):
        assert not any(matches(pattern, other) for pattern in patterns)


@pytest.mark.parametrize(
    ("status", "passed"), [("SUCCEEDED", True), ("FAILED", True), ("RUNNABLE", False), ("RUNNING", False)]
)
def test_the_rules_pass_the_ends_of_jobs(patterns: list[Any], status: str, passed: bool) -> None:
    assert any(matches(pattern, sample("job_failed", status=status)) for pattern in patterns) is passed


@pytest.mark.parametrize("name", ["register", "execute", "status", "cancel", "notify", "health"])
def test_every_event_is_of_the_format_that_the_gateway_sends(name: str) -> None:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    http = event["requestContext"]["http"]
    assert event["version"] == "2.0"
    assert event["rawPath"] == http["path"]
    assert all(header == header.lower() for header in event["headers"])
    assert int(event["headers"].get("content-length", 0)) == len(event.get("body", "").encode())
    assert event["isBase64Encoded"] is False


def test_every_event_is_given_to_its_handler_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "journey").glob("test_*.py"))
    missing = [path.stem for path in (ROOT / "events").iterdir() if f'"{path.stem}"' not in tests]
    assert missing == []


# Alarms and the dashboard


def alarms() -> list[str]:
    return [name for name, it in BARE.template["Resources"].items() if it["Type"] == "AWS::CloudWatch::Alarm"]


def test_every_alarm_tells_somebody_where_somebody_was_named() -> None:
    assert len(alarms()) == 7
    for name in alarms():
        assert FULL.properties(name)["AlarmActions"] == ["<AlarmTopic>"]
        assert "AlarmActions" not in BARE.properties(name)
    assert FULL.properties("AlarmTopic")["Subscription"] == [{"Protocol": "email", "Endpoint": "ops@example.com"}]


def test_the_metrics_of_ours_that_are_looked_at_are_those_that_the_code_counts() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    dashboard = json.loads(BARE.properties("Dashboard")["DashboardBody"])
    shown = set()
    for widget in dashboard["widgets"]:
        namespace = name = ""
        for metric in widget["properties"]["metrics"]:
            if isinstance(metric[0], str) and metric[0] != "...":
                namespace = metric[0] if metric[0] != "." else namespace
                name = metric[1] if metric[1] != "." else name
                shown |= {name} if namespace == "Transcoding" else set()
    rung = {BARE.properties(name)["MetricName"] for name in alarms() if is_ours(name)}
    assert rung == {"OldestWaitingSeconds", "TasksFailed"}
    assert {"TasksExecuted", "SecondsToDone", "WaitingJobs", "GpuWorkerSeconds", "CpuWorkerSeconds"} < shown
    counted = {name for name in shown | rung if f'"{name}"' in code}
    assert (shown | rung) - counted == {"GpuWorkerSeconds", "CpuWorkerSeconds"}  # made from the kind of worker
    assert 'capitalize()}WorkerSeconds"' in code


def is_ours(alarm: str) -> bool:
    return bool(BARE.properties(alarm)["Namespace"] == "Transcoding")


def test_the_alarms_ask_for_the_services_that_count() -> None:
    services = {BARE.properties(name)["Dimensions"][0]["Value"] for name in alarms() if is_ours(name)}
    assert services == {sweep_handler.SERVICE, imported("handlers.batch_events").SERVICE}
    assert imported("handlers.api").NAMESPACE == sweep_handler.NAMESPACE == "Transcoding"


def test_every_reference_leads_somewhere() -> None:
    template = BARE.template
    known = {*template["Parameters"], *template["Resources"], *(f"AWS::{name}" for name in ("AccountId", "NoValue"))}
    text = json.dumps([template["Resources"], template["Outputs"], template["Conditions"], template["Globals"]])
    found = set(re.findall(r'\{"Ref": "([\w:]+)"', text)) | {
        name.partition(".")[0] for name in re.findall(r'\{"GetAtt": "([\w.]+)"', text)
    }
    assert found
    assert {name for name in found if not name.startswith("AWS::")} <= known


# The profiles


@pytest.fixture(params=["dev", "prod"])
def profile(request: pytest.FixtureRequest) -> Any:
    return tomllib.loads((ROOT / "samconfig.toml").read_text())[request.param]


def test_every_profile_can_be_built_and_deployed(profile: Any) -> None:
    assert (ROOT / profile["build"]["parameters"]["template_file"]).samefile(FILE)
    deploy = profile["deploy"]["parameters"]
    given = dict(pair.split("=") for pair in deploy["parameter_overrides"].split())
    known = BARE.template["Parameters"]
    required = {name for name, parameter in known.items() if "Default" not in parameter}
    assert required <= given.keys() <= known.keys()
    for name, value in given.items():
        allowed = known[name].get("AllowedValues")
        assert allowed is None or value in map(str, allowed)
        assert name == "WorkerImage" or re.fullmatch(known[name].get("AllowedPattern", ".*"), value)
    assert deploy["stack_name"].endswith(given["Profile"])
    # What nobody has put in is refused before anything is created.
    assert not re.fullmatch(known["WorkerImage"]["AllowedPattern"], given["WorkerImage"])


def test_queues_and_definitions_may_have_the_names_that_stacks_give_them() -> None:
    for name in ("GpuQueue", "CpuQueue"):
        assert re.fullmatch("[A-Za-z0-9_-]{1,128}", BARE.properties(name)["JobQueueName"])
