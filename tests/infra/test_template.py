"""The template describes what the code uses: its handler, settings, table and permissions."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.aws import batch_event, task_store
from core.settings import Settings
from support import moto_server
from support.lambda_module import imported
from support.lambda_process import ROOT

sweep_handler = imported("handlers.sweep")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is read as {"Ref": X}."""


def _intrinsic(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="module")
def template() -> Any:
    return yaml.load((ROOT / "infra" / "template.yaml").read_text(), Loader=_Loader)


FUNCTIONS = ("ApiFunction", "SweepFunction", "EventsFunction")


@pytest.fixture(scope="module")
def api(template: Any) -> Any:
    return template["Resources"]["ApiFunction"]["Properties"]


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest, template: Any) -> Any:
    return template["Resources"][request.param]["Properties"]


@pytest.fixture(scope="module")
def care(template: Any) -> Any:
    """The policy of the sweep and the events."""
    return template["Resources"]["LookAfterTasks"]["Properties"]["PolicyDocument"]


def actions(policy: Any) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_handler_is_in_the_code_that_is_packed(function: Any) -> None:
    source = (ROOT / "infra" / function["CodeUri"]).resolve()
    module, _, name = function["Handler"].rpartition(".")
    found = importlib.util.find_spec(module)
    assert found
    assert found.origin
    assert Path(found.origin).is_relative_to(source)
    assert f"def {name}(" in Path(found.origin).read_text()
    assert (source / "requirements.txt").exists()


def test_every_variable_is_a_setting(function: Any) -> None:
    variables = function["Environment"]["Variables"]
    assert {name.lower() for name in variables} <= set(Settings.__dataclass_fields__)
    given = {name: value if isinstance(value, str) else "1" for name, value in variables.items()}
    settings = Settings.from_env({**given, "LOG_LEVEL": "INFO", "WEBHOOK_SECRET": ""})
    assert settings.backend == "aws"


def test_no_private_network_is_opened(function: Any) -> None:
    assert "ALLOW_PRIVATE_NETWORKS" not in function["Environment"]["Variables"]


def test_the_parameters_fit_the_settings(template: Any) -> None:
    parameters = template["Parameters"]
    for level in parameters["LogLevel"]["AllowedValues"]:
        Settings.from_env({"LOG_LEVEL": level})
    for bound in ("MinValue", "MaxValue", "Default"):
        Settings.from_env({"LINK_TTL_SECONDS": str(parameters["LinkTtlSeconds"][bound])})


