import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.support.engines import RestartablePostgres, RestartableValkey, end_engines

from stripedjob.local import engine, engines
from stripedjob.local.engines import EngineError, EngineName, embedded, embedded_engine

WAIT_SECONDS_MAX = 90.0

# Prints the URL, then stays in the context until its input ends.
USER = """
import sys
from pathlib import Path
from stripedjob.local.engines import embedded_engine
with embedded_engine(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def user(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", USER, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


def answers(url: str) -> bool:
    if url.startswith("unix:"):
        with (
            redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client,
            suppress(redis.ConnectionError),
        ):
            return bool(client.ping())
        return False
    with suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False


@pytest.fixture
def users() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_both_engines_answer_and_leave_nothing_behind() -> None:
    with embedded() as found:
        homes = [
            Path(found.postgres_url.partition("host=")[2]),
            Path(found.valkey_url.removeprefix("unix://")).parent,
        ]
        assert answers(found.postgres_url)
        assert answers(found.valkey_url)
        with psycopg.connect(found.postgres_url) as connection:
            row = connection.execute("select current_setting('max_connections')::int >= 100").fetchone()
            assert row == (True,)
    assert not any(home.exists() for home in homes)


def test_data_survives_in_a_data_directory(tmp_path: Path) -> None:
    with embedded_engine("postgres", tmp_path) as url, psycopg.connect(url) as connection:
        connection.execute("create table kept as select 1 as it")
    with embedded_engine("postgres", tmp_path) as url, psycopg.connect(url) as connection:
        assert connection.execute("select it from kept").fetchone() == (1,)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_second_process_shares_the_engine_and_outlives_the_first(
    name: str, tmp_path: Path, users: list["subprocess.Popen[str]"]
) -> None:
    users += [user(name, tmp_path), user(name, tmp_path)]
    first, second = (url_of(process) for process in users)
    assert first == second
    users[0].communicate()
    assert answers(second)
    users[1].communicate()
    eventually(lambda: not answers(second))


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_an_engine_does_not_outlive_a_killed_user(
    name: str, tmp_path: Path, users: list["subprocess.Popen[str]"]
) -> None:
    users.append(user(name, tmp_path))
    url = url_of(users[0])
    assert answers(url)
    users[0].kill()
    eventually(lambda: not answers(url))


def test_the_temporary_directory_of_a_killed_user_goes_as_well(users: list["subprocess.Popen[str]"]) -> None:
    users.append(user("postgres"))
    home = Path(url_of(users[0]).partition("host=")[2])
    assert home.exists()
    users[0].kill()
    eventually(lambda: not home.exists())


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_killed_engine_is_started_again_for_the_next_user(
    name: str, tmp_path: Path, users: list["subprocess.Popen[str]"]
) -> None:
    users.append(user(name, tmp_path))
    url = url_of(users[0])
    pid_file = next((tmp_path / name).rglob("*.pid"))
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    eventually(lambda: not answers(url))
    users.append(user(name, tmp_path))
    assert answers(url_of(users[1]))


def test_ctrl_c_in_the_terminal_does_not_reach_the_engine(tmp_path: Path, users: list["subprocess.Popen[str]"]) -> None:
    users.append(user("postgres", tmp_path))
    url = url_of(users[0])
    postmaster = int((tmp_path / "postgres/data/postmaster.pid").read_text().split()[0])
    assert os.getsid(postmaster) != os.getsid(users[0].pid)
    assert os.getpgid(postmaster) != os.getpgid(users[0].pid)
    assert answers(url)


def test_users_that_come_at_the_same_time_share_one_start(tmp_path: Path, users: list["subprocess.Popen[str]"]) -> None:
    users += [user("postgres", tmp_path) for _ in range(4)]
    urls = {url_of(process) for process in users}
    assert len(urls) == 1
    assert answers(urls.pop())


def test_a_long_path_still_gives_a_usable_socket(tmp_path: Path) -> None:
    with embedded_engine("valkey", tmp_path / ("long" * 40)) as url:
        assert answers(url)
    with embedded_engine("postgres", tmp_path / ("long" * 40)) as url:
        assert answers(url)


def test_a_missing_extra_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.PACKAGES, "postgres", "no_such_package")
    with pytest.raises(EngineError, match=r"pip install 'stripedjob\[local\]'"), embedded_engine("postgres"):
        pass


def test_a_start_that_fails_says_what_the_engine_said(tmp_path: Path) -> None:
    with embedded_engine("postgres", tmp_path):
        pass
    (tmp_path / "postgres/data/PG_VERSION").write_text("9\n")
    with (
        pytest.raises(EngineError, match="database files are incompatible"),
        embedded_engine("postgres", tmp_path),
    ):
        pass


def test_a_temporary_engine_that_fails_says_why_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # hides setpriv, which root needs and others can do without
    if os.geteuid() != 0:
        with embedded_engine("postgres") as url:
            assert answers(url)
        return
    with pytest.raises(EngineError, match="Postgres does not run as root"), embedded_engine("postgres"):
        pass


def test_an_odd_locale_of_the_user_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LANG"):
        monkeypatch.setenv(name, "xx_XX.nowhere")
    with embedded_engine("postgres") as url:
        assert answers(url)


def test_a_stale_server_is_stopped_at_the_next_start(tmp_path: Path) -> None:
    # As on a system where the kernel does not end a server with its parent.
    stale = RestartableValkey(tmp_path)
    stale.start()
    assert str(tmp_path) in engine._command_line(stale.pid)
    successor = RestartableValkey(tmp_path)
    successor.start()
    assert not stale.is_running()
    assert answers(successor.url)
    successor.stop()


def test_a_killed_keeper_takes_its_engine_along(tmp_path: Path, users: list["subprocess.Popen[str]"]) -> None:
    users.append(user("postgres", tmp_path))
    url = url_of(users[0])
    postmaster = int((tmp_path / "postgres/data/postmaster.pid").read_text().split()[0])
    daemon = int(Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(daemon, signal.SIGKILL)
    eventually(lambda: not answers(url))
    users.append(user("postgres", tmp_path))
    assert answers(url_of(users[1]))


def test_a_postgres_that_was_killed_keeps_what_was_committed(
    restartable_postgres: RestartablePostgres,
) -> None:
    with psycopg.connect(restartable_postgres.url) as connection:
        connection.execute("create table kept as select 1 as it")
    restartable_postgres.kill()
    assert not answers(restartable_postgres.url)
    restartable_postgres.start()
    with psycopg.connect(restartable_postgres.url) as connection:
        assert connection.execute("select it from kept").fetchone() == (1,)


def test_a_valkey_that_was_killed_comes_back_empty(restartable_valkey: RestartableValkey) -> None:
    with redis.Redis.from_url(restartable_valkey.url) as client:
        client.set("forgotten", 1)
    restartable_valkey.kill()
    restartable_valkey.start()
    with redis.Redis.from_url(restartable_valkey.url) as client:
        assert client.get("forgotten") is None


def pid_in(path: Path) -> int:
    return int(path.read_text().split()[0])


def removed(folder: Path) -> bool:
    """Remove it as `rm -rf` does, which does not mind that files go meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def lingering(data: Path, seconds: float) -> Iterator[str]:
    """Use a Postgres that waits so long for its next user, and end it at the end."""
    with embedded_engine("postgres", data, linger_seconds=seconds) as url:
        yield url


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    end_engines(tmp_path)


