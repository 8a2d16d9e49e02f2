"""Threat models: the norm and ε of an adversary, and the ball they span."""

import torch
from torch import Tensor

from ...common.values import parse_number

NORMS = {"Linf": "8/255", "L2": "0.5"}  # each with the ε that is usual on CIFAR-10


def check_norm(norm: str) -> str:
    """Return ``norm`` if it is known, else raise ``ValueError``."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; found {norm!r}")
    return norm


def parse_eps(eps: str | float, norm: str) -> float:
    """Read the radius of a ball, in pixels of range [0, 1].

    Raises:
        ValueError: on another norm, or on what is no such number. A ball of Linf radius 1 holds
            every image, so that above 1 pixels of range [0, 255] are meant.

    Example:
        >>> parse_eps("8/255", "Linf") == 8 / 255
        True
    """
    check_norm(norm)
    try:
        radius = parse_number(eps)
    except ValueError as error:
        raise ValueError(f"eps: {error}") from None
    if radius > 1 and norm == "Linf":
        raise ValueError(f"eps is in pixels of [0, 1]; found {eps}, is it {eps}/255?")
    return radius


def check_radius(images: Tensor, *, eps: float, norm: str) -> None:
    """Raise ``ValueError`` if a ball holds every image, as of Linf radius 1 ``parse_eps`` does.

    Args:
        images: ``(N, C, H, W)`` in [0, 1], for their size.
        eps: radius of the ball.
        norm: ``Linf`` or ``L2``.
    """
    farthest = images[0].numel() ** 0.5
    if norm == "L2" and eps > 1.01 * farthest:  # all of them is a ball, too, with some rounding
        size = "×".join(map(str, images.shape[1:]))
        raise ValueError(
            f"eps is in pixels of [0, 1], where no images of {size} are more than {farthest:.3g} "
            f"apart (L2); found {eps:g}, is it {eps:g}/255?"
        )


def reaches_edge(*, eps: float, step_size: float, steps: int) -> bool:
    """Whether steps from the centre of a ball can lead to its edge."""
    # Less a margin, since 3 * (11 / 255) is rounded to less than 33 / 255.
    return steps * step_size >= eps * (1 - 1e-9)


def perturbation_size(perturbation: Tensor, norm: str) -> Tensor:
    """Norm of each image's perturbation: ``(N, C, H, W)`` to ``(N,)``.

    Raises:
        ValueError: on another norm than ``Linf`` or ``L2``.
    """
    order = {"Linf": torch.inf, "L2": 2}[check_norm(norm)]
    size: Tensor = torch.linalg.vector_norm(perturbation.flatten(1), ord=order, dim=1)
    return size


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.ndim - 1))


def project(perturbation: Tensor, *, eps: float, norm: str) -> Tensor:
    """Nearest perturbation inside the ball.

    Args:
        perturbation: ``(N, C, H, W)``.
        eps: radius, at least 0, in pixels of range [0, 1].
        norm: ``Linf`` or ``L2``.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: on another norm.
    """
    if check_norm(norm) == "Linf":
        return perturbation.clamp(-eps, eps)
    size = perturbation_size(perturbation, norm).clamp_min(1e-12)
    return perturbation * _like((eps / size).clamp_max(1), perturbation)


def steepest_direction(gradient: Tensor, *, norm: str) -> Tensor:
    """Unit step that raises the loss most: the sign (Linf) or the normalised gradient (L2).

    Args:
        gradient: of the loss with respect to each image, ``(N, C, H, W)``.
        norm: ``Linf`` or ``L2``.

    Returns:
        ``(N, C, H, W)``, of size 1 in the norm where the gradient isn't zero.

    Raises:
        ValueError: on another norm.
    """
    if check_norm(norm) == "Linf":
        return gradient.sign()
    # Gradients have no scale of their own: divided by their largest entry before they are squared,
    # the smallest ones count as well.
    largest = perturbation_size(gradient, "Linf")
    scaled = gradient / _like(torch.where(largest > 0, largest, 1), gradient)
    size = perturbation_size(scaled, norm)
    return scaled / _like(torch.where(size > 0, size, 1), scaled)


def random_perturbation(images: Tensor, *, eps: float, norm: str) -> Tensor:
    """Draw a perturbation uniformly from the ball, with torch's generator.

    Args:
        images: ``(N, C, H, W)``, for shape, type and device.
        eps: radius, at least 0, in pixels of range [0, 1].
        norm: ``Linf`` or ``L2``.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: on another norm.
    """
    if check_norm(norm) == "Linf":
        return torch.empty_like(images).uniform_(-eps, eps)
    direction = steepest_direction(torch.randn_like(images), norm=norm)
    radius = torch.rand(len(images), dtype=images.dtype, device=images.device)
    return direction * _like(eps * radius ** (1 / images[0].numel()), images)
