"""Names of files, as a program gives them: relative paths that stay inside the mount.

The check is on the text alone. Symbolic links are followed by the kernel, so the client looks
again at the device of what it has opened.
"""

import os

from anonfs.client._errors import BadNameError

__all__ = ["split_name"]


def split_name(name: str | os.PathLike[str]) -> list[str]:
    """The components of ``name``, at least one.

    Raises:
        BadNameError: ``name`` is empty, absolute, ends in a slash, holds a NUL, or has a ``..``
            component.
    """
    text = os.fspath(name)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/"):
        raise BadNameError(f"{text!r} is not a name: names are relative to the mount")
    if not parts or text.endswith("/"):
        raise BadNameError(f"{text!r} does not name a file")
    if ".." in parts:
        raise BadNameError(f"{text!r} leads out of the mount: names may not contain ..")
    if "\0" in text:
        raise BadNameError(f"{text!r} holds a NUL byte")
    return parts
