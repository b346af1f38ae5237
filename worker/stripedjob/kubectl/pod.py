"""One command in one pod: made, shown, and removed again."""

import getpass
import json
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from stripedjob.kubectl.call import Kubectl, KubectlError

LOOKING = ("status", "explain", "list", "history", "doctor")
ACTING = ("enqueue", "cancel", "retry", "release", "purge", "pause", "resume", "flush-locks")
COMMANDS = (*LOOKING, *ACTING)
ASKING = {"purge": "Remove these units for good?", "cancel": "Give these units up?"}
SAYING_WHO = ("cancel", "retry", "release", "purge", "pause", "resume")
CONTAINER = "worker"
SPEC = "STRIPEDJOB_SPEC"
OF_WORKERS = ("lifecycle", "startupProbe", "livenessProbe", "readinessProbe", "ports")
START_SECONDS_MAX = 120.0
LIFE_SECONDS_MAX = 3600  # of a pod whose caller has gone without a word
LOOK_SECONDS = 0.25
FAILED = 1


def run(kubectl: Kubectl, command: str, name: str, args: list[str]) -> int:
    """Run `stripedjob COMMAND` for a StripedJob; returns its exit code."""
    try:
        job = kubectl.get("get", "stripedjob", name)
        deployment = kubectl.get("get", "deployment", f"{name}-worker")
        with ExitStack() as stack:
            args, source = _input(command, args, stack)
            made = kubectl.get("create", "-f", "-", stdin=json.dumps(pod(job, deployment, [command, *args], source)))
            stack.callback(kubectl.ask, "delete", "pod", made["metadata"]["name"], "--wait=false", "--grace-period=0")
            return _shown(kubectl, made["metadata"]["name"], source)
    except KubectlError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except KeyboardInterrupt:
        return 130


def pod(job: Any, deployment: Any, command: list[str], source: IO[bytes] | None) -> dict[str, Any]:
    """Make the pod of the workers' own, without what makes it a worker. `command`: with its arguments, without FILE."""
    template = deployment["spec"]["template"]["spec"]
    worker = next(one for one in template["containers"] if one["name"] == CONTAINER)
    spec = {key: job[key] for key in ("apiVersion", "kind", "spec")}
    spec["metadata"] = {key: job["metadata"][key] for key in ("name", "namespace", "generation")}
    env = [one for one in worker.get("env", []) if one["name"] != SPEC] + [{"name": SPEC, "value": json.dumps(spec)}]
    container = {key: value for key, value in worker.items() if key not in OF_WORKERS} | {
        "command": ["stripedjob"],
        "args": [command[0], f"env:{SPEC}", *command[1:]],
        "env": env,
        "stdin": source is not None,
        "stdinOnce": source is not None,
    }
    kept = {key: value for key, value in template.items() if key not in ("topologySpreadConstraints", "initContainers")}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{job['metadata']['name'][:40]}-cli-{secrets.token_hex(4)}",
            "namespace": job["metadata"]["namespace"],
            "labels": {"app.kubernetes.io/name": "stripedjob-cli"},
        },
        "spec": kept
        | {
            "containers": [container],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE_SECONDS_MAX,
            "terminationGracePeriodSeconds": 1,
        },
    }


def _input(command: str, args: list[str], stack: ExitStack) -> tuple[list[str], IO[bytes] | None]:
    """Have a file of this machine read here, and given to the pod as its input."""
    if command in SAYING_WHO and not any(word.partition("=")[0] == "--who" for word in args):
        args = [*args, "--who", getpass.getuser()]  # else it would be the pod's
    if command in ASKING and "--yes" not in args:
        if not sys.stdin.isatty():
            raise KubectlError(f"{command} asks before it does anything: say --yes where nobody can answer")
        if input(f"{ASKING[command]} [y/N] ").strip().lower() not in ("y", "yes"):
            raise KubectlError("nothing was changed")
        return [*args, "--yes"], None
    if command != "enqueue" or "--from" not in args[:-1]:
        return args, None
    at = args.index("--from") + 1
    if args[at] == "-":
        return args, sys.stdin.buffer
    path = Path(args[at])
    try:
        source = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise KubectlError(f"{path}: cannot be read: {error.strerror}") from error
    known = [] if "--format" in args else ["--format", path.suffix.removeprefix(".")]
    return [*args[:at], "-", *args[at + 1 :], *known], source


def _shown(kubectl: Kubectl, name: str, source: IO[bytes] | None) -> int:
    """Show what the command says, as it says it; returns its exit code."""
    _await_start(kubectl, name)
    if source is not None:
        subprocess.run(  # noqa: S603 - what comes back is in the log as well
            kubectl.command("attach", "--stdin", "--quiet", name, "--container", CONTAINER),
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    kubectl.show("logs", "--follow", name, "--container", CONTAINER)
    return _await_end(kubectl, name)


def _await_start(kubectl: Kubectl, name: str) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    state: Any = {}
    while time.monotonic() < end:
        state = _state(kubectl, name)
        if "running" in state or "terminated" in state:
            return
        reason = state.get("waiting", {}).get("reason", "")
        if reason.startswith(("Err", "Image", "Invalid", "Create", "Run")) and reason != "ContainerCreating":
            raise KubectlError(f"the pod does not start: {reason}: {state['waiting'].get('message', '')}")
        time.sleep(LOOK_SECONDS)
    raise KubectlError(f"the pod {name} did not start in {START_SECONDS_MAX:.0f} s: kubectl describe pod {name}")


def _await_end(kubectl: Kubectl, name: str) -> int:
    while True:
        state = _state(kubectl, name)
        if "terminated" in state:
            return int(state["terminated"]["exitCode"])
        time.sleep(LOOK_SECONDS)


def _state(kubectl: Kubectl, name: str) -> Any:
    status = kubectl.get("get", "pod", name)["status"]
    found = [one["state"] for one in status.get("containerStatuses", []) if one["name"] == CONTAINER]
    if not found and status["phase"] in ("Succeeded", "Failed"):
        raise KubectlError(f"the pod {name} failed: {status.get('reason', '')} {status.get('message', '')}")
    return found[0] if found else {}
