"""Deployments that outlive the command that started them: ``rvtop up``, ``ps``, ``logs``, ``down``.

``up`` starts a supervisor, a process of its own session that owns the backend as a session does (by its
lease), starts it again when it dies, and keeps a state file that every later ``rvtop`` can read.
"""
