"""Builds the wheel: pyproject.toml has the settings, this file what must be looked up in the tree.

A wheel has the commands, recipes, catalogue and grid scripts in depthfield/share, in the folders of a checkout, and a
launcher for each command; see lib/depthfield/home.py.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COMMANDS, SCRIPTS, RECIPES = (
    sorted(path for path in Path(folder).iterdir() if path.is_file()) for folder in ("bin", "sge", "lib/recipes")
)
SHARED = [*COMMANDS, *SCRIPTS, *RECIPES, Path("lib/launch.sh"), Path("data/datasets.toml")]


class BuildWithShared(build_py):
    def run(self):
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(Path(self.build_lib, "depthfield"), ignore_errors=True)  # what an earlier build left
        super().run()
        for source, target in self.shared().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)  # with its mode: commands and scripts stay executable

    def shared(self) -> dict[str, str]:
        return {str(path): str(Path(self.build_lib, "depthfield/share", path)) for path in SHARED}

    def get_source_files(self):
        return [*super().get_source_files(), *self.shared()]

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *self.shared().values()]


setup(
    cmdclass={"build_py": BuildWithShared},
    entry_points={"console_scripts": [f"{path.name} = depthfield.home:main" for path in COMMANDS]},
)
