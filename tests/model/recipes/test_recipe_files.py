from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.inputs.augmentation import AugmentationConfig
from model.recipes.general import default
from model.recipes.recipe_files import format_recipe, load_recipe, parse_recipe
from model.recipes.registry import RECIPES
from model.training.config import LOSSES, AdamW, StepSchedule
from model.training.losses import LossConfig
from model.training.sxmnet_losses import MetaLossConfig, NeuralLabels

SHORTEST = 'recipe = "mine"\nmax_epochs = 2\nlearning_rate = 1\n'


def test_every_recipe_written_and_read_is_equal():
    configs = {name: make() for name, make in RECIPES.items()}
    assert {name: parse_recipe(format_recipe(config).encode(), name) for name, config in configs.items()} == configs
    assert {type(config.loss) for config in configs.values()} == set(LOSSES)


@given(
    rate=st.floats(0, exclude_min=True, allow_infinity=False),
    drops=st.lists(st.floats(0, 1)).map(tuple),
    text=st.text(st.characters(exclude_categories=["Cs"])),
    augmentation=st.builds(AugmentationConfig, scale=st.floats(0, 3), mixed=st.floats(0, 1), upside_down=st.booleans()),
)
def test_any_values_written_and_read_are_equal(rate, drops, text, augmentation):
    config = replace(
        default(),
        recipe=text,
        learning_rate=rate,
        schedule=StepSchedule(drops=drops),
        augmentation=augmentation,
        fusion="meta",
        loss=MetaLossConfig(labels=NeuralLabels(table=text)),
    )
    read = parse_recipe(format_recipe(config).encode(), "recipe.toml")
    assert read == config
    assert read.to_json() == config.to_json()


def test_what_a_file_does_not_say_has_its_default_and_whole_numbers_are_numbers():
    config = parse_recipe((SHORTEST + '[optimizer]\nname = "AdamW"\n').encode(), "recipe.toml")
    assert (config.recipe, config.learning_rate, config.loss) == ("mine", 1.0, LossConfig())
    assert isinstance(config.learning_rate, float)
    assert config.optimizer == AdamW()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = ", "recipe must be TOML, got what cannot be read as such (r.toml): "),
        (SHORTEST + "bach_size = 3", "got bach_size (r.toml); nearest is batch_size"),
        (SHORTEST + "[augmentation]\nscales = 0.3", "got augmentation.scales (r.toml); nearest is augmentation.scale"),
        ('recipe = "mine"\nmax_epochs = 2', "learning_rate must be given, got none (r.toml)"),
        (SHORTEST + "batch_size = 3.5", "batch_size must be a whole number, got 3.5 (r.toml)"),
        (SHORTEST + "batch_size = true", "batch_size must be a whole number, got True (r.toml)"),
        (SHORTEST + "ema_decay = true", "ema_decay must be a finite number, got True (r.toml)"),
        (SHORTEST + "localization = inf", "localization must be a finite number, got inf (r.toml)"),
        (SHORTEST + "pretrained = 1", "pretrained must be true or false, got 1 (r.toml)"),
        (SHORTEST + "backbone = 1", "backbone must be a string, got 1 (r.toml)"),
        (SHORTEST + "loss = 'LossConfig'", "loss must be a table, got 'LossConfig' (r.toml)"),
        (SHORTEST + "[loss]\nbalanced = true", "loss.name must be one of LossConfig, "),
        (
            SHORTEST + "[schedule]\nname = 'StepSchedule'\ndrops = 0.5",
            "schedule.drops must be a list, got 0.5 (r.toml)",
        ),
        (
            SHORTEST + "[schedule]\nname = 'StepSchedule'\ndrops = ['x']",
            "schedule.drops must be a finite number, got 'x'",
        ),
        (SHORTEST + "[loss]\nname = 'LossConfig'\nthreshold = 2.0", "threshold must be in (0, 1), got 2.0 (r.toml)"),
        (SHORTEST + "[loss]\nname = 'MetaLossConfig'", "loss.labels must be given, got none (r.toml)"),
        (SHORTEST + "batch_size = 0", "batch_size and max_epochs must be >= 1, got 0 and 2 (r.toml)"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_field(text, message):
    with pytest.raises(ValueError) as refused:
        parse_recipe(text.encode(), "r.toml")
    assert message in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"recipe must be a file, got none \(.*none.toml\); `sixray train --print-recipe`"
    ):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match="got none"):
        (tmp_path / "folder.toml").mkdir()
        load_recipe(str(tmp_path / "folder.toml"))