def test_an_engine_waits_for_its_next_user(data: Path) -> None:
    with lingering(data, 600) as url:
        postmaster = pid_in(data / "postgres/data/postmaster.pid")
    assert answers(url)
    with lingering(data, 600) as again:
        assert (again, pid_in(data / "postgres/data/postmaster.pid")) == (url, postmaster)
    daemon = pid_in(data / "postgres/daemon.lock")
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{postmaster}"))  # noqa: PTH110
    assert not (data / "postgres/url").exists()


def test_an_engine_ends_when_nobody_has_come(data: Path) -> None:
    with lingering(data, 1) as url:
        assert answers(url)
    eventually(lambda: not answers(url))
    with lingering(data, 1) as url:  # and is started again
        assert answers(url)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_folder_that_is_removed_takes_its_waiting_engine_along(data: Path, name: EngineName) -> None:
    with embedded_engine(name, data, linger_seconds=600):
        daemon = pid_in(data / name / "daemon.lock")
        server = pid_in(next((data / name).rglob("*.pid")))
    eventually(lambda: removed(data))
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (daemon, server)))  # noqa: PTH110


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_folder_that_is_made_again_at_once_has_an_engine_of_its_own(data: Path, name: EngineName) -> None:
    with embedded_engine(name, data, linger_seconds=600):
        daemon = pid_in(data / name / "daemon.lock")
    os.kill(daemon, signal.SIGSTOP)  # it notices when the next one is there
    assert removed(data)
    with embedded_engine(name, data) as url:
        os.kill(daemon, signal.SIGCONT)
        eventually(lambda: not os.path.exists(f"/proc/{daemon}"))  # noqa: PTH110
        assert answers(url)
        with embedded_engine(name, data) as same:
            assert same == url
