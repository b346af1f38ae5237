"""Images without a registry: a base from Debian's packages, the project's Dockerfiles and two databases on it.

Each becomes a docker-archive under the cache, named after the content that it was built from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster_kit import build, debian, machine
from tests.cluster_kit.home import ARCHIVES, KIT, ROOT, ClusterError, run, say

from stripedjob import __version__, filelock

PAUSE = "stripedjob.test/pause:1"
BASE = "stripedjob.test/base:1"
SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
PACKAGES = ("buildah", "mmdebstrap", "ca-certificates")
BUILD_SECONDS_MAX = 1800
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # of this machine: a proxy may have its own


@dataclass(frozen=True)
class Image:
    """One image. `inputs`: what of the checkout goes into it. `official`: what kind takes in its place.

    `base`: the image, before it in `ALL`, that it is built on.
    """

    name: str
    dockerfile: Path
    inputs: tuple[str, ...] = ()
    official: str = ""
    base: Image | None = None

    @property
    def context(self) -> Path:
        return ROOT if self.inputs else self.dockerfile.parent

    @property
    def digest(self) -> str:
        """Hash what it is built from."""
        base = self.base.digest if self.base else (platform.machine(), SUITE, BASE_PACKAGES)
        content = hashlib.sha256(repr((self.name, base)).encode())
        if self.inputs:
            listed = run(
                ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *self.inputs], cwd=ROOT
            )
            files = [ROOT / name for name in sorted(set(listed.split("\0"))) if name]
        else:
            files = sorted(self.context.iterdir())
        for file in files:
            if file.is_file():
                content.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
        return content.hexdigest()[:16]

    @property
    def archive(self) -> Path:
        return ARCHIVES / f"{self.name.rsplit('/', 1)[1].replace(':', '-')}-{self.digest}.tar"


SOURCES = (
    *("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore"),
    *("worker", "operator", "scripts/lib/uv.txt"),
)
WORKER = Image(f"ghcr.io/stripedjob/worker:{__version__}", ROOT / "Dockerfile.worker", ("Dockerfile.worker", *SOURCES))
OPERATOR = Image(
    f"ghcr.io/stripedjob/operator:{__version__}", ROOT / "Dockerfile.operator", ("Dockerfile.operator", *SOURCES)
)
DOCKER = KIT / "docker"
POSTGRES = Image(
    "stripedjob.test/postgres:1", DOCKER / "postgres" / "Dockerfile", official="docker.io/library/postgres:18"
)
REDIS = Image("stripedjob.test/redis:1", DOCKER / "redis" / "Dockerfile", official="docker.io/valkey/valkey:9")
HANDLERS = Image("stripedjob.test/handlers:1", DOCKER / "handlers" / "Dockerfile", base=WORKER)
ALL = (WORKER, OPERATOR, POSTGRES, REDIS, HANDLERS)


def ensure() -> list[Path]:
    """Build every archive that is missing; one process builds, others wait for it."""
    missing = [image for image in ALL if not image.archive.exists()]
    if missing:
        debian.ensure(PACKAGES)
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        descriptor = filelock.take(ARCHIVES / ".lock", seconds=BUILD_SECONDS_MAX)
        if descriptor is None:
            raise ClusterError(f"another build has held {ARCHIVES / '.lock'} for {BUILD_SECONDS_MAX} s")
        try:
            _buildah("rm", "--all")  # what a build that was killed has left
            _base()
            for number, image in enumerate(missing, 1):
                if not image.archive.exists():
                    say(f"building the image {image.name} ({number} of {len(missing)})")
                    _build(image)
        finally:
            machine.unmount(f"{ARCHIVES.resolve()}/")  # buildah leaves its store mounted
            os.close(descriptor)
    return [image.archive for image in ALL]


def pause() -> Path:
    """Make the image that holds a pod's namespaces: one static program."""
    program = build.path("pause")
    archive = ARCHIVES / f"{program.parent.name}.tar"
    if not archive.exists():
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            info = tarfile.TarInfo("pause")
            info.mode, info.size = 0o755, program.stat().st_size
            with program.open("rb") as file:
                tar.addfile(info, file)
        digest = hashlib.sha256(layer.getvalue()).hexdigest()
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
        made = archive.with_suffix(".part")
        with tarfile.open(made, mode="w") as tar:
            for name, content in (
                ("config.json", json.dumps(config).encode()),
                ("layer.tar", layer.getvalue()),
                ("manifest.json", json.dumps(manifest).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        made.rename(archive)
    return archive


def _buildah(*words: str | Path, seconds: float = 300, log: Path | None = None) -> str:
    store = ARCHIVES / "store"
    return run(
        ["buildah", "--storage-driver", "overlay", "--root", store / "root", "--runroot", store / "run", *words],
        env={"BUILDAH_ISOLATION": "chroot"},
        seconds=seconds,
        log=log,
    )


def _base() -> None:
    """Make the base image: what `python:3-slim` is elsewhere."""
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    say(f"making the base image from Debian {SUITE}")
    with tempfile.TemporaryDirectory(prefix=".base-", dir=ARCHIVES) as folder:
        root = Path(folder, "root.tar")
        packages = ",".join(BASE_PACKAGES)
        run(["mmdebstrap", "--variant=minbase", f"--include={packages}", SUITE, root], seconds=900)
        container = _buildah("from", "scratch").strip()
        try:
            _buildah("add", container, root, "/")
            _buildah("commit", container, BASE)
        finally:
            _buildah("rm", container)


def _build(image: Image) -> None:
    base = image.base.name if image.base else BASE
    arguments = {"BASE": base, "PIP_CERT": str(CERTIFICATES), "SSL_CERT_FILE": str(CERTIFICATES)}
    for name in ("PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            arguments[name] = os.environ[name]
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    part = image.archive.with_suffix(".part")
    part.unlink(missing_ok=True)
    _buildah(
        *("build", "--pull=never", "--layers", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", *words),
        *("--tag", image.name, "--file", image.dockerfile, image.context),
        seconds=BUILD_SECONDS_MAX,
        log=image.archive.with_suffix(".log"),
    )
    _buildah("push", image.name, f"docker-archive:{part}:{image.name}")
    part.rename(image.archive)
    image.archive.with_suffix(".log").unlink(missing_ok=True)
    for older in ARCHIVES.glob(f"{image.archive.name.rsplit('-', 1)[0]}-*"):
        if older != image.archive:
            older.unlink()
