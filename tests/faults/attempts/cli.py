def end_all(): pass
