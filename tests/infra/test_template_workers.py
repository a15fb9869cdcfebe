"""The machines and jobs of the template: exit codes, limits, what a container may touch, and how it is reached."""

import email
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator

from core import urls, wiring
from core.settings import Settings
from core.task import Status
from handlers import batch_worker
from support.builders import task_in
from support.lambda_process import ROOT
from support.moto_server import Moto
from support.template import Stack, as_requested

STACK = Stack({"WorkerImage": "worker:1"})
ELSEWHERE = Stack({"WorkerImage": "worker:1", "VpcId": "vpc-0a", "SubnetIds": "subnet-0a,subnet-0b"})
ENVIRONMENTS = ("GpuSpot", "GpuOnDemand", "CpuSpot", "CpuOnDemand")
DOCKERFILE = (ROOT / "container" / "Dockerfile").read_text()


@pytest.fixture(params=["GpuJob", "CpuJob"])
def job(request: pytest.FixtureRequest) -> Any:
    return STACK.properties(request.param)


@pytest.fixture(params=ENVIRONMENTS)
def machines(request: pytest.FixtureRequest) -> Any:
    return STACK.properties(request.param)["ComputeResources"]


# Jobs


def decided(job: Any, **ended: str) -> str:
    """AWS Batch's rule: the first condition all of whose patterns match decides; what matches none is tried again."""
    for condition in job["RetryStrategy"]["EvaluateOnExit"]:
        patterns = {name: text for name, text in condition.items() if name != "Action"}
        assert patterns
        if all(_matches(text, ended.get(name, "")) for name, text in patterns.items()):
            return str(condition["Action"])
    return "RETRY"


