"""PGD, adversarial training and adversarial distillation on the host's boxes."""
