"""The activated channel map loss, its maps and transforms, and the frozen teacher."""
