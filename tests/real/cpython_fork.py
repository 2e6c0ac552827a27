"""CPython's own tests of multiprocessing, for the start method ``fork``.

This is all that ``test.test_multiprocessing_fork`` does, which some builds of CPython leave out
while they have the tests themselves. Children import it by its name, so each method has its own.
"""

from test import _test_multiprocessing  # type: ignore[import-not-found]

__all__: list[str] = []

_test_multiprocessing.install_tests_in_module_dict(globals(), "fork")
