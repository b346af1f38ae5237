"""Stand-ins for kind and Docker, which few test machines have: they note what they are asked, and keep little state.

Run as a program under the name of what it stands in for, in a folder that is all of PATH.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

NAMES = ("kind", "docker", "kubectl", "helm")


class StandIns:
    """The folder. Files in it are the state: `daemon`, `clusters` (their names), `broken`, `asked`."""

    def __init__(self, folder: Path, names: tuple[str, ...] = NAMES) -> None:
        self.folder = folder
        folder.mkdir()
        self.daemon.touch()
        for name in names:
            program = folder / name
            program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
            program.chmod(0o755)

    @property
    def daemon(self) -> Path:
        return self.folder / "daemon"

    @property
    def clusters(self) -> Path:
        return self.folder / "clusters"

    @property
    def broken(self) -> Path:
        """A cluster whose nodes do not become Ready; deleted with the cluster."""
        return self.folder / "broken"

    def asked(self) -> list[str]:
        """Return the command lines since the last call."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


def kind(state: Path, words: list[str]) -> int:
    clusters = state / "clusters"
    match words[:2]:
        case ["get", "clusters"]:
            print(clusters.read_text() if clusters.exists() else "")
        case ["create", "cluster"]:
            clusters.write_text("stripedjob\n")
            Path(words[words.index("--kubeconfig") + 1]).write_text("made\n")
        case ["export", "kubeconfig"]:
            Path(words[words.index("--kubeconfig") + 1]).write_text("exported\n")
        case ["delete", "cluster"]:
            clusters.unlink()
            (state / "broken").unlink(missing_ok=True)
    return 0


def docker(state: Path, words: list[str]) -> int:
    if not (state / "daemon").exists():
        print("Cannot connect to the Docker daemon", file=sys.stderr)
        return 1
    if words[0] == "ps" and (state / "clusters").exists():
        print("stripedjob-control-plane\tUp 2 minutes")
    return 0


def kubectl(state: Path, words: list[str]) -> int:
    return int("wait" in words and (state / "broken").exists())


if __name__ == "__main__":
    here = Path(sys.argv[0]).parent
    name = Path(sys.argv[0]).name
    with (here / "asked").open("a") as file:
        file.write(" ".join((name, *sys.argv[1:])) + "\n")
    programs: dict[str, Callable[[Path, list[str]], int]] = {"kind": kind, "docker": docker, "kubectl": kubectl}
    sys.exit(programs[name](here, sys.argv[1:]) if name in programs else 0)
