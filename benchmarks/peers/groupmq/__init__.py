"""GroupMQ, on Redis alone: groups are resources, 24 jobs at once a process, added through its own batches."""

from pathlib import Path

from peers.peer import ClientPeer


class GroupMq(ClientPeer):
    """Jobs of groups, one of each at once. Nothing is written to a disk."""

    name = "groupmq"
    version = "1.1.0"
    folder = Path(__file__).parent
    concurrency = 24

    def is_empty(self) -> bool:
        """Ask the client."""
        return bool(self.ask("empty"))
