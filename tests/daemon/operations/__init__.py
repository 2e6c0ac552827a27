"""Handlers called with no mount, with what no kernel should send.

The answer is a result or a FUSEError, never another exception, and never EIO: that would mean that
something nobody thought of came up. Whatever is asked, names, pages and references add up after it.
"""
