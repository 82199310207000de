"""Look up recipes by name; a recipe is a function that returns a whole training config."""

from collections.abc import Callable

from model.recipes.chr import ABLATIONS, BACKBONES, SUBSETS, authors, sixray
from model.recipes.general import default, demo, ilsvrc2012, name_variants
from model.recipes.sxmnet import SXMNET_RECIPES
from model.training.config import TrainConfig

RECIPES: dict[str, Callable[[], TrainConfig]] = (
    {"default": default, "demo": demo}
    | name_variants(sixray, ("plain", "chr"), BACKBONES, SUBSETS)
    | name_variants(sixray, ABLATIONS, ("resnet34",), SUBSETS)
    | name_variants(authors)
    | name_variants(ilsvrc2012, ("plain", "chr"), ("resnet18", "resnet50"))
    | SXMNET_RECIPES
)
"""Name -> recipe. Of the CHR paper Tables 2 and 3: plain and chr on five backbones; Table 4: five networks on
ResNet-34; Section 5.5; and CHR as its authors' code has it. Of the SXMNet paper all tables, see
`model.recipes.sxmnet`."""
