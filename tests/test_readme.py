"""The README's commands are commands, and its YAML is YAML."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from torchdistill.common.yaml_util import load_yaml_file

from mixacm_plugin.cli import mixacm_parser, torchdistill_parser

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
PARSERS = {"mixacm": mixacm_parser, "torchdistill": torchdistill_parser}
COMMANDS = [
    command.strip()
    for language, block in BLOCKS
    if language == "shell"
    for line in block.replace("\\\n", " ").splitlines()
    for command in line.partition("#")[0].split("&&")
    if command.strip().split(" ")[0] in PARSERS
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_are_understood(command):
    name, *argv = shlex.split(command)
    PARSERS[name]().parse_args(argv)


def test_yaml_of_the_readme_can_be_parsed(tmp_path):
    load_yaml_file("/dev/null")  # registers the host's tags
    blocks = [block for language, block in BLOCKS if language == "yaml"]
    assert len(blocks) >= 3
    for block in blocks:
        yaml.compose(block, Loader=yaml.FullLoader)


def test_nothing_is_left_to_fill_in():
    assert "@@" not in TEXT


def test_linked_files_are_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
