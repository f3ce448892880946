"""Recipes: complete, nothing unknown, one change at a time; and what a run allows to change."""

import pytest

from depthfield.network import registry
from depthfield.tool import Failure, UsageError
from depthfield.training import recipe as recipes


def test_every_recipe_of_the_project_is_complete():
    assert {"small", "demo"} <= set(recipes.names())
    for name in recipes.names():
        assert recipes.load(name).steps > 0


def test_what_a_recipe_may_name_is_there():
    builders = [network.builder for network in registry.NETWORKS.values()]
    for entry in (*builders, *registry.LOSSES.values(), *recipes.OPTIMIZERS.values()):
        assert registry.resolve(entry)


def test_one_thing_can_be_changed():
    recipe = recipes.load("small", ["steps=7", "loss=unary", "network.widths=[8, 16, 24]", "clip=2"])
    assert (recipe.steps, recipe.loss, recipe.network.widths, recipe.clip) == (7, "unary", (8, 16, 24), 2.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("step=7", "unknown setting step"), ("steps", "KEY=VALUE"), ("steps=0", "at least 1"), ("steps=many", "int"),
        ("loss=good", "one of"), ("network.widths=[]", "list"), ("network.patch=9", "unknown setting network.patch"),
        ("mirror=1", "bool"), ("unary_share=2", "from 0 to 1"),

        ("network.kind=none", "one of plain"), ("net.widths=[3]", "no table net"),
        ("nearest=-1", "nearest"), ("learning_rate=nan", "at least 0"), ("batch_size=1.5", "int"),
    ],
)  # fmt: skip
def test_invalid_values_are_usage_errors_that_name_them(change, said):
    with pytest.raises(UsageError, match=said):
        recipes.load("small", [change])


def test_unknown_and_broken_recipes_are_named(tmp_path):
    with pytest.raises(UsageError, match="no recipe 'none'; there are dcnf, dcnf-small, demo"):
        recipes.load("none")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(Failure, match="broken.toml: not a recipe"):
        recipes.load(str(broken))
    broken.write_text("steps = 3")
    with pytest.raises(UsageError, match="needs a table .network."):
        recipes.load(str(broken))
    broken.write_text("steps = 3\n[network]\nkind = 'fcsp'\nblocks = [8]\ndense = [4]")
    with pytest.raises(UsageError, match="the recipe lacks batch_size"):
        recipes.load(str(broken))


def test_a_run_keeps_its_recipe_and_the_steps_its_schedules_go_by(tmp_path):
    path = tmp_path / "recipe.toml"
    assert recipes.freeze(recipes.load("small"), path) == recipes.load("small") == recipes.load(str(path))
    frozen = recipes.freeze(recipes.load("small", ["steps=9", "checkpoint_seconds=5"]), path)
    assert (frozen.steps, frozen.checkpoint_seconds) == (40000, 5) and recipes.load(str(path)) == frozen
    with pytest.raises(Failure, match="another recipe .batch_size = 2, now 3"):
        recipes.freeze(recipes.load("small", ["steps=9", "batch_size=3"]), path)
