"""Where the project's commands, recipes, catalogue and grid scripts are, in a checkout and in an installed package.

HOME is the root of a checkout. An installed package has the same tree in its folder `share`, see setup.py.
`python -m depthfield.home` prints it.
"""

import runpy
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "share").is_dir()
HOME = PACKAGE / "share" if INSTALLED else PACKAGE.parents[1]
COMMANDS = HOME / "bin"
RECIPES = HOME / "lib/recipes"
CATALOGUE = HOME / "data/datasets.toml"


def launchers() -> Path:
    """The folder with the commands as users call them: bin of a checkout, or where pip puts its launchers."""
    scripts = Path(sysconfig.get_path("scripts"))
    return scripts if INSTALLED and (scripts / "train-depth").exists() else COMMANDS


def main() -> None:
    """Run the command by whose name this was called; the launchers that pip installs call this."""
    runpy.run_path(str(COMMANDS / Path(sys.argv[0]).resolve().name), run_name="__main__")


if __name__ == "__main__":
    print(HOME)
