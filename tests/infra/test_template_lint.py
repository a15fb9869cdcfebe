"""The template as cfn-lint sees it: property names, values and references by AWS's own schemas, in several regions."""

from cfnlint.api import lint
from cfnlint.config import ManualArgs

from support.template import FILE

REGIONS = ["eu-central-1", "us-east-1", "ap-southeast-2"]


def findings(text: str) -> list[str]:
    return [f"{match.rule.id} line {match.linenumber}: {match.message}" for match in lint(text, config=config())]


def config() -> ManualArgs:
    return ManualArgs(regions=REGIONS, ignore_checks=["W1033"])  # as the template itself asks for, and says why


def test_the_template_has_no_findings() -> None:
    assert findings(FILE.read_text()) == []


def test_a_property_that_is_not_there_would_be_found() -> None:
    text = (
        FILE.read_text().replace("MinvCpus: 0", "MinimumVcpus: 0", 1).replace("!GetAtt TaskTable.Arn", "!GetAtt No.Arn")
    )
    rules = {finding.split()[0] for finding in findings(text)}
    assert {"E3002", "E1010"} <= rules