def _matches(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


@pytest.mark.parametrize(
    ("ended", "action"),
    [
        ({"OnExitCode": str(batch_worker.EXIT_TRY_AGAIN)}, "RETRY"),
        ({"OnExitCode": str(batch_worker.EXIT_MISCONFIGURED)}, "EXIT"),
        ({"OnExitCode": "1"}, "EXIT"),
        ({"OnExitCode": "137", "OnReason": "OutOfMemoryError: Container killed due to memory usage"}, "EXIT"),
        ({"OnStatusReason": "Host EC2 (instance i-0123456789abcdef0) terminated."}, "RETRY"),
        ({"OnReason": "CannotPullContainerError: no such image"}, "EXIT"),
        ({"OnStatusReason": "Job attempt duration exceeded timeout"}, "EXIT"),
        ({}, "EXIT"),
    ],
)
def test_a_job_is_tried_again_for_our_exit_code_and_for_a_lost_machine_only(
    job: Any, ended: dict[str, str], action: str
) -> None:
    assert decided(job, **ended) == action


def test_what_is_for_everything_comes_last(job: Any) -> None:
    strategy = job["RetryStrategy"]
    conditions = strategy["EvaluateOnExit"]
    assert strategy["Attempts"] == 3
    assert len(conditions) <= 5  # the most that there can be
    actions = [condition["Action"] for condition in conditions]
    assert actions == ["RETRY", "RETRY", "EXIT", "EXIT"]
    assert {"Action": "EXIT", "OnReason": "*"} in conditions[2:]


def test_every_exit_code_of_the_worker_is_thought_of() -> None:
    codes = {name: value for name, value in vars(batch_worker).items() if name.startswith("EXIT_")}
    assert codes == {"EXIT_RECORDED": 0, "EXIT_TRY_AGAIN": 75, "EXIT_MISCONFIGURED": 78}


@pytest.mark.parametrize("hours", STACK.template["Parameters"]["TaskTimeoutHours"]["AllowedValues"])
def test_a_job_has_time_for_two_runs_of_ffmpeg_and_more(hours: str) -> None:
    stack = Stack({"TaskTimeoutHours": hours})
    for name in ("GpuJob", "CpuJob"):
        settings = Settings.from_env(stack.job_variables(name))
        assert settings.task_timeout_seconds == int(hours) * 3600
        limit = stack.properties(name)["Timeout"]["AttemptDurationSeconds"]
        assert limit == 2 * settings.task_timeout_seconds + 3600


def test_the_container_may_write_to_its_work_folder_and_nowhere_else(job: Any) -> None:
    container = job["ContainerProperties"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["Privileged"] is False
    work = container["MountPoints"]
    assert work == [{"SourceVolume": "work", "ContainerPath": "/work", "ReadOnly": False}]
    assert container["Volumes"] == [{"Name": "work", "Host": {"SourcePath": "/scratch"}}]
    (temporary,) = container["LinuxParameters"]["Tmpfs"]
    assert temporary["ContainerPath"] == "/tmp"
    assert {"noexec", "nosuid", "nodev"} <= set(temporary["MountOptions"])


def test_the_container_is_run_as_it_was_built(job: Any) -> None:
    container = job["ContainerProperties"]
    variables = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
    (user,) = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert container["User"] == user == "10001:10001"
    assert f"SCRATCH_DIR={variables['SCRATCH_DIR']} " in DOCKERFILE
    assert variables["SCRATCH_DIR"] == container["MountPoints"][0]["ContainerPath"]
    assert str(container["Command"]).replace("'", '"') in DOCKERFILE
    assert variables["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert container["JobRoleArn"] == "<WorkerRole>"
    assert "Secrets" not in container


def test_the_logs_of_a_job_go_where_they_end_some_day(job: Any) -> None:
    log = job["ContainerProperties"]["LogConfiguration"]
    assert (log["LogDriver"], log["Options"]["awslogs-group"]) == ("awslogs", "<WorkerLogs>")


def needs(name: str) -> dict[str, str]:
    listed = STACK.properties(name)["ContainerProperties"]["ResourceRequirements"]
    return {entry["Type"]: entry["Value"] for entry in listed}


def test_the_gpu_job_asks_for_one_card_and_the_other_for_none() -> None:
    assert needs("GpuJob") == {"GPU": "1", "VCPU": "4", "MEMORY": "14336"}
    assert needs("CpuJob") == {"VCPU": "8", "MEMORY": "14336"}


@pytest.mark.parametrize("kind", ["Gpu", "Cpu"])
def test_a_job_fits_into_the_smallest_machine_that_there_may_be(kind: str) -> None:
    # vCPUs, memory in GiB, and disk in GB, of the smallest of the instance types of that kind.
    vcpus, memory, disk = {"Gpu": (4, 16, 125), "Cpu": (8, 16, 200)}[kind]
    smallest = {"Gpu": "g4dn.xlarge", "Cpu": "c5d.2xlarge"}[kind]
    asked = needs(f"{kind}Job")
    variables = STACK.job_variables(f"{kind}Job")
    assert smallest in STACK.properties(f"{kind}Spot")["ComputeResources"]["InstanceTypes"]
    assert int(asked["VCPU"]) <= vcpus
    # The system, Docker and the agent take some of it: of 16 GiB up to one is not on offer.
    assert int(asked["MEMORY"]) <= (memory - 1) * 1024
    assert Settings.from_env(variables).max_task_bytes + Settings.from_env(variables).max_input_bytes < disk * 10**9
    assert int(STACK.parameters.get(f"{kind}Vcpus", STACK.template["Parameters"][f"{kind}Vcpus"]["Default"])) >= vcpus


# As AWS Batch's API takes them


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "GpuQueue", "CpuQueue", "GpuJob", "CpuJob"])
def test_each_property_is_one_of_the_api(name: str) -> None:
    operation = {"q": "UpdateJobQueue", "s": "UpdateComputeEnvironment", "j": "RegisterJobDefinition"}
    kind = "q" if name.endswith("Queue") else "j" if name.endswith("Job") else "s"
    shape = botocore.session.get_session().get_service_model("batch").operation_model(operation[kind]).input_shape
    assert shape
    wanted = as_requested(STACK.properties(name))
    if kind == "q":
        wanted["jobQueue"] = wanted.pop("jobQueueName")
    if kind == "s":
        wanted = {"computeEnvironment": name, **{part: wanted[part] for part in ("computeResources", "updatePolicy")}}
    assert ParamValidator().validate(wanted, shape).generate_report() == ""
    assert unknown(wanted, shape) == []


def unknown(value: Any, shape: Any) -> list[str]:
    """What botocore's validator lets pass: members that the shape has not, and words that are none of its enum's."""
    if shape.type_name == "structure":
        strange = [name for name in value if name not in shape.members]
        known = ((value[name], shape.members[name]) for name in value if name in shape.members)
        return strange + [found for part in known for found in unknown(*part)]
    if shape.type_name == "list":
        return [found for part in value for found in unknown(part, shape.member)]
    return [value] if getattr(shape, "enum", None) and value not in shape.enum else []


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_submitted_job_has_what_its_worker_needs(aws: Moto, kind: str) -> None:
    batch = boto3.client("batch")
    batch.register_job_definition(**as_requested(STACK.properties(f"{kind.capitalize()}Job")))
    batch.create_job_queue(
        jobQueueName=f"transcoding-{kind}",
        state="ENABLED",
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "workers"}],
    )
    services = wiring.services(Settings.from_env(STACK.variables("ApiFunction")), {})
    task = task_in(Status.QUEUED, compute=kind)
    job_id = services.dispatcher.submit(task)
    (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
    env = {entry["name"]: entry["value"] for entry in job["container"]["environment"]}
    assert job["jobQueue"].endswith(f"/transcoding-{kind}")
    assert job["container"]["command"] == ["python", "-m", "handlers.batch_worker"]
    assert env["TASK_ID"] == task.task_id
    assert Settings.from_env(env).scratch == Path("/work")


# Queues and machines


@pytest.mark.parametrize("kind", ["Gpu", "Cpu"])
def test_a_queue_tries_spot_first_and_then_machines_on_demand(kind: str) -> None:
    queue = STACK.properties(f"{kind}Queue")
    assert queue["ComputeEnvironmentOrder"] == [
        {"Order": 1, "ComputeEnvironment": f"<{kind}Spot>"},
        {"Order": 2, "ComputeEnvironment": f"<{kind}OnDemand>"},
    ]
    spot, on_demand = (STACK.properties(f"{kind}{name}")["ComputeResources"] for name in ("Spot", "OnDemand"))
    assert (spot["Type"], spot["AllocationStrategy"]) == ("SPOT", "SPOT_PRICE_CAPACITY_OPTIMIZED")
    assert (on_demand["Type"], on_demand["AllocationStrategy"]) == ("EC2", "BEST_FIT_PROGRESSIVE")
    settings = Settings.from_env(STACK.variables("ApiFunction"))
    place = {"Gpu": (settings.job_queue, settings.job_definition), "Cpu": settings_cpu(settings)}[kind]
    assert place == (queue["JobQueueName"], STACK.properties(f"{kind}Job")["JobDefinitionName"])


def settings_cpu(settings: Settings) -> tuple[str | None, str | None]:
    return settings.cpu_job_queue, settings.cpu_job_definition


def test_nothing_runs_at_rest(machines: Any) -> None:
    assert machines["MinvCpus"] == 0
    assert "DesiredvCpus" not in machines


def test_machines_run_the_system_that_their_kind_needs() -> None:
    for name in ENVIRONMENTS:
        resources = STACK.properties(name)["ComputeResources"]
        expected = "ECS_AL2023_NVIDIA" if name.startswith("Gpu") else "ECS_AL2023"
        assert resources["Ec2Configuration"] == [{"ImageType": expected}]
        arm = [kind for kind in resources["InstanceTypes"] if re.match(r"[a-z]+\d+g", kind)]
        assert arm == []  # the image is for x86-64
        # Only with a disk of their own is there room for what tasks may take.
        assert all(re.match(r"[a-z]+\d+[a-z]*d", kind) for kind in resources["InstanceTypes"])


def test_an_environment_can_be_changed_in_place() -> None:
    for name in ENVIRONMENTS:
        properties = STACK.properties(name)
        assert "ServiceRole" not in properties
        assert properties["ReplaceComputeEnvironment"] is False
        assert properties["UpdatePolicy"]["TerminateJobsOnUpdate"] is False
        assert properties["ComputeResources"]["LaunchTemplate"]["Version"] == "<WorkerMachine.LatestVersionNumber>"


def launch() -> Any:
    return STACK.properties("WorkerMachine")["LaunchTemplateData"]


def test_a_machine_gives_its_credentials_to_no_container() -> None:
    assert launch()["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}


def test_the_disk_is_encrypted_and_goes_with_the_machine() -> None:
    (disk,) = launch()["BlockDeviceMappings"]
    assert disk["Ebs"].items() >= {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}.items()


# The script that a machine starts with, run with programs that only say how they were called


def script() -> str:
    message = email.message_from_string(launch()["UserData"]["Fn::Base64"])
    (part,) = (part for part in message.walk() if not part.is_multipart())
    assert message.get_content_type() == "multipart/mixed"
    assert part.get_content_type() == "text/x-shellscript"
    return str(part.get_payload())


def run(tmp_path: Path, *, disks: str, failing: str = "") -> tuple[int, list[str]]:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    for name in ("mkdir", "mkfs.xfs", "mount", "chown", "chmod"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{log}"\nexit {int(name == failing)}\n')
    (programs / "lsblk").write_text(f"#!/bin/sh\ncat <<'END'\n{disks}\nEND\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script()], env={"PATH": path}, capture_output=True, text=True, timeout=30)
    return done.returncode, log.read_text().splitlines()


ROOT_DISK = "/dev/nvme0n1 Amazon Elastic Block Store"
OWN_DISK = "/dev/nvme1n1 Amazon EC2 NVMe Instance Storage"


def test_tasks_work_on_the_machines_own_disk(tmp_path: Path) -> None:
    assert run(tmp_path, disks=f"{ROOT_DISK}\n{OWN_DISK}") == (
        0,
        [
            "mkdir -p /scratch",
            "mkfs.xfs -q -f -K /dev/nvme1n1",
            "mount -o noatime,noexec,nosuid,nodev /dev/nvme1n1 /scratch",
            "chown 10001:10001 /scratch",
            "chmod 0700 /scratch",
        ],
    )


def test_tasks_work_on_the_systems_disk_where_there_is_no_other(tmp_path: Path) -> None:
    assert run(tmp_path, disks=ROOT_DISK) == (
        0,
        [
            "mkdir -p /scratch",
            "mount --bind /scratch /scratch",
            "mount -o remount,bind,noexec,nosuid,nodev /scratch",
            "chown 10001:10001 /scratch",
            "chmod 0700 /scratch",
        ],
    )


def test_the_first_of_several_disks_is_taken(tmp_path: Path) -> None:
    disks = f"{ROOT_DISK}\n{OWN_DISK}\n{OWN_DISK.replace('nvme1', 'nvme2')}"
    assert run(tmp_path, disks=disks)[1][1].endswith("/dev/nvme1n1")


def test_a_disk_that_cannot_be_had_leaves_a_folder_that_no_worker_can_use(tmp_path: Path) -> None:
    code, calls = run(tmp_path, disks=OWN_DISK, failing="mount")
    assert code != 0
    assert not any(call.startswith("chown") for call in calls)


# The network


def test_workers_are_reached_by_nobody_and_reach_the_ports_of_inputs() -> None:
    group = STACK.properties("WorkerSecurityGroup")
    assert "SecurityGroupIngress" not in group
    ports = {(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]}
    assert ports == {(port, port) for port in urls.PORTS}
    assert {rule["IpProtocol"] for rule in group["SecurityGroupEgress"]} == {"tcp"}


def test_the_own_network_has_two_zones_and_no_nat() -> None:
    resources = STACK.template["Resources"]
    kinds = [resource["Type"] for resource in resources.values()]
    assert kinds.count("AWS::EC2::NatGateway") == 0
    zones = [STACK.properties(name)["AvailabilityZone"] for name in ("SubnetA", "SubnetB")]
    assert zones == ["eu-central-1a", "eu-central-1b"]
    assert STACK.properties("GpuSpot")["ComputeResources"]["Subnets"] == ["<SubnetA>", "<SubnetB>"]
    endpoints = [STACK.properties(name) for name in ("S3Endpoint", "DynamoDbEndpoint")]
    assert {(end["VpcEndpointType"], end["ServiceName"]) for end in endpoints} == {
        ("Gateway", "com.amazonaws.eu-central-1.s3"),
        ("Gateway", "com.amazonaws.eu-central-1.dynamodb"),
    }


def test_a_network_that_exists_is_used_and_not_changed(machines: Any) -> None:
    network = [
        name
        for name, resource in STACK.template["Resources"].items()
        if resource["Type"].startswith("AWS::EC2::") and name not in ("WorkerMachine", "WorkerSecurityGroup")
    ]
    assert len(network) == 11
    assert not any(ELSEWHERE.exists(name) for name in network)
    assert all(STACK.exists(name) for name in network)
    assert ELSEWHERE.properties("WorkerSecurityGroup")["VpcId"] == "vpc-0a"
    assert ELSEWHERE.properties("CpuSpot")["ComputeResources"]["Subnets"] == ["subnet-0a", "subnet-0b"]
    assert machines["SecurityGroupIds"] == ["<WorkerSecurityGroup.GroupId>"]
