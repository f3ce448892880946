"""depthfield.manual: write the manual pages of the commands, or install commands, pages and shell completion.

Usage:
  depthfield.manual pages FOLDER
  depthfield.manual install PREFIX
  depthfield.manual uninstall PREFIX

Call it as `python -m depthfield.manual`. make man, make install-user and make uninstall-user call it so.

Below PREFIX, such as ~/.local, commands go to bin (as links), pages to share/man, and completion to
share/bash-completion/completions and share/zsh/site-functions. Nothing else is touched there; files of others that are
in the way are an error.

Options:
  -h, --help  show this help
  --version   show the version

Exit status:
  0  done
  1  failed; nothing was changed
  2  wrong usage

Examples:
  python -m depthfield.manual install ~/.local
"""

import sys
from pathlib import Path

from depthfield import tool


def main(arguments: dict) -> None:
    from depthfield.manual import install

    sys.argv[0] = next((f"{word}-user" for word in ("install", "uninstall") if arguments[word]), sys.argv[0])
    if arguments["pages"]:
        install.write_pages(Path(arguments["FOLDER"]))
        return
    prefix = Path(arguments["PREFIX"]).expanduser().absolute()
    (install.install if arguments["install"] else install.uninstall)(prefix)


if __name__ == "__main__":
    sys.argv[0] = "depthfield.manual"
    tool.run(main, __doc__)
