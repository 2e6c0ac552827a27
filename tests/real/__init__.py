"""Programs that were not written for this, on a real mount with far more data than budget.

They read back through the page cache, which would hide what the daemon loses. So a swapper runs
beside them and swaps out, all the time, whatever any process has open or mapped.
"""
