"""Every constraint of the schema, on a real API server: what breaks it is refused with a message that names the field.

`stripedjob validate` gives the same answer for a file, and a test ties the two.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kubernetes.client import ApiClient, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_kube_config
from tests.support.invalid_specs import BREAKS, OTHERWISE, Example, bad, base, good, rules, with_spec

from stripedjob.spec.load import SpecError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster_kit.fixtures import Program, RunningCluster
    from tests.support.operators import Jobs

PLACE = ("striped.dev", "v1alpha1", "default", "stripedjobs")


@pytest.fixture(scope="module")
def api(cluster: RunningCluster, crd: None) -> Iterator[CustomObjectsApi]:  # noqa: ARG001
    load_kube_config(cluster.kubectl.kubeconfig)  # type: ignore[no-untyped-call]
    with ApiClient() as client:
        yield CustomObjectsApi(client)


def refusal(api: CustomObjectsApi, job: dict[str, Any]) -> str:
    """Say why the API server refuses a StripedJob; nothing where it does not."""
    try:
        api.create_namespaced_custom_object(*PLACE, job, dry_run="All", field_validation="Strict")
    except ApiException as error:
        return str(json.loads(error.body or "{}")["message"])
    return ""


def mistakes(job: dict[str, Any]) -> str:
    """Say what `stripedjob validate` finds in a file."""
    try:
        parse(yaml.safe_dump(job))
    except SpecError as error:
        return str(error)
    return ""


def test_every_rule_has_an_example() -> None:
    covered = [*BREAKS, *OTHERWISE]
    without = [message for message in rules() if not any(message.startswith(one) for one in covered)]
    assert not without, "a rule without an example that breaks it"
    unused = [one for one in covered if not any(message.startswith(one) for message in rules())]
    assert not unused, "an example for a rule that is not there"


@pytest.mark.acceptance("A13")
@pytest.mark.parametrize("example", list(bad()), ids=str)
def test_what_breaks_a_constraint_is_refused_and_named(api: CustomObjectsApi, example: Example) -> None:
    said = refusal(api, example.job)
    assert example.field in said
    assert "evaluating rule" not in said or "time zone" in said  # CEL ran into no error of its own
    if example.because in BREAKS:
        assert example.because in said
    if not example.in_a_cluster_alone:
        assert example.field in mistakes(example.job)


@pytest.mark.parametrize("example", list(good()), ids=str)
def test_what_is_at_a_bound_is_accepted(api: CustomObjectsApi, example: Example) -> None:
    assert refusal(api, example.job) == ""
    assert mistakes(example.job) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 47, ""),
        ("a" * 48, "metadata.name: must have at most 47 characters"),
        ("a.b", "metadata.name: must be of a-z, 0-9 and -"),
        ("A", "metadata.name"),
    ],
)
def test_names(api: CustomObjectsApi, name: str, message: str) -> None:
    said = refusal(api, base(name))
    assert message in said
    assert bool(said) == bool(mistakes(base(name))) == bool(message)


# Where Go's idea of a zone, a URL or a pattern might differ from Python's.
@pytest.mark.parametrize(
    "over",
    [
        *({"schedule": {"cron": "* * * * *", "timeZone": zone}} for zone in ("UTC", "Etc/GMT+12", "Asia/Kolkata")),
        *({"schedule": {"cron": "* * * * *", "timeZone": zone}} for zone in ("+02:00", "Local", "../UTC", "Europe")),
        *({"schedule": {"cron": cron}} for cron in ("*/5  * * * *", "0 0 ? * *", "@daily", "* * * * * *", "0 0 * * 8")),
        *({"handler": {"python": None, "http": url}} for url in ("http://a", "http://[::1]:80/", "http://a/b?c=d#e")),
        *({"handler": {"python": None, "http": url}} for url in ("http://", "http:///a", "a", "http://a b", "//a/b")),
        *({"handler": {"python": name}} for name in ("módulo:f", "a:b:c", "a.b", "a:1", "a:b\n", "_a._b:_c.d")),
        *({"pool": {"secretRef": {"name": name, "key": "a"}}} for name in ("a/../b", "A", "a..b", "a_b", "a.b")),
        *({"pool": {"secretRef": {"name": "a", "key": key}}} for key in ("a/b", "A_b.c-d", "a b")),
        *({"template": template} for template in ({"spec": {"containers": [], "x": 1}}, {"metadata": {}, "x": 1})),
    ],
    ids=str,
)
def test_a_file_is_judged_as_the_api_server_judges_it(api: CustomObjectsApi, over: dict[str, Any]) -> None:
    job = with_spec(over)
    assert bool(mistakes(job)) == bool(refusal(api, job))


@pytest.mark.acceptance("A13")
def test_kubectl_shows_the_message(crd: None, kubectl: Program) -> None:  # noqa: ARG001
    for over, words in (
        ({"scheduleLimit": -1}, "spec.scheduleLimit in body should be greater than or equal to 0"),
        ({"schedule": {"cron": "every day"}}, "spec.schedule.cron: must be the five fields of cron"),
        ({"lock": {"backend": "Etcd"}}, 'spec.lock.backend: Unsupported value: "Etcd": supported values: "Redis"'),
        ({"strategi": "FIFO"}, 'unknown field "spec.strategi"'),
    ):
        done = kubectl.done("apply", "-f", "-", stdin=yaml.safe_dump(with_spec(over)))
        assert done.returncode == 1
        assert words in done.stderr


def test_job_type_cannot_be_changed_and_the_limit_holds_for_scale(jobs: Jobs) -> None:
    jobs.apply()
    jobs.apply("typed", jobType="pool")
    for name, job_type in (("job", "other"), ("typed", "other"), ("typed", None)):
        patch = json.dumps({"spec": {"jobType": job_type}})
        done = jobs.kubectl.done("patch", "stripedjob", name, "--type=merge", "-p", patch)
        assert "spec.jobType: cannot be changed" in done.stderr
    jobs.kubectl("scale", "stripedjob/job", "--replicas=3")
    done = jobs.kubectl.done("scale", "stripedjob/job", "--replicas=4")
    assert "spec.replicas: must not be above scheduleLimit" in done.stderr
    done = jobs.kubectl.done("patch", "stripedjob", "job", "--type=merge", "-p", '{"spec": {"scheduleLimit": 2}}')
    assert "spec.replicas: must not be above scheduleLimit" in done.stderr


@pytest.mark.usefixtures("operator")
def test_what_the_api_server_cannot_see_becomes_a_condition(jobs: Jobs) -> None:
    """A range that runs backwards and a day that no month has are beyond a pattern."""
    for name, cron in (("range", "5-1 * * * *"), ("day", "0 0 31 2 *")):
        jobs.apply(name, schedule={"cron": cron})
        assert "spec.schedule.cron: must be the five fields" in jobs.until("Ready", "InvalidSpec", name)["message"]
    jobs.apply("range", schedule={"cron": "1-5 * * * *"})
    jobs.until("Ready", "Idle", "range")
