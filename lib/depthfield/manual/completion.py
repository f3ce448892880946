"""Completion of the commands in bash and zsh, made from their help texts.

The value of an option is completed to the words that it may be, to folders, to nothing (a number, a name), or else to
files.
"""

import re
import shlex
from collections.abc import Callable, Mapping

from depthfield import preparation, protocols, viewing
from depthfield.cluster import endings
from depthfield.field import fill, similarity
from depthfield.manual.helptext import Help, Option
from depthfield.report import tables
from depthfield.samples import catalogue, layouts
from depthfield.training import checkpoints, recipe

# The words that an option's value, or a positional argument, may be: of all commands, or of one.
WORDS: Mapping[str, Callable[[], list[str]]] = {
    "--checkpoint": lambda: list(checkpoints.CHOICES),
    "--fill": lambda: list(fill.FILLS),
    "--format": lambda: list(tables.FORMATS),
    "--layout": lambda: list(layouts.LAYOUTS),
    "--protocol": lambda: list(protocols.PROTOCOLS),
    "--reader": lambda: list(preparation.READERS),
    "--scores": lambda: list(tables.SCORES),
    "--recipe": recipe.names,
    "--set": lambda: [f"{key}=" for key in recipe.Recipe.__dataclass_fields__ if key != "network"],
    "--way": lambda: [endings.MACHINE, endings.PE, endings.ARRAY],
    "RECIPE": recipe.names,
    "export-model --format": lambda: ["savedmodel", "keras"],
    "show-depth --panels": lambda: list(viewing.PANELS),
    "show-depth --similarity": lambda: list(similarity.SIMILARITIES),
    "fetch-dataset NAME": lambda: list(catalogue.read()),
}
OR_FILES = ("--recipe", "RECIPE")  # may be files, too
FOLDERS = re.compile("DIR|FOLDER|RAW|RUN|.*_DIR")
NOTHING = re.compile(".|.*[^A-Z_].*|ADDRESS|HOST|HOW|JOB|METRES|NAME|PID|PORT|RATE|RULE|SECONDS|SIZE|TIME|VALUE|WAY")


def words_of(help: Help, what: str) -> list[str]:
    """The words that an option's value, or a positional argument, may be; none if it is free."""
    known = WORDS.get(f"{help.name} {what}") or WORDS.get(what)
    return known() if known else []


# ---- bash


def for_bash(help: Help) -> str:
    """A script that defines and registers a function; readline itself completes to files."""
    function = f"_depthfield_{help.name.replace('-', '_')}"
    cases = "".join(_bash_case(help, option) for option in help.options if option.value)
    operands = [*help.words, *(word for argument in help.arguments for word in words_of(help, argument))]
    flags = [flag for option in help.options for flag in option.flags]
    return f"""{function}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD - 1]}} words=
    if [[ $option == = ]]; then # --option=value is three words
        option=${{COMP_WORDS[COMP_CWORD - 2]}}
    elif [[ $current == = ]]; then
        current=
    fi
    case $option in
{cases}        *) words={_quoted(operands)}; [[ $current != -* ]] || words={_quoted(flags)} ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F {function} {help.name}
"""


def _bash_case(help: Help, option: Option) -> str:
    known = words_of(help, option.flags[-1])
    if known:
        then = f"words={_quoted(known)}" + "; compopt -o nospace" * known[0].endswith("=")
    elif FOLDERS.fullmatch(option.value):
        then = "compopt +o default -o dirnames"
    else:
        then = "compopt +o default" if NOTHING.fullmatch(option.value) else ""
    return f"        {' | '.join(option.flags)}) {then} ;;\n"


def _quoted(words: list[str]) -> str:
    return shlex.quote(" ".join(words))


# ---- zsh


def for_zsh(help: Help) -> str:
    """The body of the function that completes the command."""
    specs = [spec for option in help.options for spec in _zsh_option(help, option)] + _zsh_operands(help)
    lines = " \\\n".join(f"    {shlex.quote(spec)}" for spec in specs)
    return f"_arguments -S \\\n{lines}\n"


def _zsh_option(help: Help, option: Option) -> list[str]:
    only = "(- *)" if {"--help", "--version"} & {*option.flags} else f"({' '.join(option.flags)})"
    text = _zsh_plain(re.split(r"[;.:] | \[default", option.text)[0])
    value = ""
    if option.value:
        value = f":{_zsh_plain(option.value)}:{_zsh_action(help, option.flags[-1], option.value)}"
    before = "*" if option.repeats else only
    joins = {flag: "=" if flag.startswith("--") else "+" for flag in option.flags} if value else {}
    return [f"{before}{flag}{joins.get(flag, '')}[{text}]{value}" for flag in option.flags]


def _zsh_action(help: Help, what: str, value: str) -> str:
    known = " ".join(words_of(help, what))
    if known.endswith("="):
        return f"{{compadd -S '' -- {known}}}"
    if what in OR_FILES:
        return f"{{compadd -- {known}; _files}}"
    if known:
        return f"({known})"
    return "_files -/" if FOLDERS.fullmatch(value) else " " if NOTHING.fullmatch(value) else "_files"


def _zsh_operands(help: Help) -> list[str]:
    if "COMMAND" in help.arguments:
        return ["(-):command: _command_names -e", "*::argument: _normal"]
    if help.words:
        return [f"1:word:({' '.join(help.words)})"]
    if not help.arguments:
        return []
    name = help.arguments[0]
    only = len(help.arguments) == 1 and (words_of(help, name) or FOLDERS.fullmatch(name))
    return [f"*:{name}:{_zsh_action(help, name, name) if only else '_files'}"]


def _zsh_plain(text: str) -> str:
    """Without a meaning to _arguments."""
    return re.sub(r"([\\:\[\]])", r"\\\1", text)
