"""describe-network from the shell."""

from conftest import run


def test_shows_each_layer_of_each_recipe_and_the_sum(tmp_path):
    done = run("describe-network", "fcsp", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *layers, last = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["fcsp/z", "16×1 1", "17"] in layers and last == ["all", "", "19502052"]
    assert sum(int(count) for _, _, count in layers) == 19502052
    several = run("describe-network", "--set", "seed=1", "seed", "dcnf-small", cwd=tmp_path).stdout.splitlines()
    assert {line.split("\t")[0] for line in several} == {"seed", "dcnf-small"}
    assert [line.split("\t")[1:] for line in several if "\tall\t" in line] == [
        ["all", "", "2336675"],
        ["all", "", "91012"],
    ]


def test_an_unknown_recipe_is_reported_in_one_line(tmp_path):
    done = run("describe-network", "nothing", cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and "nothing" in done.stderr
