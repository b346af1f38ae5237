"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of this machine. Needs no root.

Everything listens on one address: loopback, or the node's bridge where there are pods. Users are tokens of one file.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml
from tests.cluster_kit import build, processes
from tests.cluster_kit.home import LOGS, STATE

SERVICES = "10.96.0.0/16"
PKI = STATE / "pki"
KUBECONFIG = STATE / "kubeconfig"
READY_SECONDS_MAX = 60
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
USERS = {  # name of the user: its groups
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    "system:node:striped": "system:nodes",
    "dns": "system:masters",
}


@dataclass(frozen=True)
class ControlPlane:
    """Where the API server is, and the tokens of its users."""

    address: str
    port: int
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    def kubeconfig(self, user: str, file: Path) -> Path:
        """Write what `user` needs to log in."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "stripedjob", "cluster": {"server": self.url, "certificate-authority": str(PKI / "ca.crt")}}
            ],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "stripedjob", "context": {"cluster": "stripedjob", "user": user}}],
            "current-context": "stripedjob",
        }
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(config))
        return file


def start(address: str, *, is_node: bool) -> ControlPlane:
    """Start all four, and wait until the API server is ready and has made the default service account."""
    PKI.mkdir(parents=True, mode=0o700)
    _certificates(address)
    port, etcd, peer = _free_ports(address, 3)
    plane = ControlPlane(address, port, {user: secrets.token_hex(16) for user in USERS})
    tokens = PKI / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text("".join(f'{plane.tokens[user]},{user},{user},"{groups}"\n' for user, groups in USERS.items()))
    plane.kubeconfig("admin", KUBECONFIG)
    etcd_url, peer_url = f"http://{address}:{etcd}", f"http://{address}:{peer}"
    processes.start(
        "etcd",
        [
            build.path("etcd"),
            f"--data-dir={STATE / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",  # thrown away with the cluster
            "--log-level=warn",
        ],
    )
    processes.start(
        "kube-apiserver",
        [
            build.path("kube-apiserver"),
            f"--etcd-servers={etcd_url}",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            f"--secure-port={port}",
            f"--endpoint-reconciler-type={'lease' if is_node else 'none'}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--tls-cert-file={PKI / 'apiserver.crt'}",
            f"--tls-private-key-file={PKI / 'apiserver.key'}",
            f"--client-ca-file={PKI / 'ca.crt'}",
            f"--token-auth-file={tokens}",
            f"--kubelet-client-certificate={PKI / 'kubelet-client.crt'}",
            f"--kubelet-client-key={PKI / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={PKI / 'service-accounts.key'}",
            f"--service-account-signing-key-file={PKI / 'service-accounts.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-policy-file={_audit_policy()}",
            f"--audit-log-path={LOGS / 'audit.log'}",
            "--audit-log-maxsize=100",
            "--audit-log-maxbackup=1",
        ],
        env={"GOGC": "200"},  # of two cores, a third of its time went into collecting garbage; memory there is
    )
    processes.await_("the API server is ready", lambda: _get("/readyz"), READY_SECONDS_MAX, PARTS[:2])
    processes.start(
        "kube-controller-manager",
        [
            build.path("kube-controller-manager"),
            f"--kubeconfig={plane.kubeconfig('system:kube-controller-manager', STATE / 'controller-manager.conf')}",
            f"--service-account-private-key-file={PKI / 'service-accounts.key'}",
            f"--root-ca-file={PKI / 'ca.crt'}",
            "--use-service-account-credentials",
            "--controllers=*,-node-ipam-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ],
    )
    processes.start(
        "kube-scheduler",
        [
            build.path("kube-scheduler"),
            f"--kubeconfig={plane.kubeconfig('system:kube-scheduler', STATE / 'scheduler.conf')}",
            "--leader-elect=false",
            "--secure-port=0",
        ],
    )
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    processes.await_("the default service account is there", lambda: _get(account), READY_SECONDS_MAX, PARTS)
    return plane


def _certificates(address: str) -> None:
    authority = trustme.CA(organization_name="stripedjob test cluster")
    authority.cert_pem.write_to_path(PKI / "ca.crt")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    serving = authority.issue_cert(*names, "localhost", "127.0.0.1", "10.96.0.1", address, common_name="kube-apiserver")
    client = "kube-apiserver-kubelet-client"  # with a name: Go refuses a certificate whose list of names is empty
    kubelet = authority.issue_cert(client, common_name=client, organization_name="system:masters")
    for name, certificate in (("apiserver", serving), ("kubelet-client", kubelet)):
        _private(PKI / f"{name}.key", certificate.private_key_pem.bytes())
        (PKI / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    _private(PKI / "service-accounts.key", authority.issue_cert("service-accounts").private_key_pem.bytes())


def _private(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)


def _audit_policy() -> Path:
    """Who asked for what: the tests of RBAC read it. One line a request, without bodies, people and parts left out."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "None", "users": [*USERS, "system:apiserver"]},
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata"},
        ],
    }
    file = STATE / "audit-policy.yaml"
    file.write_text(yaml.safe_dump(policy))
    return file


def _get(path: str) -> bool:
    command = [build.path("kubectl"), "--kubeconfig", KUBECONFIG, "get", "--raw", path]
    return subprocess.run([str(one) for one in command], capture_output=True, timeout=30, check=False).returncode == 0


def _free_ports(address: str, count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
