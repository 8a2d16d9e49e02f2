"""From a recipe to models with weights and to data."""