def test_the_table_is_the_one_that_the_store_is_tested_on(template: Any) -> None:
    table = template["Resources"]["TaskTable"]["Properties"]
    assert {name: table[name] for name in moto_server.TABLE_SCHEMA} == moto_server.TABLE_SCHEMA
    indexes = [index["IndexName"] for index in table["GlobalSecondaryIndexes"]]
    assert indexes == [task_store.INDEX, task_store.LIST_INDEX]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_bucket_is_private_and_forgets_half_uploads(template: Any) -> None:
    bucket = template["Resources"]["OutputBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["AbortIncompleteMultipartUpload"]) == ("Enabled", {"DaysAfterInitiation": 1})
    assert "ExpirationInDays" not in rule


def test_what_holds_data_outlives_the_stack(template: Any) -> None:
    for name in ("TaskTable", "OutputBucket"):
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"
        assert template["Resources"][name]["UpdateReplacePolicy"] == "Retain"


def test_the_api_may_do_what_it_does_and_no_more(api: Any) -> None:
    (policy,) = api["Policies"]
    assert actions(policy) == {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:BatchGetItem",
        "dynamodb:Query",
        "s3:GetObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "batch:SubmitJob",
        "batch:TerminateJob",
        "batch:DescribeJobs",
        "batch:DescribeJobQueues",
    }


def test_the_sweep_and_the_events_may_do_what_they_do_and_no_more(template: Any, care: Any) -> None:
    for name in ("SweepFunction", "EventsFunction"):
        care_of, announce = template["Resources"][name]["Properties"]["Policies"]
        assert care_of == {"Ref": "LookAfterTasks"}
        assert announce == {"If": ["AnnouncesEnds", {"Ref": "AnnounceEnds"}, {"Ref": "AWS::NoValue"}]}
    ends = template["Resources"]["AnnounceEnds"]["Properties"]["PolicyDocument"]
    assert actions(ends) == {"events:PutEvents"}
    assert ends["Statement"][0]["Resource"]["Sub"].endswith(":event-bus/${EventBus}")
    assert actions(care) == {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:DeleteItem",
        "dynamodb:Query",
        "s3:GetObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "batch:SubmitJob",
        "batch:TerminateJob",
        "batch:DescribeJobs",
    }


def test_only_actions_without_resources_are_granted_on_all(api: Any, care: Any) -> None:
    (policy,) = api["Policies"]
    everywhere = [
        action
        for statement in (*policy["Statement"], *care["Statement"])
        for action in statement["Action"]
        if statement["Resource"] == "*"
    ]
    assert sorted(everywhere) == ["batch:DescribeJobQueues", "batch:DescribeJobs", "batch:DescribeJobs"]


def test_outputs_are_all_that_can_be_linked_or_deleted(api: Any, care: Any) -> None:
    (policy,) = api["Policies"]
    of_objects = {"s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    prefix = api["Environment"]["Variables"]["OUTPUT_PREFIX"]
    found = [
        statement for statement in (*policy["Statement"], *care["Statement"]) if of_objects & set(statement["Action"])
    ]
    assert len(found) == 2
    assert all(statement["Resource"] == {"Sub": f"${{OutputBucket.Arn}}/{prefix}/*"} for statement in found)


def test_every_function_has_the_same_settings(template: Any) -> None:
    api, *others = (template["Resources"][name]["Properties"]["Environment"]["Variables"] for name in FUNCTIONS)
    assert others == [api, api]


def test_the_sweep_comes_every_minute_and_has_time_for_a_page(template: Any) -> None:
    function = template["Resources"]["SweepFunction"]["Properties"]
    assert function["Events"]["EveryMinute"]["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert function["Timeout"] > sweep_handler.LEFT_FOR_ENDED > sweep_handler.LEFT_AT_THE_END
    assert function["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
    assert "ReservedConcurrentExecutions" not in function


def test_what_the_events_function_cannot_handle_is_kept_and_rings(template: Any) -> None:
    resources = template["Resources"]
    function = resources["EventsFunction"]["Properties"]
    queue = {"GetAtt": "UnhandledEvents.Arn"}
    assert function["EventInvokeConfig"]["MaximumRetryAttempts"] == 2
    assert function["EventInvokeConfig"]["DestinationConfig"] == {"OnFailure": {"Type": "SQS", "Destination": queue}}
    for rule in function["Events"].values():
        assert rule["Properties"]["DeadLetterConfig"] == {"Arn": queue}
    alarm = resources["UnhandledEventsAlarm"]["Properties"]
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"GetAtt": "UnhandledEvents.QueueName"}}]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    assert resources["UnhandledEvents"]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600


def matches(pattern: Any, event: Any) -> bool:
    """EventBridge's rule for patterns of this kind: each field named is one of the values listed."""
    if isinstance(pattern, dict):
        return all(field in event and matches(part, event[field]) for field, part in pattern.items())
    return event in pattern


@pytest.fixture(scope="module")
def patterns(template: Any) -> list[Any]:
    events = template["Resources"]["EventsFunction"]["Properties"]["Events"]
    written = json.dumps([rule["Properties"]["Pattern"] for rule in events.values()])
    queue = '"arn:aws:batch:eu-central-1:123456789012:job-queue/transcode"'
    name = "arn:${AWS::Partition}:batch:${AWS::Region}:${AWS::AccountId}:job-queue/${JobQueue}"
    found: list[Any] = json.loads(written.replace(json.dumps({"Sub": name}), queue))
    return found


@pytest.mark.parametrize("name", ["job_failed", "queue_blocked"])
def test_the_rules_pass_the_events_of_our_queue_and_no_others(patterns: list[Any], name: str) -> None:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    assert [matches(pattern, event) for pattern in patterns].count(True) == 1
    assert batch_event.task_of(event, queues=["transcode"])
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
    event = json.loads((ROOT / "events" / "job_failed.json").read_text())
    event["detail"]["status"] = status
    assert any(matches(pattern, event) for pattern in patterns) is passed


def test_the_api_is_closed_to_strangers(template: Any) -> None:
    auth = template["Resources"]["HttpApi"]["Properties"]["Auth"]
    assert auth == {"EnableIamAuthorizer": True, "DefaultAuthorizer": "AWS_IAM"}


def test_the_api_gives_up_before_the_gateway_does(api: Any) -> None:
    assert api["Timeout"] < 29


def test_the_secret_is_not_shown(template: Any) -> None:
    assert template["Parameters"]["WebhookSecret"]["NoEcho"] is True


def test_every_reference_leads_somewhere(template: Any) -> None:
    known = {*template["Parameters"], *template["Resources"], "AWS::AccountId", "AWS::NoValue"}
    text = json.dumps(template["Resources"]) + json.dumps(template["Outputs"])
    refs = {part.split('"')[0] for part in text.split('{"Ref": "')[1:]}
    assert refs
    assert refs <= known


@pytest.mark.parametrize("name", ["register", "execute", "status", "result", "log", "tasks", "delete", "health"])
def test_every_event_is_of_the_format_that_the_gateway_sends(name: str) -> None:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    http = event["requestContext"]["http"]
    assert event["version"] == "2.0"
    assert event["rawPath"] == http["path"]
    assert all(header == header.lower() for header in event["headers"])
    assert int(event["headers"].get("content-length", 0)) == len(event.get("body", "").encode())
    assert event["isBase64Encoded"] is False
