"""scripts/cluster itself: which provider it takes, that it heals what was killed, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster_kit import build
from tests.cluster_kit.bare import Bare
from tests.cluster_kit.fixtures import UNAVAILABLE, await_
from tests.cluster_kit.home import BINARIES, ROOT, UnavailableError
from tests.cluster_kit.images import ALL, HANDLERS, OPERATOR, WORKER
from tests.cluster_kit.kind import Kind
from tests.cluster_kit.provider import choose
from tests.support.fake_programs import StandIns

ROUNDS = 3  # `scripts/cluster soak` does ten
SOAK_SECONDS_MAX = 240
UP_SECONDS_MAX = 30
DOWN_SECONDS_MAX = 10
NOBODY = 65534


class Site:
    """A cache of its own, and stand-ins as the only programs of PATH."""

    def __init__(self, folder: Path, stand_ins: StandIns) -> None:
        self.cache = folder / "cache"
        self.stand_ins = stand_ins
        own = {"STRIPEDJOB_CACHE": str(self.cache), "PATH": str(stand_ins.folder)}
        left_out = ("STRIPEDJOB_UV", "CI", "PIP_INDEX_URL")
        self.env = {name: value for name, value in os.environ.items() if name not in left_out} | own

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def kit(self, *words: str) -> str:
        done = self.run("tests.cluster_kit", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


BUILT = [WORKER.name, OPERATOR.name, HANDLERS.name]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, StandIns(tmp_path / "stand-ins"))


def test_with_docker_and_kind_the_cluster_is_kinds(site: Site) -> None:
    site.kit("up")
    asked = site.stand_ins.asked()
    assert "docker info" in asked
    kubeconfig = site.cache / "cluster" / "kubeconfig"
    created = [line for line in asked if line.startswith("kind create cluster")]
    assert created == [
        f"kind create cluster --config {ROOT}/kind-config.yaml --wait 120s --kubeconfig {kubeconfig}",
    ]
    status = json.loads(site.kit("status", "--json"))
    assert (status["provider"], status["level"]) == ("kind", "node")
    assert status["kubectl"] == str(site.stand_ins.folder / "kubectl")
    assert status["parts"] == {"stripedjob-control-plane": "Up 2 minutes"}
    assert site.kit("kubeconfig").strip() == str(kubeconfig)
    site.stand_ins.asked()
    site.kit("up", "--level", "control-plane")
    assert not [line for line in site.stand_ins.asked() if line.startswith("kind")]  # it is up already
    names = [image.name for image in ALL]
    assert site.kit("images").split() == names
    asked = site.stand_ins.asked()
    built = [line for line in asked if line.startswith("docker build ")]
    assert [f"--tag {name} " in line for name, line in zip(BUILT, built, strict=True)] == [True] * len(BUILT)
    assert f"--build-arg=BASE={WORKER.name}" in built[-1]
    assert len([line for line in asked if line.startswith("docker pull ")]) == 2
    assert f"kind load docker-image {' '.join(names)} --name stripedjob" in asked
    site.kit("down")
    assert "kind delete cluster --name stripedjob" in site.stand_ins.asked()
    assert not (site.cache / "cluster").exists()


def test_a_cluster_of_kind_that_is_there_is_taken_and_a_broken_one_made_anew(site: Site) -> None:
    site.stand_ins.clusters.write_text("other\nstripedjob\n")
    site.kit("up")
    kubeconfig = site.cache / "cluster" / "kubeconfig"
    assert kubeconfig.read_text() == "exported\n"
    shutil.rmtree(site.cache / "cluster")
    site.stand_ins.broken.touch()
    site.kit("up")
    assert kubeconfig.read_text() == "made\n"
    verbs = [line.split()[1] for line in site.stand_ins.asked() if line.startswith("kind")]
    assert verbs == ["get", "export", "get", "export", "delete", "create"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("docker",), "kind is not installed"),
        (("kind",), "docker is not installed"),
        (("kind", "docker"), "no Docker daemon answers"),
    ],
)
def test_why_kind_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], reason: str
) -> None:
    stand_ins = StandIns(tmp_path / "stand-ins", names)
    stand_ins.daemon.unlink()
    monkeypatch.setenv("PATH", str(stand_ins.folder))
    assert Kind().why_not("node") == reason
    monkeypatch.setattr(build, "GO_FOLDERS", "")
    monkeypatch.delenv("STRIPEDJOB_UV", raising=False)
    with pytest.raises(UnavailableError) as caught:
        choose([Kind(), Bare()], None, None)
    words = str(caught.value)
    assert f"kind at level node: {reason}" in words
    assert "bare at level node: the node's programs come from Debian's packages" in words
    assert "bare at level control-plane: neither Go nor uv was found" in words


def test_a_daemon_that_went_away_is_no_cluster_and_no_obstacle(site: Site) -> None:
    site.kit("up")
    site.stand_ins.daemon.unlink()
    assert site.run("tests.cluster_kit", "status").stdout == "no cluster is up\n"
    site.kit("down")
    done = site.run("tests.cluster_kit", "up", "--provider", "kind")
    assert done.returncode == UNAVAILABLE
    assert "no Docker daemon answers" in done.stderr


def test_the_fixture_takes_kind_or_skips_with_the_reason_and_fails_in_ci(site: Site, tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it(cluster):\n    assert cluster.provider == 'kind'\n    cluster.kubectl('version')\n")
    words = ("pytest", "-p", "tests.cluster_kit.fixtures", "-c", f"{ROOT}/pyproject.toml", str(test))
    taken = site.run(*words)
    assert "1 passed" in taken.stdout, taken.stdout + taken.stderr
    assert not (site.cache / "cluster").exists()  # what the fixture brought up it has taken down
    site.stand_ins.daemon.unlink()
    only_kind = {"STRIPEDJOB_CLUSTER_PROVIDER": "kind"}
    skipped = site.run(*words, **only_kind)
    assert "1 skipped" in skipped.stdout, skipped.stdout + skipped.stderr
    assert "kind at level node: no Docker daemon answers" in skipped.stdout
    failed = site.run(*words, CI="true", **only_kind)
    assert failed.returncode == 1
    assert "no Docker daemon answers" in failed.stdout


def test_a_build_that_was_killed_heals(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from tests.cluster_kit import build; build.ensure(['pause'])"]
    env = os.environ | {"STRIPEDJOB_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(program, cwd=ROOT, env=env, start_new_session=True)
    await_("go builds", lambda: list(tmp_path.glob("bin/.building-*/log")), 60)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    made = {BINARIES / name for name in build.module_of("pause").programs}
    assert not list(tmp_path.glob("bin/pause-*")), made
    assert list(tmp_path.glob("bin/.building-*"))
    subprocess.run(program, cwd=ROOT, env=env, check=True, timeout=120)
    (program_made,) = tmp_path.glob("bin/pause-*/pause")
    assert program_made.read_bytes()[:4] == b"\x7fELF"
    assert not list(tmp_path.glob("bin/.building-*"))


@pytest.fixture
def unprivileged_kit() -> Iterator[Callable[..., str]]:
    """Yield the command as a user without privileges runs it, with the built programs in a cache of its own.

    The cache is not in pytest's folder, which is closed to other users.
    """
    build.ensure(build.CONTROL_PLANE)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="stripedjob-") as folder:
        shutil.copytree(BINARIES, f"{folder}/bin", copy_function=_link)
        Path(folder).chmod(0o755)
        if user:
            shutil.chown(folder, NOBODY, NOBODY)
        env = os.environ | {"STRIPEDJOB_CACHE": folder, "HOME": folder, "PYTHONDONTWRITEBYTECODE": "1"}

        def kit(*words: str) -> str:
            command = [*user, sys.executable, "-m", "tests.cluster_kit", *words]
            done = subprocess.run(
                command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SOAK_SECONDS_MAX, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stderr

        try:
            yield kit
        finally:
            kit("down")
        assert not Path(folder, "cluster").exists()


def test_up_and_down_without_root_many_times_leave_nothing(unprivileged_kit: Callable[..., str]) -> None:
    said = unprivileged_kit("soak", f"--times={ROUNDS}", "--provider=bare", "--level=control-plane")
    rounds = re.findall(r"up after ([\d.]+) s, down after ([\d.]+) s", said)
    assert len(rounds) == ROUNDS, said
    assert max(float(up) for up, _ in rounds) < UP_SECONDS_MAX
    assert max(float(down) for _, down in rounds) < DOWN_SECONDS_MAX


def _link(source: str, target: str) -> str:
    """Share the file where that can be: the programs are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
