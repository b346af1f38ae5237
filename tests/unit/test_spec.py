from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.support import invalid_specs

from stripedjob.spec.crd import crd, crd_yaml
from stripedjob.spec.load import SpecError, load, parse
from stripedjob.spec.rules import RULES

if TYPE_CHECKING:
    from stripedjob.spec.model import StripedJob

ROOT = Path(__file__).parents[2]


def job(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "striped.dev/v1alpha1",
        "kind": "StripedJob",
        "metadata": {"name": "listing"},
        "spec": {"handler": {"python": "a.b:c"}} | spec,
    }


def parsed(**spec: Any) -> StripedJob:
    return parse(yaml.safe_dump(job(**spec)))


def mistakes(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, "f.yaml")
    return str(caught.value)


def test_the_smallest_job_has_all_defaults() -> None:
    one = parsed()
    assert (one.job_type, one.metadata.namespace, one.effective_limit, one.on_failure) == (
        "listing",
        "default",
        1,
        "Skip",
    )
    assert (one.spec.handler.kind, one.spec.handler.target) == ("python", ("a.b:c",))


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ({"scheduleLimit": 5}, 5),
        ({"scheduleLimit": 5, "parallel": False}, 1),
        ({"scheduleLimit": 0, "parallel": False}, 0),
        ({"scheduleLimit": 5, "suspend": True}, 0),
    ],
)
def test_the_effective_limit(spec: dict[str, Any], limit: int) -> None:
    assert parsed(**spec).effective_limit == limit


def test_fifo_blocks_unless_told_otherwise() -> None:
    assert parsed(strategy="FIFO").on_failure == "Block"
    assert parsed(strategy="FIFO", retry={"onFailure": "Skip"}).on_failure == "Skip"


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"handler": {}}, "spec.handler: give exactly one"),
    ({"handler": {"python": "a:b", "exec": ["x"]}}, "spec.handler: give exactly one"),
    ({"handler": {"exec": ["x"], "per": "Resource"}}, "spec.handler.per: "),
    ({"handler": {"http": "http://x", "transaction": True}}, "spec.handler.transaction: "),
    ({"handler": {"http": "http://x", "around": "a:b"}}, "spec.handler.around: "),
    ({"handler": {"http": "ftp://x"}}, "spec.handler.http: must be an http"),
    ({"pool": {"schema": "pg_jobs"}}, "spec.pool.schema: must not begin with pg_"),
    ({"pool": {"schema": "ä" * 32}}, "spec.pool.schema: must not be longer than 63 bytes"),
    ({"schedule": {"cron": "99 * * * *"}}, "spec.schedule.cron: must be the five fields"),
    ({"schedule": {"cron": "* * * * *", "timeZone": "Mars"}}, "spec.schedule.timeZone: there is no such"),
    ({"minWorkers": 2}, "spec.minWorkers: must not be above"),
    ({"replicas": 2}, "spec.replicas: must not be above"),
    ({"throttle": {}}, "spec.throttle: goes with strategy Throttled alone"),
    ({"strategy": "Throttled"}, "spec.throttle: strategy Throttled needs"),
    ({"template": {"spec": {"terminationGracePeriodSeconds": 60}}}, "spec.drainSeconds: "),
    ({"retry": {"backoffSeconds": 601}}, "spec.retry.backoffSeconds: "),
]


@pytest.mark.parametrize(("spec", "message"), BROKEN)
def test_each_rule_that_crosses_fields(spec: dict[str, Any], message: str) -> None:
    assert message in mistakes(yaml.safe_dump(job(**spec)))


