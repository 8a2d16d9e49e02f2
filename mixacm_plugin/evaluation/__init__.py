"""From a model to figures: attacks, accuracy, distances of channel maps."""
