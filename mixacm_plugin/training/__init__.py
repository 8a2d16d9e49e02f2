"""From a recipe to a student."""
