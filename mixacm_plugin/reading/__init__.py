"""From YAML to a recipe: nodes, overrides, the schema of its keys, checks across keys."""
