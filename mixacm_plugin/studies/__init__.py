"""Studies: from one file to the paper's tables and pictures."""
