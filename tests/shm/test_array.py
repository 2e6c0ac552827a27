"""Arrays on segments."""

import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonfs import shm
from anonfs.shm import SharedArray, SharedMemory, array
from tests.lifecycle.areas import ring_in_order
from tests.posix.children import Child, eventually, hear, say
from tests.shm.conftest import Run
from tests.support.programs import environment, python


def _numbers(name: str | None = "numbers") -> SharedArray:
    made = array((6, 7), np.int32, name)
    made[:] = np.arange(42).reshape(6, 7)
    return made


def _segment(of: SharedArray) -> SharedMemory:
    assert of.shm is not None
    return of.shm


def _sent(of: object) -> Any:
    return pickle.loads(pickle.dumps(of))  # noqa: S301


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_arrays_go_to_other_processes(run: Run, mount: Path, method: str) -> None:
    assert run("tests.shm.across", method) == "done\n"
    assert list(mount.iterdir()) == []


def test_numpy_is_imported_for_arrays_alone() -> None:
    ask = "import sys, anonfs.shm; numpy = 'numpy' in sys.modules; anonfs.shm.array; print(numpy)"
    done = subprocess.run(python("-c", ask), env=environment(), capture_output=True, check=True)
    assert done.stdout == b"False\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shm.nothing


def test_who_comes_first_makes_it(mount: Path) -> None:
    made = array(5, "u1", "numbers")
    assert (made.shape, made.dtype.name, made.tolist()) == ((5,), "uint8", [0] * 5)
    made[1] = 9
    assert array((5, 1), np.int8, "numbers")[1, 0] == 9
    assert (mount / "numbers").stat().st_size == 5
    with pytest.raises(ValueError, match=r"'numbers' has 5 bytes, and shape \(5,\) of float64 40"):
        array(5, name="numbers")


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[1:3],
        lambda a: a.T,
        lambda a: a[::-1, ::-2],
        lambda a: a[:, 3],
        lambda a: a[2, 3:4],
        lambda a: a.reshape(3, 14),
        lambda a: a.view(np.uint8),
        lambda a: a[2:3].squeeze(),
    ],
    ids=["all", "rows", "turned", "backwards", "column", "one", "reshaped", "bytes", "squeezed"],
)
def test_views_are_sent_by_where_they_are(
    mount: Path, view: Callable[[SharedArray], SharedArray]
) -> None:
    of = view(_numbers())
    sent = _sent(of)
    assert type(sent) is SharedArray
    assert (sent.shape, sent.dtype, sent.strides) == (of.shape, of.dtype, of.strides)
    assert (sent == of).all()
    sent[...] = 1
    assert (of == 1).all()
    assert _segment(of).path.parent == mount


def test_views_of_one_pickle_share_a_mapping(mount: Path) -> None:
    numbers = _numbers()
    one, two = _sent([numbers, numbers.T])
    assert one.shm is two.shm
    assert len(ring_in_order(mount / "numbers")) == 2
    del one
    assert two[6, 5] == 41
    del two
    assert len(ring_in_order(mount / "numbers")) == 1


@pytest.mark.usefixtures("mount")
def test_what_is_computed_is_plain() -> None:
    numbers = _numbers()
    for plain in (numbers + 1, numbers > 3, np.sort(numbers[0]) * 2, numbers[[0, 1]], -numbers):
        assert type(plain) is np.ndarray
    assert type(numbers.sum()) is np.int64
    for copy in (numbers.copy(), numbers.astype(float), numbers[2:2]):
        assert getattr(copy, "shm", None) is None
        assert type(_sent(copy)) is np.ndarray
    numbers += 1
    assert type(numbers) is SharedArray
    assert numbers.shm is not None


@pytest.mark.parametrize("replaced", [False, True], ids=["unlinked", "replaced"])
def test_what_nobody_can_find_is_sent_as_numbers(mount: Path, replaced: bool) -> None:
    numbers = _numbers()
    _segment(numbers).unlink()
    if replaced:
        SharedMemory("numbers", True, 168)
    sent = _sent(numbers)
    assert type(sent) is np.ndarray
    assert sent.tolist() == np.arange(42).reshape(6, 7).tolist()
    assert (mount / "numbers").exists() == replaced


@pytest.mark.usefixtures("mount")
def test_its_memory_is_not_taken_away() -> None:
    numbers = _numbers()
    for take in (_segment(numbers).close, lambda: _segment(numbers).resize(4096)):
        with pytest.raises(BufferError):
            take()
    assert numbers[5, 6] == 41


def _hold() -> None:
    numbers = _numbers(None)
    say(_segment(numbers).name)
    hear()


def test_a_nameless_array_goes_with_its_last_user(mount: Path) -> None:
    numbers = _numbers(None)
    path = _segment(numbers).path
    sent = _sent(numbers)
    del numbers
    assert sent[5, 6] == 41
    assert path.exists()
    del sent
    eventually(lambda: not path.exists(), "freed")
    with Child(_hold) as child:
        path = mount / child.said()
        child.kill()
    eventually(lambda: not path.exists(), "freed after a kill")


@pytest.mark.usefixtures("mount")
def test_what_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="array of objects"):
        array(1, object)
    for shape in (0, (3, 0), -1):
        with pytest.raises(ValueError, match="'size' must be a positive"):
            array(shape)
