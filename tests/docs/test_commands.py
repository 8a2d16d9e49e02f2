"""Every command line in the documents is one, and names files and key paths that are there."""

import argparse
import re
import shlex
from dataclasses import fields

import pytest
from torch.distributed.run import get_args_parser as torchrun_parser

from documents import CODE, DOCUMENTS, GUIDE, TOP, commands, prose, section, table, title_of
from mixacm_plugin import read_recipe
from mixacm_plugin.cli import COMMANDS, mixacm_parser, torchdistill_parser
from mixacm_plugin.commands.evaluate import DISAGREEMENT
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.evaluation.attacks import ATTACKS, attack_of
from mixacm_plugin.reading.library import recipe_names
from mixacm_plugin.studies.study import read_study, rows_like

FOLDERS = tuple(f"{path.name}/" for path in (TOP / "recipes").iterdir() if path.is_dir())
OURS = re.compile(r"(?:.* -m mixacm_plugin|mixacm|torchdistill)(?: |$)")
LEFT_OUT = re.compile(r"\.\.\.|--help|--version|COMMAND")  # to be filled in; ends the process


def ours(documents=DOCUMENTS):
    found = {command for document in documents for command in commands(document)}
    named = {f"mixacm {name}" for name in COMMANDS}  # a command's name, not a whole line
    return sorted(c for c in found - named if OURS.match(c) and not LEFT_OUT.search(c))


LINES = ours()


def parsed(command):
    """The arguments of a command line, as its parser reads them."""
    name, *argv = shlex.split(command)
    if name == "torchrun":  # which would take --n for one of its own
        torchrun_parser().parse_args(argv)
    if "mixacm_plugin" in argv:
        name, argv = "mixacm", argv[argv.index("mixacm_plugin") + 1 :]
    parser = torchdistill_parser() if name == "torchdistill" else mixacm_parser(argv)
    try:
        return parser.parse_args(argv)
    except SystemExit:
        pytest.fail(f"not understood: {command}")


def test_there_are_commands_in_blocks_and_in_the_text():
    assert len(LINES) > 30
    assert any(line.startswith("torchrun") for line in LINES)
    assert "mixacm recipes copy quickstart/mixacm ." in LINES


@pytest.mark.parametrize("command", LINES)
def test_a_command_is_understood(command):
    args = parsed(command)
    if getattr(args, "attack", None):
        names = {field.name for attack in ATTACKS.values() for field in fields(attack)}
        given = {n: v for n, v in vars(args).items() if n in names and v is not None}
        name = "pgd" if args.attack == DISAGREEMENT else args.attack
        attack_of({"name": name, **given})


def names_something_shipped(command):
    args = vars(parsed(command))
    recipe = args.get("config") or args.get("recipe")
    return recipe in recipe_names() or str(args.get("study")).startswith("studies/")


def test_there_are_commands_for_shipped_recipes_and_studies():
    shipped = [line for line in LINES if names_something_shipped(line)]
    assert any("--set" in line for line in shipped)
    assert len(shipped) > 15


@pytest.mark.parametrize("command", LINES)
def test_what_a_command_changes_of_a_shipped_recipe_or_study_is_there(command):
    args = vars(parsed(command))
    recipe = args.get("config") or args.get("recipe")
    if recipe in recipe_names():
        read_recipe(recipe, args.get("overrides") or [])
    if str(args.get("study")).startswith("studies/"):
        study = read_study(args["study"], args.get("scale"))
        rows_like(study, args.get("rows") or [])


@pytest.mark.parametrize("document", DOCUMENTS, ids=title_of)
def test_shipped_files_that_are_named_are_there(document):
    words = [word for command in commands(document) for word in shlex.split(command)]
    words += CODE.findall(prose(document))
    for word in words:
        name = word.rpartition("=")[2] if re.match(r"[\w.]+=", word) else word
        if name.startswith("recipes/") and not re.search("[A-Z]{4}", name):
            assert (TOP / name).exists(), word
        elif name.startswith(FOLDERS) and re.fullmatch(r"[\w/.-]+", name):
            recipe_file(name)


def arguments(parser):
    """A parser's own arguments: flags as they are written, others by their metavar."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            yield action.option_strings[0] if action.option_strings else action.metavar


def parsers(parser, title):
    """Each command with arguments of its own, and commands inside of commands."""
    inside = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inside:
        yield title, parser
    for action in inside:
        for name, child in action.choices.items():
            yield from parsers(child, f"{title} {name}")


PARSERS = {
    title: parser
    for name in COMMANDS
    for title, parser in parsers(mixacm_parser([name]), "mixacm")
    if title.split()[1] == name
}


def test_the_table_of_commands_has_them_all():
    listed = table(GUIDE, "Commands", "command").column(0)
    assert [c for c in listed if c != "torchdistill"] == [f"mixacm {name}" for name in COMMANDS]


def test_there_is_a_section_for_each_command():
    titles = re.findall(r"^#### (mixacm .+)$", prose(GUIDE), re.MULTILINE)
    expected = [t.replace("mixacm train", "mixacm train and torchdistill") for t in PARSERS]
    expected[expected.index("mixacm recipes list")] = "mixacm recipes"
    assert titles == expected


@pytest.mark.parametrize("title", PARSERS)
def test_the_table_of_a_commands_arguments_has_them_all(title):
    expected = list(arguments(PARSERS[title]))
    heading = "mixacm train and torchdistill" if title == "mixacm train" else title
    if expected:
        assert table(GUIDE, heading, "argument").column(0) == expected
    else:
        heading = "mixacm recipes" if title == "mixacm recipes list" else heading
        assert "|" not in section(GUIDE, heading)


def test_torchdistill_has_the_arguments_of_mixacm_train():
    assert list(arguments(torchdistill_parser())) == list(arguments(PARSERS["mixacm train"]))
