"""`kubectl striped`: what it makes of the words of a person, and of a worker's pod."""

from __future__ import annotations

import io
from typing import Any

import pytest

from stripedjob import kubectl
from stripedjob.kubectl.pod import pod

WORKER: dict[str, Any] = {
    "name": "worker",
    "image": "registry.example.com/listings:7",
    "command": ["sh", "-c", "exec stripedjob worker"],
    "args": ["worker"],
    "env": [{"name": "STRIPEDJOB_SPEC", "value": "{}"}, {"name": "STRIPEDJOB_POSTGRES_URL", "value": "postgres://p"}],
    "lifecycle": {"preStop": {}},
    "livenessProbe": {},
    "resources": {"requests": {"cpu": "50m"}},
}
DEPLOYMENT = {"spec": {"template": {"spec": {"containers": [WORKER, {"name": "sidecar"}], "serviceAccountName": "a"}}}}
JOB = {
    "apiVersion": "striped.dev/v1alpha1",
    "kind": "StripedJob",
    "metadata": {"name": "listings", "namespace": "shop", "generation": 3, "managedFields": []},
    "spec": {"suspend": True},
    "status": {},
}


def test_the_pod_is_a_workers_without_what_makes_it_one() -> None:
    made = pod(JOB, DEPLOYMENT, ["explain", "listing-7"], None)
    [container] = made["spec"]["containers"]
    assert container["image"] == WORKER["image"]
    assert container["command"] == ["stripedjob"]
    assert container["args"] == ["explain", "env:STRIPEDJOB_SPEC", "listing-7"]
    assert not container.keys() & {"lifecycle", "livenessProbe"}
    assert not container["stdin"]
    assert made["spec"]["serviceAccountName"] == "a"
    assert made["spec"]["restartPolicy"] == "Never"
    assert "striped.dev/job" not in made["metadata"]["labels"]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert env["STRIPEDJOB_POSTGRES_URL"] == "postgres://p"
    assert '"suspend": true' in env["STRIPEDJOB_SPEC"]
    assert "managedFields" not in env["STRIPEDJOB_SPEC"]


def test_input_is_open_where_there_is_some() -> None:
    assert pod(JOB, DEPLOYMENT, ["enqueue", "--from", "-"], io.BytesIO())["spec"]["containers"][0]["stdinOnce"]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("-n shop status a --json", "-n shop", "status a --json"),
        ("status a --context=c --watch", "--context=c", "status a --watch"),
        ("explain a -- -n", "", "explain a -n"),
        ("status a --namespace shop", "--namespace shop", "status a"),
    ],
)
def test_kubectls_options_stand_anywhere(given: str, options: str, words: str) -> None:
    assert kubectl._split(given.split()) == (options.split(), words.split())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["nosuch", "a"], "there is no command 'nosuch'"),
        (["status"], "name the StripedJob: kubectl striped status NAME"),
    ],
)
def test_wrong_words_are_said(given: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        kubectl.main(given)
    assert ended.value.code == kubectl.USAGE
    assert words in capsys.readouterr().err


def test_completion_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    kubectl.complete(["re"])
    assert capsys.readouterr().out.split() == ["retry", "release", "resume", ":4"]
