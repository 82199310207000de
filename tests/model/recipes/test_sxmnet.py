from dataclasses import replace

import pytest

from model.networks.config import AttentionConfig
from model.recipes.paper_tables import load_tables
from model.recipes.registry import RECIPES
from model.recipes.sxmnet import NEEDS, SXMNET_RECIPES, Needs, with_inputs
from model.training.config import Sgd
from model.training.losses import LossConfig
from model.training.sxmnet_losses import (
    AttentionLossConfig,
    FusedLossConfig,
    IntuitiveLabels,
    MetaLossConfig,
    NeuralLabels,
)


def rates_of(config, epochs):
    return [config.learning_rate * config.schedule.factor(epoch / config.max_epochs) for epoch in epochs]


def test_every_row_of_the_papers_tables_has_a_recipe():
    names = {
        row.recipe_for(dataset)
        for name, table in load_tables().items()
        if name.startswith("sxmnet")
        for row in table.rows
        for dataset in table.datasets
    }
    assert len(names) > 20
    assert names <= SXMNET_RECIPES.keys() <= RECIPES.keys()


def test_stage_one_has_the_papers_settings():
    config = RECIPES["sxmnet_attention_sixray"]()
    assert (config.batch_size, config.max_epochs, config.loss) == (64, 350, AttentionLossConfig())
    assert rates_of(config, (0, 99, 100, 199, 200, 299, 300)) == pytest.approx(
        [1e-5, 1e-5, 1e-6, 1e-6, 1e-7, 1e-7, 1e-8]
    )


def test_stage_two_has_the_papers_settings():
    config = RECIPES["sxmnet_sixray"]()
    assert (config.batch_size, config.max_epochs) == (64, 150)
    assert rates_of(config, (0, 29, 30, 60, 90, 120)) == pytest.approx([2e-2, 2e-2, 2e-3, 2e-4, 2e-5, 2e-6])
    assert config.learning_rate * config.classifier_rate == pytest.approx(0.1)  # of fully connected layers
    assert config.loss == MetaLossConfig(labels=NeuralLabels(), weight=0.1)
    assert isinstance(config.optimizer, Sgd)
    assert (config.backbone, config.num_levels, config.attention) == ("resnet50.tv_in1k", 3, AttentionConfig())


def test_rows_differ_in_what_their_table_is_about_alone():
    whole = RECIPES["sxmnet_sixray"]()

    def differs(name, **changes):
        return RECIPES[name]() == replace(whole, recipe=name, **changes)

    assert differs("sxmnet_opixray", trim_margins=True)
    assert differs("sxmnet_average_sixray", fusion="average", loss=FusedLossConfig())
    assert differs("sxmnet_gated_sixray", fusion="gated", loss=FusedLossConfig())
    assert differs("sxmnet_mfi_sixray", loss=MetaLossConfig(labels=IntuitiveLabels()))
    assert differs("sxmnet_self_sixray")
    assert differs("sxmnet_28_sixray", attention=AttentionConfig(num_upsamples=0))
    assert differs("sxmnet_112_sixray", attention=AttentionConfig(num_upsamples=2))
    assert differs("sxmnet_no_image_sixray", attention=AttentionConfig(sees_image=False))
    assert differs("fpn_mfn_resnet50_sixray", network="fpn", attention=None)
    assert differs("fpn_resnet50_sixray", network="fpn", attention=None, fusion="average", loss=FusedLossConfig())
    chr_meta, chr_plain = RECIPES["chr_mfi_resnet101_sixray"](), RECIPES["chr_resnet101_sixray"]()
    by_intuition = MetaLossConfig(labels=IntuitiveLabels())
    assert chr_meta == replace(chr_plain, recipe=chr_meta.recipe, fusion="meta", loss=by_intuition)
    assert chr_plain.loss == LossConfig(balanced=True)
    assert chr_plain == replace(RECIPES["chr_resnet101_sixray10"](), recipe=chr_plain.recipe)


def test_a_recipe_names_what_must_be_trained_before_it():
    assert NEEDS["sxmnet_112_opixray"] == Needs(
        initial="sxmnet_112_attention_opixray", labeller="chr_authors_resnet101_sixray"
    )
    assert NEEDS["sxmnet_gated_sixray"] == Needs(initial="sxmnet_attention_sixray")
    assert NEEDS["sxmnet_self_sixray"] == Needs(labeller="chr_authors_resnet101_sixray")
    assert "sxmnet_attention_sixray" not in NEEDS and "fpn_resnet50_sixray" not in NEEDS
    for name, needs in NEEDS.items():
        if needs.initial is not None:
            first, then = RECIPES[needs.initial](), RECIPES[name]()
            for part in ("network", "backbone", "num_levels", "attention", "trim_margins", "image_size_px"):
                assert getattr(first, part) == getattr(then, part)


def test_what_other_runs_made_enters_the_config():
    config = with_inputs(RECIPES["sxmnet_sixray"](), initial_model="I/model", level_labels="levels.parquet")
    assert config.initial_model == "I/model"
    assert config.loss == MetaLossConfig(labels=NeuralLabels(table="levels.parquet"))
    plain = RECIPES["fpn_resnet50_sixray"]()
    assert with_inputs(plain, initial_model=None, level_labels=None) == plain


def test_what_is_missing_or_of_no_use_is_named():
    with pytest.raises(ValueError, match=r"'sxmnet_sixray' must start from a model of 'sxmnet_attention_sixray'"):
        with_inputs(RECIPES["sxmnet_sixray"](), initial_model=None, level_labels="levels.parquet")
    with pytest.raises(ValueError, match=r"level labels must go with a recipe of MF-N, got them with 'sxmnet_mfi_six"):
        with_inputs(RECIPES["sxmnet_mfi_sixray"](), initial_model="I/model", level_labels="levels.parquet")
