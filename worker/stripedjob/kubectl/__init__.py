"""`kubectl striped`: the commands of `stripedjob` for a StripedJob in a cluster, with the rights of whoever calls it.

A command runs in a pod of its own, made of the pods of the job's workers: their image, their Secrets, their place. So
it works with no worker at all, reaches a database that only the cluster reaches, and says what `stripedjob` says.
Whoever may make a pod in the namespace may read the Secrets there anyway, so that nobody gets a right by it (ADR 21).
"""

import os
import shutil
import sys

from stripedjob.kubectl import ui
from stripedjob.kubectl.call import Kubectl, KubectlError
from stripedjob.kubectl.pod import COMMANDS, FAILED, run

WORDS = f"""The commands of stripedjob, for a StripedJob in a cluster.

  kubectl striped status listings
  kubectl striped explain listings listing-7 -n shop
  kubectl striped enqueue listings --from units.csv
  kubectl striped logs listings -f
  kubectl striped ui

kubectl striped COMMAND NAME [options of stripedjob COMMAND] [-n NAMESPACE] [--context C] [--kubeconfig F]
COMMAND: {", ".join(COMMANDS)}, logs; and `kubectl striped ui`, the page of the cluster
Each runs in a pod of its own, by your rights: to get StripedJobs and Deployments, to create, read and delete pods."""
OF_KUBECTL = ("-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user", "--as")
USAGE = 2


def main(args: list[str] | None = None) -> None:
    """Run the plugin; ends the process with the command's own exit code."""
    options, words = _split(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help", "help"):
        print(WORDS)  # noqa: T201
        sys.exit(0 if words else USAGE)
    command, *rest = words
    if command not in (*COMMANDS, "logs", "ui"):
        sys.exit(_wrong(f"there is no command {command!r}; one of {', '.join(COMMANDS)}, logs, ui"))
    if command == "ui":
        sys.exit(_page(options, rest))
    if not rest or rest[0].startswith("-"):
        sys.exit(_wrong(f"name the StripedJob: kubectl striped {command} NAME"))
    program = shutil.which("kubectl")
    if program is None:
        sys.exit(_wrong("kubectl is not on this PATH"))
    kubectl = Kubectl(program, tuple(options))
    name, *more = rest
    if command == "logs":
        logs = kubectl.command("logs", "--selector", f"striped.dev/job={name}", "--prefix", "--tail=100", *more)
        os.execv(program, logs)  # noqa: S606
    sys.exit(run(kubectl, command, name, more))


def _page(options: list[str], args: list[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        print(ui.WORDS)  # noqa: T201
        return 0
    program = shutil.which("kubectl")
    if program is None:
        return _wrong("kubectl is not on this PATH")
    try:
        return ui.open_page(Kubectl(program, tuple(options)), args)
    except ValueError as error:
        return _wrong(str(error))
    except KubectlError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return FAILED


def complete(args: list[str] | None = None) -> None:
    """Say what may come next: kubectl asks `kubectl_complete-striped`."""
    _, words = _split(sys.argv[1:] if args is None else args)
    found: list[str] = []
    if len(words) <= 1:
        found = [*COMMANDS, "logs", "ui"]
    elif len(words) == 2 and words[0] != "ui" and (program := shutil.which("kubectl")):  # noqa: PLR2004
        answer = Kubectl(program, ()).ask("get", "stripedjobs", "-o", "jsonpath={.items[*].metadata.name}")
        found = answer.stdout.split() if answer.returncode == 0 else []
    print(*(one for one in found if one.startswith(words[-1] if words else "")), ":4", sep="\n")  # noqa: T201 - no files


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """Take kubectl's own options out, wherever they stand before a `--`."""
    options, words, left = [], [], list(args)
    while left:
        word = left.pop(0)
        if word == "--":
            words += left
            break
        if word in OF_KUBECTL and left:
            options += [word, left.pop(0)]
        elif word.partition("=")[0] in OF_KUBECTL:
            options.append(word)
        else:
            words.append(word)
    return options, words


def _wrong(words: str) -> int:
    print(f"error: {words}", file=sys.stderr)  # noqa: T201
    return USAGE
