"""Does a folder of images larger than memory train? 400,000 generated ones, prepared, then an epoch on them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from torchvision.transforms.functional import to_pil_image

from pipeline.sources.shapes import draw_shapes
from pipeline.vae.images import generator

COUNT, TEST = 400_000, 1_000
DIFFERENT = 2_000  # the others repeat these under other names
FOLDERS = 100  # of each class, so that no folder is huge


def write_images(folder: Path, count: int = COUNT) -> None:
    """train/<class>/*.png and test/<class>/*.png below `folder`, of two classes."""
    shapes = draw_shapes(DIFFERENT, generator(0, "many images"))
    encoded = [_png(to_pil_image(image)) for image in shapes.images]
    for split, images in (("train", count), ("test", TEST)):
        for number in range(images):
            path = folder / f"{number % FOLDERS}" / split / f"class-{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[number % DIFFERENT])


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
