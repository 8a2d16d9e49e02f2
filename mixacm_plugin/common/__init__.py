"""What every room may use: errors, values, files, checkpoints, random state, processes."""
