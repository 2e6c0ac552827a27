"""What tests share: mounts of a daemon, and the ways to get rid of them."""
