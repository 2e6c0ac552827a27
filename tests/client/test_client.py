"""Files by name, in a directory that passes for a mount."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from anonfs.client import BadNameError, Client, ClientError, Entry, NoMountError, connect


@pytest.fixture
def client(fake_mount: Path) -> Client:
    return connect(fake_mount)


@pytest.mark.parametrize(
    "name", ["", ".", "/", "/etc/passwd", "..", "a/../b", "a/..", "a/", "a\0b"]
)
def test_bad_names_are_refused(client: Client, name: str) -> None:
    for call in (client.path, client.open, client.map, client.unlink):
        with pytest.raises(BadNameError) as caught:
            call(name)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(BadNameError):
        client.create(name, 1)


def test_create_open_and_list(client: Client) -> None:
    (client.mount / "jobs").mkdir()
    with client.create("jobs/7", 8192) as made, client.open(Path("jobs/7")) as opened:
        assert os.path.sameopenfile(made.fileno(), opened.fileno())
        assert opened.size == 8192
    assert client.list() == [Entry("jobs", (client.mount / "jobs").stat().st_size, True)]
    assert client.list("jobs") == [Entry("jobs/7", 8192, False)]
    client.unlink("jobs/7")
    assert client.list("jobs") == []


def test_create_does_not_take_what_is_there(client: Client) -> None:
    client.create("x", 1).close()
    with pytest.raises(FileExistsError):
        client.create("x", 1)


def test_a_size_that_is_refused_leaves_no_name(client: Client) -> None:
    with pytest.raises(OSError):
        client.create("x", -1)
    assert client.list() == []


def test_flags_of_an_open(client: Client) -> None:
    with client.open("x", flags=os.O_CREAT | os.O_EXCL, mode=0o640) as file:
        assert (file.size, os.fstat(file.fileno()).st_mode & 0o777) == (0, 0o640)
    with pytest.raises(FileExistsError):
        client.open("x", flags=os.O_CREAT | os.O_EXCL)
    (client.mount / "link").symlink_to("x")
    client.open("link").close()
    with pytest.raises(OSError) as caught:
        client.open("link", flags=os.O_NOFOLLOW)
    assert caught.value.errno == errno.ELOOP


def test_errors_name_the_path(client: Client) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        client.open("nowhere/x")
    assert caught.value.filename == str(client.mount / "nowhere/x")


def test_links_do_not_lead_out(client: Client) -> None:
    (client.mount / "out").symlink_to("/proc")
    (client.mount / "file").symlink_to("/proc/version")
    (client.mount / "dangling").symlink_to("/dev/shm/never-made")
    for name in ("out/version", "file"):
        with pytest.raises(NoMountError):
            client.open(name, read_only=True)
    with pytest.raises(OSError) as caught:
        client.map("dangling", 4096)
    assert caught.value.errno == errno.ELOOP


def test_a_directory_that_is_no_longer_the_mount_is_refused(client: Client) -> None:
    client._device += 1
    with pytest.raises(NoMountError):
        client.map("x", 4096)
    with pytest.raises(NoMountError):
        client.list()
    assert list(client.mount.iterdir()) == []


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(NoMountError("nothing here")))  # noqa: S301 - its own
    assert isinstance(error, NoMountError)
    assert (error.errno, error.strerror) == (errno.ENODEV, "nothing here")


def test_an_empty_file_needs_a_size(client: Client) -> None:
    client.create("x", 0).close()
    with pytest.raises(ClientError, match="is empty: give a size"):
        client.map("x")
    with client.map("x", 100) as shared:
        assert len(shared) == 100


@pytest.mark.usefixtures("attributes")
def test_relative_targets_are_names(client: Client) -> None:
    assert client.inspect("x").kind == "shared"
    with pytest.raises(BadNameError):
        client.inspect("../x")
