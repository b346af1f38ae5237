from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stripedjob_operator.secrets import Secrets, _Entry

if TYPE_CHECKING:
    from stripedjob_operator.cluster import Cluster


def known(**versions: str) -> Secrets:
    made = Secrets(cast("Cluster", None), lambda _: None)  # asks for nothing here
    made._entries = {("shop", name): _Entry(version) for name, version in versions.items()}
    return made


def test_the_digest_of_secrets_follows_their_versions_alone() -> None:
    one = known(a="1/5", b="2/6").version("shop", ["a", "b"])
    assert one == known(b="2/6", a="1/5", c="3/1").version("shop", ["b", "a", "b"]) == "7dc6b3222f6fa9d7"
    assert one != known(a="1/7", b="2/6").version("shop", ["a", "b"])
    assert one != known(a="2/6", b="1/5").version("shop", ["a", "b"])
    assert one != known(a="1/5", b="2/6").version("shop", ["a"])


def test_a_secret_is_forgotten_with_the_last_that_refers_to_it() -> None:
    secrets = known(a="1/5", b="2/6")
    for name, users in (("a", {"one", "two"}), ("b", {"one"})):
        secrets._entries["shop", name].users = {("shop", user) for user in users}
    secrets.forget(("shop", "one"))
    assert list(secrets._entries) == [("shop", "a")]
