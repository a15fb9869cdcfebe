"""The template describes what the code uses: its handler, settings, table and permissions."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.aws import task_store
from core.settings import Settings
from support import moto_server
from support.lambda_process import ROOT


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


@pytest.fixture(scope="module")
def function(template: Any) -> Any:
    return template["Resources"]["ApiFunction"]["Properties"]


def actions(function: Any) -> set[str]:
    (policy,) = function["Policies"]
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
    settings = Settings.from_env({**given, "LOG_LEVEL": "INFO"})
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
    assert table["GlobalSecondaryIndexes"][0]["IndexName"] == task_store.INDEX
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


def test_the_function_may_do_what_it_does_and_no_more(function: Any) -> None:
    assert actions(function) == {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "s3:GetObject",
        "s3:ListBucket",
        "batch:SubmitJob",
        "batch:DescribeJobQueues",
    }


def test_only_actions_without_resources_are_granted_on_all(function: Any) -> None:
    (policy,) = function["Policies"]
    everywhere = [statement["Action"] for statement in policy["Statement"] if statement["Resource"] == "*"]
    assert everywhere == [["batch:DescribeJobQueues"]]


def test_links_can_reach_the_outputs_only(function: Any) -> None:
    (policy,) = function["Policies"]
    (links,) = [statement for statement in policy["Statement"] if "s3:GetObject" in statement["Action"]]
    prefix = function["Environment"]["Variables"]["OUTPUT_PREFIX"]
    assert links["Resource"] == {"Sub": f"${{OutputBucket.Arn}}/{prefix}/*"}


def test_the_api_is_closed_to_strangers(template: Any) -> None:
    auth = template["Resources"]["HttpApi"]["Properties"]["Auth"]
    assert auth == {"EnableIamAuthorizer": True, "DefaultAuthorizer": "AWS_IAM"}


def test_the_function_gives_up_before_the_gateway_does(function: Any) -> None:
    assert function["Timeout"] < 29


def test_every_reference_leads_somewhere(template: Any) -> None:
    known = {*template["Parameters"], *template["Resources"]}
    text = json.dumps(template["Resources"]) + json.dumps(template["Outputs"])
    refs = {part.split('"')[0] for part in text.split('{"Ref": "')[1:]}
    assert refs
    assert refs <= known


@pytest.mark.parametrize("name", ["register", "execute", "status", "health"])
def test_every_event_is_of_the_format_that_the_gateway_sends(name: str) -> None:
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())
    http = event["requestContext"]["http"]
    assert event["version"] == "2.0"
    assert event["rawPath"] == http["path"]
    assert all(header == header.lower() for header in event["headers"])
    assert int(event["headers"].get("content-length", 0)) == len(event.get("body", "").encode())
    assert event["isBase64Encoded"] is False