def test_every_rule_has_a_case_and_a_place_in_the_crd() -> None:
    assert len(RULES) == len({message for _, message in BROKEN}), "a rule without a case, or a case without a rule"
    in_crd = crd_yaml()
    for rule in RULES:
        assert any(message.startswith(f"{rule.field}: ") for _, message in BROKEN)
        assert rule.field in in_crd


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  strategi: Mutex", "f.yaml:6: spec.strategi: there is no such field; did you mean strategy?"),
        (
            "  strategy: Mutx",
            "f.yaml:6: spec.strategy: 'Mutx' is not one of Mutex, Delegator, FIFO, Throttled; did",
        ),
        ("  scheduleLimit: -1", "f.yaml:6: spec.scheduleLimit: -1 is out of bounds: input should be greater"),
        ('  scheduleLimit: "5"', "f.yaml:6: spec.scheduleLimit: must be a whole number, not '5'"),
        ("  suspend: 1", "f.yaml:6: spec.suspend: must be true or false, not 1"),
        ("  jobType: yes", "f.yaml:6: spec.jobType: must be text, and YAML reads it as True; put it in quotes"),
        ("  schedule: {cron: '99 * * * *'}", "f.yaml:6: spec.schedule.cron: must be the five fields of cron"),
        (
            "  schedule: {cron: '* * * * *', timeZone: Mars}",
            "f.yaml:6: spec.schedule.timeZone: there is no such time",
        ),
        ("  lock: {leaseSeconds: 1}", "f.yaml:6: spec.lock.leaseSeconds: 1 is out of bounds"),
        ("  retry: 5", "f.yaml:6: spec.retry: must be a mapping, not 5"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_out(line: str, message: str) -> None:
    head = (
        "apiVersion: striped.dev/v1alpha1\nkind: StripedJob\nmetadata: {name: a}\nspec:\n  handler: {python: 'a:b'}\n"
    )
    assert message in mistakes(head + line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml: holds no StripedJob"),
        ("- a", "f.yaml: holds no StripedJob"),
        ("a: [", "f.yaml:1: is not YAML"),
        ("kind: StripedJob\napiVersion: v1", "f.yaml:2: apiVersion: 'v1' is not one of striped.dev/v1alpha1"),
        ("kind: StripedJob", "f.yaml:1: spec: is missing; add it"),
        ("kind: StripedJob\n---\nkind: StripedJob", "f.yaml: holds 2 StripedJobs"),
    ],
)
def test_a_file_that_is_no_job(text: str, message: str) -> None:
    assert message in mistakes(text)


def made_by(example: invalid_specs.Example) -> int:
    return 2 if example.field == "spec.schedule.enqueue.nosuch" else 1  # its sql is missing, too


ALONE = [one for one in invalid_specs.bad() if not one.in_a_cluster_alone]


@pytest.mark.parametrize("example", ALONE, ids=str)
def test_every_mistake_is_named_once_in_plain_words(example: invalid_specs.Example) -> None:
    lines = mistakes(json.dumps(example.job)).splitlines()
    assert len(lines) == made_by(example)
    line = next(line for line in lines if example.field in line)
    assert not re.search(r"[\^$]|\[a-z]|\\", line.replace(repr("No!\tsuch"), "")), "a regular expression"


@pytest.mark.parametrize(
    "example", [one for one in ALONE if one.field.count(".") and one.because != "required"], ids=str
)
def test_a_mistake_hides_no_rule_that_crosses_fields(example: invalid_specs.Example) -> None:
    if example.field.startswith(("spec.retry", "spec.template")):
        more: dict[str, Any] = {"pool": {"schema": "pg_mine"}}
        field = "spec.pool.schema"
    else:
        more, field = {"retry": {"backoffSeconds": 601}}, "spec.retry.backoffSeconds"
    job = example.job | {"spec": invalid_specs.laid(example.job["spec"], more)}
    lines = mistakes(json.dumps(job)).splitlines()
    assert len(lines) == made_by(example) + 1
    assert any(example.field in line for line in lines)
    assert any(f"{field}: must not" in line for line in lines)


def test_another_file_altogether_is_one_mistake() -> None:
    (line,) = mistakes(
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: My_App}\nspec: {replicas: x}"
    ).splitlines()
    assert line.startswith("f.yaml:1: is no StripedJob: kind is 'Deployment'")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfa")
    for name, message in (("missing", "cannot be read: No such file"), ("latin", "is not UTF-8")):
        with pytest.raises(SpecError, match=message):
            load(tmp_path / name)


def test_a_job_is_found_among_other_documents() -> None:
    text = "kind: Secret\n---\n" + yaml.safe_dump(job())
    assert parse(text).metadata.name == "listing"


def test_the_checked_in_crd_is_the_models() -> None:
    path = ROOT / "deploy/crds/stripedjobs.yaml"
    assert path.read_text() == crd_yaml(), "run: stripedjob crd > deploy/crds/stripedjobs.yaml"


def test_the_schema_is_structural() -> None:
    def walk(schema: dict[str, Any], path: str) -> None:
        assert "type" in schema, path
        assert not {"anyOf", "$ref", "allOf", "title"} & set(schema), path
        for name, one in schema.get("properties", {}).items():
            walk(one, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}[]")

    (version,) = crd()["spec"]["versions"]
    walk(version["schema"]["openAPIV3Schema"], "")
