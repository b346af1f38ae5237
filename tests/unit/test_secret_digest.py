"""What tells workers that a Secret has changed: its data, and nothing else."""

from stripedjob_operator.secrets import digest

NAME = ("shop", "databases")


def test_the_digest_follows_the_data_alone() -> None:
    one = digest(NAME, {"postgres": "YQ==", "redis": "Yg=="})
    assert one == digest(NAME, {"redis": "Yg==", "postgres": "YQ=="})
    others = [
        digest(NAME, {"postgres": "YQ=="}),
        digest(NAME, {"postgres": "Yg==", "redis": "YQ=="}),
        digest(("shop", "other"), {"postgres": "YQ==", "redis": "Yg=="}),
        digest(NAME, {}),
    ]
    assert len({one, *others}) == 5
    assert len(one) == 8  # so short that of a trillion guesses some hundred fit
