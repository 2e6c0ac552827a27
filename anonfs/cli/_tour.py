"""``anonfs tour``: what anonfs does, shown on the mount."""

from anonfs.cli._output import console
from anonfs.client import connect

__all__ = ["tour"]


def tour() -> None:
    """Show what anonfs does, step by step, with real processes."""
    # With numpy, which takes longer to load than all other commands, and starts threads.
    from anonfs.cli._steps import Tour  # noqa: PLC0415

    Tour(connect(), console()).run()
