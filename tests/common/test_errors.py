"""Suggestions in errors."""

import pytest

from mixacm_plugin.common.errors import nearest


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("sgd", ["Adam", "SGD"], " Did you mean 'SGD'?"),
        ("PGD", ["pgd", "clean"], " Did you mean 'pgd'?"),
        ("cifar10", ["MNIST", "CIFAR10", "CIFAR100"], " Did you mean 'CIFAR10' or 'CIFAR100'?"),
        ("resnet18", ["ResNet18", "resnet18"], " Did you mean 'ResNet18' or 'resnet18'?"),
        ("lrr", ["lr", "lr"], " Did you mean 'lr'?"),
        (10, [100, "x"], " Did you mean '100'?"),
        ("unlike", ["SGD"], ""),
    ],
)
def test_names_are_suggested_in_their_own_spelling_whatever_the_capitals(name, known, meant):
    assert nearest(name, known) == meant
