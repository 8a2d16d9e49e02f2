"""Pictures of coloured shapes, in a folder a class."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square", "triangle")


def draw_shapes(root, n, classes=SHAPES, size=16, seed=0):
    """Draw ``n`` pictures of each class into ``root/CLASS/``; return the folder."""
    draw = random.Random(seed)
    for name in classes:
        folder = Path(root) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(n):
            _picture(name, size, draw).save(folder / f"{number}.png")
    return str(root)


def _picture(name, size, draw):
    image = Image.new("RGB", (size, size), tuple(draw.randrange(90) for _ in range(3)))
    color = tuple(draw.randrange(130, 256) for _ in range(3))
    x, y = (draw.randrange(size // 3, size - size // 3) for _ in range(2))
    r = size // 4
    pen = ImageDraw.Draw(image)
    if name == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif name == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=color)
    elif name == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    else:
        pen.line((x - r, y, x + r, y), fill=color, width=3)
        pen.line((x, y - r, x, y + r), fill=color, width=3)
    return image
