"""CPython's own tests of shared memory, with our classes in the place of its own.

Run as ``python -m tests.shm.cpython fork`` or ``spawn``. A spawned child imports this module, too,
and so has the same classes in the same place.
"""

import importlib
import multiprocessing
import multiprocessing.managers
import sys
import unittest
from types import ModuleType
from typing import Any

from anonfs.shm import ShareableList, SharedMemory

__all__: list[str] = []

_cases: Any = importlib.import_module("test._test_multiprocessing")
_ours: Any = importlib.import_module("anonfs.shm._opening")

OF_THE_TRACKER = {
    "test_shared_memory_SharedMemoryManager_reuses_resource_tracker",
    "test_shared_memory_cleaned_after_process_termination",
    "test_shared_memory_tracking",
    "test_shared_memory_untracking",
}
"""Tests of the resource tracker, which we do without, by programs that import the original."""

_module: Any = ModuleType("multiprocessing.shared_memory", "What stands in for the original.")
_module.SharedMemory = SharedMemory
_module.ShareableList = ShareableList
_module._USE_POSIX = True
_module._SHM_NAME_PREFIX = _ours.random_name()[:5]
_module._make_filename = _ours.random_name
_ours.random_name = lambda: str(_module._make_filename())  # which the tests replace
sys.modules[_module.__name__] = _module
for _user in (multiprocessing, multiprocessing.managers, _cases):
    vars(_user)["shared_memory"] = _module


class OurSharedMemory(_cases._TestSharedMemory, _cases.ProcessesMixin, unittest.TestCase):  # type: ignore[misc]
    """The tests."""


for _name in OF_THE_TRACKER & set(dir(OurSharedMemory)):
    setattr(OurSharedMemory, _name, None)


def _main() -> None:
    multiprocessing.set_start_method(sys.argv.pop(), force=True)
    unittest.main()


if __name__ == "__main__":
    _main()
