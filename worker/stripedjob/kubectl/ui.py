"""`kubectl striped ui`: the page of the cluster on this machine, seen with the rights of whoever calls it.

The page wants a bearer token, which a browser does not send. So requests go through a proxy on 127.0.0.1, which adds
the token that kubectl itself would send, or one of a service account, and then through a port-forward to the Service.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stripedjob.kubectl.call import Kubectl, KubectlError

WORDS = """The page of this cluster on 127.0.0.1, with your rights, until Ctrl-C.

  kubectl striped ui
  kubectl striped ui stripedjob-ui -n stripedjob --port 8095
  kubectl striped ui --token-of looker -n shop

kubectl striped ui [SERVICE] [--port N] [--token-of SERVICEACCOUNT] [-n NAMESPACE] [--context C] [--kubeconfig F]
It wants a page in the cluster (ui.enabled of the chart), and the right to port-forward to its pod."""
SELECTOR = "app.kubernetes.io/name=stripedjob,app.kubernetes.io/component=ui"
NO_PAGE = (
    "there is no page{where}: helm upgrade RELEASE deploy/helm/stripedjob --reuse-values --set ui.enabled=true "
    "--set ui.secret.name=SECRET --set ui.secret.key=url brings it (docs/ui.md); or name its namespace with -n"
)
NO_BEARER = (
    "kubectl has no bearer token to show who you are, such as with a client certificate: "
    "--token-of NAME takes one of a service account of this namespace"
)
PORT = 8095
START_SECONDS_MAX = 30.0
FORWARDED = "Forwarding from 127.0.0.1:"
INTERRUPTED = 130


def open_page(kubectl: Kubectl, args: list[str]) -> int:
    """Show the page until Ctrl-C; returns the exit code. Raises KubectlError, ValueError for wrong words."""
    service, port, account = _wanted(args)
    name, namespace = _found(kubectl, service)
    ask = partial(_token_of, kubectl, account) if account else partial(_own_token, kubectl)
    ask()  # where there is none, nothing is begun
    return asyncio.run(_show(kubectl, name, namespace, port, ask))


def _wanted(args: list[str]) -> tuple[str | None, int, str | None]:
    """Read the words: the Service, the port, whose token."""
    service, port, account, left = None, PORT, None, list(args)
    while left:
        word, _, value = left.pop(0).partition("=")
        if word in ("--port", "--token-of"):
            value = value or (left.pop(0) if left else "")
            if not value or (word == "--port" and not (value.isascii() and value.isdigit() and int(value) < 2**16)):
                raise ValueError(f"{word} wants {'a port' if word == '--port' else 'the name of a service account'}")
            port, account = (int(value), account) if word == "--port" else (port, value)
        elif word.startswith("-") or service is not None:
            raise ValueError(f"{word!r} is not understood; see kubectl striped ui --help")
        else:
            service = word
    return service, port, account


def _found(kubectl: Kubectl, service: str | None) -> tuple[str, str]:
    """Find the page's Service: in the namespace that was given, else in all, or where that may not be seen in ours."""
    has_namespace = any(word.partition("=")[0] in ("-n", "--namespace") for word in kubectl.options)
    try:
        everywhere = () if has_namespace else ("--all-namespaces",)
        found = kubectl.get("get", "services", "--selector", SELECTOR, *everywhere)["items"]
    except KubectlError:
        if has_namespace:
            raise
        found = kubectl.get("get", "services", "--selector", SELECTOR)["items"]
    pages = [(one["metadata"]["name"], one["metadata"]["namespace"]) for one in found]
    matching = [one for one in pages if service in (None, one[0])]
    if not matching:
        raise KubectlError(NO_PAGE.format(where=f" called {service}" if service else ""))
    if len(matching) > 1:
        names = ", ".join(f"{name} -n {namespace}" for name, namespace in matching)
        raise KubectlError(f"there are {len(matching)} pages, say which: {names}")
    return matching[0]


def _token_of(kubectl: Kubectl, account: str) -> str:
    done = kubectl.ask("create", "token", account)
    if done.returncode:
        raise KubectlError(done.stderr.strip())
    return done.stdout.strip()


def _own_token(kubectl: Kubectl) -> str:
    """Return the token that kubectl sends; raises KubectlError where it sends none."""
    config = kubectl.get("config", "view", "--raw", "--minify", "--flatten")
    user = next((one["user"] for one in config.get("users") or []), None) or {}
    if user.get("tokenFile"):
        return Path(user["tokenFile"]).read_text("utf-8").strip()
    token = user.get("token") or (_token_by(user["exec"]) if user.get("exec") else "")
    if not token:
        raise KubectlError(NO_BEARER)
    return str(token)


def _token_by(plugin: dict[str, Any]) -> str:
    """Run a credential plugin as kubectl does; "" where it gives a certificate."""
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    given = {one["name"]: one["value"] for one in plugin.get("env") or []}
    done = subprocess.run(  # noqa: S603 - the user's own configuration names it
        [plugin["command"], *(plugin.get("args") or [])],
        env=os.environ | given | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise KubectlError(f"{plugin['command']}, which kubectl logs in with, ended with {done.returncode}")
    return str(json.loads(done.stdout).get("status", {}).get("token") or "")


async def _show(kubectl: Kubectl, name: str, namespace: str, port: int, ask: Callable[[], str]) -> int:
    from stripedjob.kubectl.proxy import proxying  # noqa: PLC0415 - other commands are quick without it

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with _forwarded(kubectl, name, namespace) as (forward, target), proxying(port, target, ask) as url:
        print(f"the page is at {url}; Ctrl-C ends it", flush=True)  # noqa: T201
        ended = asyncio.create_task(forward.wait())
        waits = asyncio.create_task(stopped.wait())
        await asyncio.wait({ended, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if not stopped.is_set():
            raise KubectlError("the port-forward has ended: its pod was replaced, or the cluster is away")
    return INTERRUPTED


@asynccontextmanager
async def _forwarded(
    kubectl: Kubectl, name: str, namespace: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Forward a free port of this machine to a Service; gives the process, and the port."""
    command = kubectl.command(
        "port-forward", f"service/{name}", ":http", "--address=127.0.0.1", f"--namespace={namespace}"
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us, who end it
    )
    assert process.stdout is not None  # noqa: S101 - asked for
    assert process.stderr is not None  # noqa: S101
    draining: list[asyncio.Task[bytes]] = []
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            line = (await process.stdout.readline()).decode()
        if not line.startswith(FORWARDED):
            words = (await process.stderr.read()).decode().strip()
            raise KubectlError(f"the page {name} in namespace {namespace} cannot be reached: {words or line}")
        draining = [asyncio.create_task(stream.read()) for stream in (process.stdout, process.stderr)]
        yield process, int(line.removeprefix(FORWARDED).partition(" ")[0])
    except TimeoutError:
        raise KubectlError(f"kubectl port-forward said nothing for {START_SECONDS_MAX:.0f} s") from None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        for task in draining:
            task.cancel()
