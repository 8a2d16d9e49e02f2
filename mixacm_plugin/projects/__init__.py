"""``mixacm new``: from data and two models to recipes that run as they are."""
