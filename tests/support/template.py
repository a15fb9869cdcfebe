"""infra/template.yaml as Python values, and what CloudFormation makes of them for given parameters.

`load()` keeps the short forms: `!Ref X` is {"Ref": X}, `!Sub` {"Sub": ...}. `Stack` works them out; what only AWS
knows, like the ARN of a queue, stays as a word that names it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from support.lambda_process import ROOT

FILE = ROOT / "infra" / "template.yaml"
REGION = "eu-central-1"
ACCOUNT = "123456789012"
NAME = "transcoding"

_PSEUDO = {
    "AWS::StackName": NAME,
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()


class _Loader(yaml.SafeLoader):
    pass


def _intrinsic(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


@cache
def load() -> Any:
    """Read once, and so not to be changed."""
    return yaml.load(FILE.read_text(), Loader=_Loader)


@dataclass(frozen=True)
class Stack:
    """The template with `parameters`, the others as they are by default."""

    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def template(self) -> Any:
        return load()

    def properties(self, resource: str) -> Any:
        return self.worked_out(self.template["Resources"][resource]["Properties"])

    def exists(self, resource: str) -> bool:
        condition = self.template["Resources"][resource].get("Condition")
        return condition is None or self.holds(condition)

    def holds(self, condition: str) -> bool:
        return bool(self.worked_out(self.template["Conditions"][condition]))

    def variables(self, function: str) -> dict[str, str]:
        """The environment of a function, in which a number is a string too."""
        shared = self.template["Globals"]["Function"]["Environment"]["Variables"]
        own = self.template["Resources"][function]["Properties"].get("Environment", {}).get("Variables", {})
        return {name: str(value) for name, value in self.worked_out({**shared, **own}).items()}

    def job_variables(self, definition: str) -> dict[str, str]:
        entries = self.properties(definition)["ContainerProperties"]["Environment"]
        return {entry["Name"]: str(entry["Value"]) for entry in entries}

    def statements(self, *resources: str) -> list[Any]:
        """Those of the policies that are written at the functions, roles and policies named."""
        return [statement for name in resources for policy in self._policies(name) for statement in policy["Statement"]]

    def worked_out(self, node: Any) -> Any:
        if isinstance(node, dict):
            if len(node) == 1:
                (name, value), *_ = node.items()
                worker = getattr(self, "_" + name.replace("Fn::", "").lower(), None)
                if worker and (name[0].isupper()):
                    return worker(value)
            pairs = ((key, self.worked_out(value)) for key, value in node.items())
            return {key: value for key, value in pairs if value is not NO_VALUE}
        if isinstance(node, list):
            return [value for value in map(self.worked_out, node) if value is not NO_VALUE]
        return node

    def _policies(self, name: str) -> list[Any]:
        properties = self.properties(name)
        if "PolicyDocument" in properties:
            return [properties["PolicyDocument"]] if self.exists(name) else []
        listed = (policy.get("PolicyDocument", policy) for policy in properties["Policies"] if isinstance(policy, dict))
        return [policy for policy in listed if "Statement" in policy]

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in _PSEUDO:
            return _PSEUDO[name]
        parameter = self.template["Parameters"].get(name)
        if parameter is None:
            return f"<{name}>"
        given = self.parameters.get(name, parameter.get("Default", f"<{name}>"))
        return str(given).split(",") if parameter["Type"] == "CommaDelimitedList" else given

    def _sub(self, value: Any) -> str:
        text, own = value if isinstance(value, list) else (value, {})
        known = self.worked_out(own)

        def of(found: re.Match[str]) -> str:
            name = found[1]
            if name in known:
                return str(known[name])
            return self._getatt(name) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([\w:.]+)\}", of, text)

    def _getatt(self, value: str) -> str:
        return f"<{value.removesuffix('.Arn')}>"

    def _if(self, value: Any) -> Any:
        condition, yes, no = value
        return self.worked_out(yes if self.holds(condition) else no)

    def _findinmap(self, value: Any) -> Any:
        name, first, second = map(self.worked_out, value)
        return self.template["Mappings"][name][first][second]

    def _join(self, value: Any) -> str:
        delimiter, parts = value
        return str(delimiter.join(map(str, self.worked_out(parts))))

    def _split(self, value: Any) -> list[str]:
        delimiter, text = value
        return str(self.worked_out(text)).split(delimiter)

    def _select(self, value: Any) -> Any:
        index, parts = value
        listed = self.worked_out(parts)
        return listed[int(index)] if isinstance(listed, list) else listed

    def _getazs(self, value: Any) -> list[str]:
        return [f"{REGION}a", f"{REGION}b", f"{REGION}c"]

    def _cidr(self, value: Any) -> list[str]:
        return [f"<part {number} of {self.worked_out(value[0])}>" for number in range(int(value[1]))]

    def _equals(self, value: Any) -> bool:
        left, right = map(self.worked_out, value)
        return str(left) == str(right)

    def _not(self, value: Any) -> bool:
        return not self.worked_out(value[0])

    def _and(self, value: Any) -> bool:
        return all(map(self.worked_out, value))

    def _condition(self, value: Any) -> Any:
        return self.holds(value) if isinstance(value, str) else {"Condition": self.worked_out(value)}


def as_requested(node: Any, *, within: str = "") -> Any:
    """Properties of AWS Batch's as its API names them; what users name stays, and numbers are numbers."""
    if isinstance(node, dict):
        as_is = within in ("Options", "Tags")
        return {(k if as_is else k[0].lower() + k[1:]): as_requested(v, within=k) for k, v in node.items()}
    if isinstance(node, list):
        return [as_requested(part) for part in node]
    return int(node) if within in ("MaxvCpus", "AttemptDurationSeconds") else node
