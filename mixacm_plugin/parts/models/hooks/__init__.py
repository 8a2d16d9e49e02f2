"""Hook points: of known families, and found by a pass of any image classifier."""
