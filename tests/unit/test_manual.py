"""Manual pages and shell completion, as the programs that read them understand them."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import docopt
import pytest
from shell import PROJECT

from depthfield.manual import completion, helptext, install
from depthfield.manual.helptext import Items, Literal, Paragraph

HELPS = helptext.of_commands()
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"]


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    install.write_pages(folder)
    return folder


# ---- help texts


@pytest.mark.parametrize("name", HELPS)
def test_every_help_text_has_the_sections_of_a_manual_page(name):
    text = helptext.docstring(helptext.COMMANDS / name)
    assert set(re.findall("^(Usage|Options|Exit status|Examples):$", text, re.MULTILINE)) == {
        "Usage", "Options", "Exit status", "Examples",
    }  # fmt: skip
    for section in HELPS[name].sections:
        kind = Literal if section.title == "Examples" else Items
        assert any(isinstance(block, kind) for block in section.blocks), section.title


@pytest.mark.parametrize("name", HELPS)
def test_what_completion_knows_of_a_command_is_what_docopt_takes(name):
    sections = docopt.parse_docstring_sections(helptext.docstring(helptext.COMMANDS / name))
    options = docopt.parse_options(sections.before_usage) + docopt.parse_options(sections.after_usage)
    assert {(frozenset(option.flags), option.value is not None) for option in HELPS[name].options} == {
        (frozenset({option.short, option.longer} - {None}), option.argcount == 1) for option in options
    }
    pattern = docopt.parse_pattern(docopt.formal_usage(sections.usage_body), options)
    assert set(HELPS[name].arguments) == {leaf.name for leaf in pattern.flat(docopt.Argument) if leaf.name.isupper()}
    assert set(HELPS[name].words) == {leaf.name for leaf in pattern.flat(docopt.Command)}


def test_a_help_text_in_its_parts():
    help = helptext.parse("""try-it: try something.

    Usage:
      try-it [--often N]... (in | out) FILE
             [MORE...]
      try-it [--very-long-option VALUE] --list

    It knows these things:
      first   this
      second  that

    Options for the brave (only here):
      -o, --often N  how often,
                     at least

      For the braver:
      --very-long-option VALUE
                     what it is

    Seldom seen:
      a short line
      and another

      This is text that somebody has written in lines which are as long as lines may be: it is
      a paragraph.

    Exit status:
      0  done
      75 not yet
    """)
    assert help.usage == ("try-it [--often N]... (in | out) FILE [MORE...]", "try-it [--very-long-option VALUE] --list")
    assert help.arguments == ("FILE", "MORE") and help.words == ("in", "out")
    assert [option[:3] for option in help.options] == [
        (("-o", "--often"), "N", "how often, at least"), (("--very-long-option",), "VALUE", "what it is"),
    ]  # fmt: skip
    assert [option.repeats for option in help.options] == [True, False]
    assert help.description[1] == Items((("first", "this"), ("second", "that")))
    brave, seldom, status = help.sections
    assert [type(block) for block in brave.blocks] == [Paragraph, Items, Paragraph, Items]
    assert brave.blocks[0] == Paragraph("only here") and brave.blocks[2] == Paragraph("For the braver:")
    assert seldom.title == "Seldom seen" and [type(block) for block in seldom.blocks] == [Literal, Paragraph]
    assert status.blocks == (Items((("0", "done"), ("75", "not yet"))),)
    with pytest.raises(ValueError, match="Usage"):
        helptext.parse("try-it: try something.")


# ---- manual pages


def shown(page) -> str:
    """A page as groff shows it on lines so long that nothing is broken."""
    words = ["groff", "-man", "-Tutf8", "-P-cbou", "-rLL=900n", "-rHY=0", page]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def said(block) -> list[str]:
    match block:
        case Items(rows):
            return [words for row in rows for words in row]
        case Literal(lines):
            return list(lines)
    return [block.text]


@needs("groff")
def test_a_page_says_all_that_the_help_text_says(pages):
    for name, help in HELPS.items():
        text = shown(pages / f"man1/{name}.1")
        found = [line for line in re.findall("^[A-Z][A-Z ]+$", text, re.MULTILINE) if line in SECTIONS]
        assert found == [section for section in SECTIONS if section in found], name
        assert {"NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} <= set(found), name
        assert f"{name} - {help.purpose}\n" in text.replace("\N{HYPHEN}", "-")
        plain = " ".join(re.sub("[\N{HYPHEN}\N{MINUS SIGN}]", "-", text).split()).replace("`", "")
        for section in help.sections:
            for block in section.blocks:
                for words in said(block):
                    assert " ".join(words.split()).replace("`", "") in plain, (name, words)
        for form in help.usage:
            assert form in plain, name
        others = text.partition("SEE ALSO")[2]
        assert "depthfield(7)" in others and f"{name}(1)" not in others.partition("depthfield(7)")[0]


@needs("mandoc")
def test_mandoc_finds_nothing_to_say_about_the_pages(pages):
    done = subprocess.run(["mandoc", "-Tlint", *sorted(pages.rglob("*.[17]"))], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("groff")
def test_groff_finds_nothing_to_say_about_the_pages(pages):
    for page in sorted(pages.rglob("*.[17]")):
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), page


def test_pages_of_commands_that_are_gone_are_removed(pages):
    (pages / "man1/gone-by.1").write_text("old")
    install.write_pages(pages)
    assert sorted(path.name for path in (pages / "man1").iterdir()) == [f"{name}.1" for name in HELPS]


# ---- completion


def test_completion_knows_each_choice_that_a_command_checks():
    for name in HELPS:
        checked = re.findall(r'tool\.choice\(arguments, "(--[a-z-]+)"', (PROJECT / "bin" / name).read_text())
        for option in checked:
            assert completion.words_of(HELPS[name], option), f"{option} of {name}"


class Shell:
    """A shell on a terminal of its own."""

    def __init__(self, words, cwd, start):
        self.ours, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.type(f"{start}; PS1='rea''dy> '\n")
        self.read("ready> ")

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def read(self, until: str, seconds: float = 60) -> str:
        text, end = "", time.monotonic() + seconds
        while until not in text:
            assert select.select([self.ours], [], [], max(end - time.monotonic(), 0))[0], f"{until!r} not in {text!r}"
            text += os.read(self.ours, 4096).decode()
        return text

    def completed(self, keys: str) -> str:
        """The words that a line with keys of completion has become."""
        self.type(f"{keys}\x01printf 'have:%s:' \x05; echo\n")
        text = self.read("ready> ")
        return re.findall(r"have:(?!%s)(.*?):(?=have|\s)", text)[1:]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    install.install(folder)
    return folder


@pytest.fixture
def shells(prefix, tmp_path):
    """Starts bash or zsh with completion, in a folder with a few files."""
    (tmp_path / "runs-of-mine").mkdir()
    (tmp_path / "runs.txt").touch()
    (tmp_path / "some file.tfrecord").touch()
    started = []

    def start(name: str) -> Shell:
        if name == "bash":
            words, begin = ["bash", "--norc", "--noprofile", "-i"], f"for f in {prefix}/{install.BASH}/*; do . $f; done"
        else:
            words = ["zsh", "-f", "-i"]
            begin = f"fpath=({prefix}/{install.ZSH} $fpath); autoload -Uz compinit; compinit -D -u"
        started.append(Shell(words, tmp_path, begin))
        return started[-1]

    yield start
    for shell in started:
        shell.process.kill()
        shell.process.wait()
        os.close(shell.ours)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ("bash", "zsh")])
def test_a_shell_completes_options_their_values_and_files(shells, name):
    shell = shells(name)
    for keys, words in {
        "predict-depth --unc\tx": ["--uncertainty", "x"],
        "predict-depth --fil\tcol\tx": ["--fill", "colourise", "x"] if name == "bash" else ["--fill=colourise", "x"],
        "predict-depth --fill=col\tx": ["--fill=colourise", "x"],
        "train-depth --recipe dem\tx": ["--recipe", "demo", "x"],
        "train-depth --recipe runs.\tx": ["--recipe", "runs.txt", "x"],
        "train-depth --run runs\tx": ["--run", "runs-of-mine/x"],
        "train-depth --set learning\t1": ["--set", "learning_rate=1"],
        "train-depth some\tx": ["some file.tfrecord", "x"],
        "train-depth --steps runs\tx": ["--steps", "runsx"],
        "fetch-dataset n\tx": ["nyu", "x"],
        "keep-node w\tx": ["worker", "x"],
    }.items():
        assert shell.completed(keys) == words, keys
