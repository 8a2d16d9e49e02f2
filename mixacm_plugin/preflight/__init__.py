"""``mixacm check``: what a recipe would do, before it costs hours."""
