"""``rvtop mcp``: agents watch a session, and drive one within limits, by the Model Context Protocol."""
