"""The terminal screen: it reads frozen snapshots from a session's handle and sends it commands."""
