"""``--serve``: the dashboard in browsers. A process of its own serves the page and starts a viewer for each
browser: ``rvtop attach SOCKET --readonly`` on the session's control socket, drawn by the browser.

``client`` is the end of whoever shows the session, ``process`` its other one. Nothing below is imported where
no web view was asked for.
"""

from __future__ import annotations

#: Textual's driver in a viewer's process (its variable TEXTUAL_DRIVER).
DRIVER = "rvtop.web.driver:ViewerDriver"
