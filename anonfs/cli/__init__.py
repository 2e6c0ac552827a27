"""The command line: one command a module, thin over `anonfs.client`.

A command parses nothing and decides nothing that the client or the daemon can: it asks, and puts
the answer on the terminal. What goes wrong is one line on stderr and exit status 2, see
`anonfs.cli._app.main`. The daemon is another program, started and never imported.
"""

from anonfs.cli._app import main

__all__ = ["main"]
