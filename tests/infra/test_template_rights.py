"""What each role may do on AWS is what its code asks for: each call has a statement, each statement a call.

The calls are found in the sources. Which role makes them is written here, once for each function, so that a new one
is not forgotten: it fails the first test until it stands in `CALLERS`.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from support.lambda_process import ROOT
from support.template import Stack

AWS = ROOT / "src" / "core" / "aws"
SERVICES = ("s3", "dynamodb", "batch", "events", "secretsmanager", "ssm")
# What boto3 and s3transfer call for us.
TRANSFERS = {
    "create_transfer_manager": (
        "put_object",
        "create_multipart_upload",
        "upload_part",
        "complete_multipart_upload",
        "abort_multipart_upload",
    ),
    "download_file": ("head_object", "get_object"),
}
NAMED = ("get_paginator", "generate_presigned_url")  # the call is their first argument

# Whose permission an S3 call needs, where it is not called as the call is.
S3_ACTIONS = {
    "head_object": "s3:GetObject",
    "head_bucket": "s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_parts": "s3:ListMultipartUploadParts",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
}

API, EVENTS, SWEEP, WORKER = "ApiFunction", "EventsFunction", "SweepFunction", "WorkerRole"
CARE = {EVENTS, SWEEP}
CALLERS: Mapping[str, set[str]] = {
    "Table.read": {API, *CARE, WORKER},  # everybody begins with the task as it is
    "Table.put": {API, *CARE, WORKER},  # every move
    "Table.delete": {*CARE, WORKER},  # the aftermath forgets; a worker takes its heartbeat away
    "DynamoRecordStore._found": {API, *CARE},
    "DynamoTaskStore._due_keys": CARE,
    "DynamoTaskStore._batch": {API},  # the list
    "DynamoTaskStore._look": {API},  # the list
    "DynamoTaskStore.count_live": {API},  # what a key has under way
    "DynamoTaskStore._count": {API, SWEEP},  # the load, shown and as metrics
    "DynamoTaskStore._first": {API, SWEEP},
    "DynamoTaskStore._ends": {API, SWEEP},
    "DynamoTaskStore.members": {API, *CARE},  # how a batch is
    "S3ObjectStore.put_file": {API, WORKER},  # of the API, the list of a batch's files
    "S3ObjectStore.head": {WORKER},
    "S3ObjectStore.link": {API, *CARE},  # in answers and in notices
    "S3ObjectStore.read": {API, *CARE, WORKER},  # logs, and the lists of the batches' files
    "S3ObjectStore.delete": {API, *CARE, WORKER},  # outputs whose time is over; what an attempt has left
    "S3ObjectStore._delete_page": {API, *CARE, WORKER},
    "S3ObjectStore._give_up_transfers": {API, *CARE, WORKER},
    "S3ObjectStore._give_up_transfer": {API, *CARE, WORKER},
    "S3ObjectStore.check": {API},
    "S3InputStore._media": {API},  # what a batch is to be made of
    "S3InputStore.get_file": {WORKER},
    "S3UploadStore.begin": {API},
    "S3UploadStore.link": {API},
    "S3UploadStore.received": {API},
    "S3UploadStore.finish": {API},
    "S3UploadStore.size": {API},
    "S3PresetFolder._keys": {API},
    "S3PresetFolder._text": {API},
    "S3InputStore.delete": {WORKER},
    "BatchDispatcher._submit": {API, *CARE},
    "BatchDispatcher._seen": {API, *CARE},  # the API after a cancel that was refused
    "BatchDispatcher._stop": {API, *CARE},
    "BatchDispatcher.check": {API},
    "_listed": {SWEEP},  # what waits in the queues
    "EventBusChannel.deliver": CARE,
    "_value": {API, *CARE},  # the entries of the keys; the secret that notices are signed with
}

KEYS = "arn:aws:ssm:eu-central-1:123456789012:parameter/keys"
# The managed policies and the policies apart that each role has, besides what is written at it.
ATTACHED = {
    API: ("SubmitJobs", "AttendDelivered", "ReadApiKeys", "ReadPresets", "ListInputBuckets"),
    EVENTS: ("LookAfterTasks", "SubmitJobs", "AttendDelivered", "ReadWebhookSecret", "AnnounceEnds"),
    SWEEP: ("LookAfterTasks", "SubmitJobs", "AttendDelivered", "ReadWebhookSecret", "AnnounceEnds"),
    WORKER: ("ReadInputBuckets", "DeleteFromInputBuckets", "AttendDelivered", "Deliver"),
}
FULL = Stack(
    {
        "InputBuckets": "media,archive",
        "InputDeletion": "allowed",
        "Destinations": "media-out,partner/incoming",
        "DestinationBuckets": "media-out,partner",
        "WebhookSecretArn": "generate",
        "EventBus": "default",
        "ApiKeysArn": KEYS,
        "PresetsBucket": "media-presets",
    }
)
ELSEWHERE = Stack({"OutputBucketName": "media-out"})
# Of these AWS says that they know no resources.
ON_ALL = {"batch:DescribeJobs", "batch:DescribeJobQueues", "batch:ListJobs"}


@cache
def operations() -> Mapping[str, str]:
    """Each call of a client of ours, as Python names it, with the permission that it needs."""
    found = {}
    for service in SERVICES:
        for name in botocore.session.get_session().get_service_model(service).operation_names:
            found[xform_name(name)] = f"{service}:{name}"
    return found | S3_ACTIONS


def calls() -> Mapping[str, set[str]]:
    """The permissions that each function in core/aws needs for the calls in it."""
    found: dict[str, set[str]] = {}
    for file in sorted(AWS.glob("*.py")):
        for name, function in _functions(ast.parse(file.read_text())):
            made = {operations()[call] for call in _calls(function)}
            if made:
                found[name] = made
    return found


def _functions(module: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{part.name}", part) for part in node.body if isinstance(part, ast.FunctionDef))


def _calls(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in NAMED:
            (first, *_) = node.args
            assert isinstance(first, ast.Constant)
            yield str(first.value)
        elif name in TRANSFERS:
            yield from TRANSFERS[name]
        elif isinstance(node.func, ast.Attribute) and name in operations():
            yield name


def statements(stack: Stack, role: str) -> list[Any]:
    return stack.statements(role, *ATTACHED[role])


def granted(stack: Stack, role: str) -> set[str]:
    return {action for statement in statements(stack, role) for action in statement["Action"]}


def test_every_call_to_aws_is_known() -> None:
    assert set(calls()) == set(CALLERS)


def test_no_client_is_made_elsewhere() -> None:
    made = {path.name for path in (ROOT / "src").rglob("*.py") if "boto3.client(" in path.read_text()}
    assert made == {"client.py"}
    listed = set(boto3_clients((AWS / "client.py").read_text()))
    assert listed == set(SERVICES)


def boto3_clients(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
            assert isinstance(node.args[0], ast.Constant)
            yield str(node.args[0].value)


@pytest.mark.parametrize("role", [API, EVENTS, SWEEP, WORKER])
def test_a_role_may_do_what_it_does_and_no_more(role: str) -> None:
    needed = {action for name, made in calls().items() if role in CALLERS[name] for action in made}
    assert granted(FULL, role) == needed


@pytest.mark.parametrize("role", [API, EVENTS, SWEEP, WORKER])
def test_what_is_not_set_up_is_not_granted(role: str) -> None:
    bare = granted(ELSEWHERE, role)
    assert not {action for action in bare if action.split(":")[0] in ("events", "secretsmanager", "ssm")}


def test_the_policies_are_attached_to_those_who_are_said_to_have_them() -> None:
    resources = FULL.template["Resources"]
    for function in (API, EVENTS, SWEEP):
        listed = resources[function]["Properties"]["Policies"]
        refs = [_name(policy) for policy in listed if "Version" not in policy]
        assert tuple(refs) == ATTACHED[function]
    policies = [
        name for name, it in resources.items() if it["Type"].startswith("AWS::IAM::") and "Policy" in it["Type"]
    ]
    assert set(policies) == {name for names in ATTACHED.values() for name in names}
    for name in ATTACHED[WORKER]:
        assert resources[name]["Properties"]["Roles"] == [{"Ref": "WorkerRole"}]
    for name in {*ATTACHED[API], *ATTACHED[SWEEP]} - {"AttendDelivered"}:
        assert "Roles" not in resources[name]["Properties"]


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (API, {"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"}),
        (EVENTS, {"s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}),
        (SWEEP, {"s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}),
        (WORKER, {"s3:GetObject"}),
    ],
)
def test_the_lists_of_batches_are_written_by_the_api_and_read_by_all(role: str, actions: set[str]) -> None:
    (found,) = [statement for statement in statements(ELSEWHERE, role) if statement["Sid"] == "Manifests"]
    assert set(found["Action"]) == actions


@pytest.mark.parametrize(("deletion", "expected"), [("allowed", True), ("refused", False), (None, False)])
def test_workers_delete_inputs_only_where_that_is_allowed(deletion: str | None, expected: bool) -> None:
    stack = Stack({"InputBuckets": "media"} | ({"InputDeletion": deletion} if deletion else {}))
    found = [statement for statement in statements(stack, WORKER) if statement["Sid"] == "DeleteInputs"]
    assert bool(found) is expected


def _name(policy: Any) -> str:
    return str(policy["If"][1]["Ref"] if "If" in policy else policy["Ref"])


@pytest.mark.parametrize("stack", [FULL, ELSEWHERE], ids=["own", "elsewhere"])
@pytest.mark.parametrize("role", [API, EVENTS, SWEEP, WORKER])
def test_only_actions_without_resources_are_granted_on_all(stack: Stack, role: str) -> None:
    for statement in statements(stack, role):
        assert (statement["Effect"], statement.get("NotAction")) == ("Allow", None)
        assert not any("*" in action for action in statement["Action"])
        if statement["Resource"] == "*":
            assert set(statement["Action"]) <= ON_ALL
        else:
            assert not set(statement["Action"]) & ON_ALL


# Statements on the buckets of others, and where they hold.
OBJECTS_OF_OTHERS = {"arn:aws:s3:::media-out/*", "arn:aws:s3:::partner/incoming/*"}
OF_OTHERS = {
    "Inputs": {"arn:aws:s3:::media/*", "arn:aws:s3:::archive/*"},
    "DeleteInputs": {"arn:aws:s3:::media/*", "arn:aws:s3:::archive/*"},
    "ListInputs": {"arn:aws:s3:::media", "arn:aws:s3:::archive"},
    "Delivered": OBJECTS_OF_OTHERS,
    "Deliver": OBJECTS_OF_OTHERS,
    "FindDelivered": {"arn:aws:s3:::media-out", "arn:aws:s3:::partner"},
}


@pytest.mark.parametrize("role", [API, EVENTS, SWEEP, WORKER])
def test_a_role_may_do_in_the_buckets_of_others_what_it_may_do_in_ours(role: str) -> None:
    ours: set[str] = set()
    theirs: set[str] = set()
    for statement in statements(FULL, role):
        actions = {action for action in statement["Action"] if action.startswith("s3:")}
        if statement["Sid"] in {"Delivered", "Deliver", "FindDelivered"}:
            theirs |= actions
        elif statement["Sid"] in {"Outputs", "FindOwn", "FindOutputs", "FindLeftovers"}:
            ours |= actions
    assert theirs == ours
    assert not any(statement["Sid"] in OF_OTHERS for statement in statements(ELSEWHERE, role))


JOBS = "arn:aws:batch:eu-central-1:123456789012:"


@pytest.mark.parametrize(
    ("stack", "bucket"),
    [(FULL, "arn:aws:s3:::<OutputBucket>"), (ELSEWHERE, "arn:aws:s3:::media-out")],
    ids=["own", "elsewhere"],
)
@pytest.mark.parametrize("role", [API, EVENTS, SWEEP, WORKER])
def test_each_action_is_granted_where_it_is_done(stack: Stack, bucket: str, role: str) -> None:
    of_objects = {"Uploads": {f"{bucket}/uploads/*"}, "Manifests": {f"{bucket}/batches/*"}}
    allowed = {
        "dynamodb": {
            "<TaskTable>",
            "<TaskTable>/index/due",
            *(f"<TaskTable>/index/{name}" for name in ("live", "listed", "states", "batched")),
        },
        "s3": {bucket},
        "batch": {
            "*",
            f"{JOBS}job/*",
            *(f"{JOBS}job-queue/transcoding-{kind}" for kind in ("gpu", "cpu")),
            *(f"{JOBS}job-definition/transcoding-{kind}{end}" for kind in ("gpu", "cpu") for end in ("", ":*")),
        },
        "events": {"arn:aws:events:eu-central-1:123456789012:event-bus/default"},
        "secretsmanager": {KEYS if role == API else "<WebhookSecret>"},
        "ssm": {KEYS if role == API else "<WebhookSecret>"},
    }
    for statement in statements(stack, role):
        resources = statement["Resource"]
        found = set(resources if isinstance(resources, list) else [resources])
        for action in statement["Action"]:
            if statement["Sid"] in OF_OTHERS:
                assert found == OF_OTHERS[statement["Sid"]]
            elif statement["Sid"] == "Presets":
                assert (action, found) == ("s3:GetObject", {"arn:aws:s3:::media-presets/presets/*"})
            elif statement["Sid"] == "FindPresets":
                assert (action, found) == ("s3:ListBucket", {"arn:aws:s3:::media-presets"})
                assert statement["Condition"] == {"StringEquals": {"s3:prefix": "presets/"}}
            elif action.startswith("s3:") and not action.startswith("s3:ListBucket"):
                assert found == of_objects.get(statement["Sid"], {f"{bucket}/outputs/*"})
            else:
                assert found <= allowed[action.split(":")[0]]


def test_the_workers_role_is_for_containers_of_this_account_and_the_machines_for_machines() -> None:
    (worker,) = FULL.properties(WORKER)["AssumeRolePolicyDocument"]["Statement"]
    (machine,) = FULL.properties("InstanceRole")["AssumeRolePolicyDocument"]["Statement"]
    assert worker["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert worker["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert machine["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert FULL.properties("InstanceRole")["ManagedPolicyArns"] == [
        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
    ]
    assert "Policies" not in FULL.properties("InstanceRole")
