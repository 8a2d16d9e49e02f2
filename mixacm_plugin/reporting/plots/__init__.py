"""Figures, legible in print and without telling red from green."""
