"""lib/messages.md explains every message that the code can print, in the words in which it prints it."""

import messages


def test_each_message_explained_is_in_the_code_and_each_in_the_code_is_explained():
    explained = messages.explained()
    said = {text for path in messages.sources() for text in messages.spoken(path)}
    known = said | {text for path in messages.sources() for text in messages.written(path)}
    how = "python tests/messages.py helps"
    assert sorted(set(explained) - known) == [], how
    assert sorted(said - set(explained)) == [], how


def test_messages_are_shown_with_names_for_what_differs(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(
        "say(f'{path}: no checkpoint in {len(found)} folders{more}; see `help`')\n"
        "raise tool.Failure('a count such as ' + f'{count:.3g}' + ', not {name}')\n"
        "say(failure)\n"
        "say(f'{name}: {failure}')\n"
    )
    assert list(messages.spoken(code)) == [
        "PATH: no checkpoint in … folders…; see 'help'", "a count such as COUNT, not {name}",
    ]  # fmt: skip


def test_reworded_messages_are_found_and_put_into_the_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "messages.md"
    whole = messages.PAGE.read_text()
    page.write_text(whole.replace("`RUN: no checkpoint yet; train it", "`RUN: has no checkpoint; train it"))
    assert page.read_text() != whole
    monkeypatch.setattr(messages, "PAGE", page)
    messages.main()
    assert page.read_text() == whole and "reworded: RUN: has no checkpoint" in capsys.readouterr().out
