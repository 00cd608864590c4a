"""The user's settings: where they lie, what they may hold, and which of several wins."""
