"""Images: opening them safely, and the arithmetic of views and tiles. No torch here."""

from ocrsmith.images.crop import cut
from ocrsmith.images.open import DEFAULT_MAX_PIXELS, Alpha, flatten_image, open_image
from ocrsmith.images.resize import MODES, ImageViews, Mode, make_views, tile_grid

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MODES",
    "Alpha",
    "ImageViews",
    "Mode",
    "cut",
    "flatten_image",
    "make_views",
    "open_image",
    "tile_grid",
]
