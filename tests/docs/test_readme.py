"""The READMEs' commands are commands that name shipped files, and their YAML is YAML."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml
from torchdistill.common.yaml_util import load_yaml_file

from mixacm_plugin.cli import mixacm_parser, torchdistill_parser
from mixacm_plugin.common.files import recipe_file

TOP = Path(__file__).parents[2]
READMES = [TOP / "README.md", *sorted(TOP.glob("recipes/*/README.md"))]
TEXT = {readme: readme.read_text(encoding="utf-8") for readme in READMES}
PARSERS = {"mixacm": mixacm_parser, "torchdistill": lambda argv: torchdistill_parser()}
FOLDERS = tuple(f"{folder.name}/" for folder in (TOP / "recipes").iterdir())


def blocks(readme: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT[readme], flags=re.DOTALL)


def commands(readme: Path) -> list[str]:
    lines = [line for b in blocks(readme, "shell") for line in b.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split("&&")]
    inline = re.findall(r"`((?:mixacm|torchdistill) [^`]*--[^`]*)`", TEXT[readme])
    left_out = ("...", "--help")  # something to fill in, and what ends the process
    found = [part for part in [*parts, *inline] if not part.endswith(left_out)]
    return [command for command in found if command.split(" ")[0] in PARSERS]


COMMANDS = sorted({command for readme in READMES for command in commands(readme)})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readmes_are_understood(command):
    name, *argv = shlex.split(command)
    PARSERS[name](argv).parse_args(argv)


@pytest.mark.parametrize("command", COMMANDS)
def test_shipped_files_in_commands_of_the_readmes_are_there(command):
    for word in shlex.split(command)[1:]:
        if word.startswith(FOLDERS) and "=" not in word:
            recipe_file(word)


def test_yaml_of_the_readmes_can_be_parsed():
    load_yaml_file("/dev/null")  # registers the host's tags
    found = [block for readme in READMES for block in blocks(readme, "yaml")]
    assert len(found) >= 3
    for block in found:
        yaml.compose(block, Loader=yaml.FullLoader)


def test_python_of_the_readmes_imports_what_is_there():
    found = [block for readme in READMES for block in blocks(readme, "python")]
    assert found
    for block in found:
        ast.parse(block)
        exec("\n".join(line for line in block.splitlines() if "import" in line), {})


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_nothing_is_left_to_fill_in(readme):
    assert "@@" not in TEXT[readme]


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_linked_files_are_there(readme):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT[readme])
    assert links
    assert [link for link in links if not (readme.parent / link).exists()] == []
