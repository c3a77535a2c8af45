#!/usr/bin/python3
"""Holds the program's help and its manual together.

    check_help_against_man.py JSQ MAN_FOLDER

For the program and each command: the options of --help are those of the page's OPTIONS section, with the same names and
the same "(default: ...)". Every command has a page and stands in jsq.1; every method stands in jsq-methods.1; the exit
codes of the help are those of jsq.1. Before that it makes sure that it sees a difference. Exits 1 and prints what
differs.
"""
import json
import pathlib
import re
import subprocess
import sys

OPTION_NAMES = re.compile(r"(?:-[A-Za-z]|--[a-z][a-z-]*)(?:, ?(?:-[A-Za-z]|--[a-z][a-z-]*))*")
DEFAULT = re.compile(r"\(default: (.*)\)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names_at(line):
    match = OPTION_NAMES.match(line)
    return frozenset(name.strip() for name in match.group().split(",")) if match else None


def default_in(text):
    match = DEFAULT.search(" ".join(text.split()))
    return match.group(1) if match else None


def options_of_help(text):
    """{names: default} of a help page: option lines are indented by two blanks."""
    found, names, words = {}, None, []
    for line in text.splitlines() + [""]:
        starts = line.startswith("  -")
        if names and (starts or not line.startswith(" ")):
            found[names] = default_in(" ".join(words))
            names = None
        if starts:
            names, words = names_at(line.strip()), []
        words.append(line)
    return found


def sections_of(page):
    """{heading: lines} of a rendered page."""
    text = re.sub(r".\x08", "", run("mandoc", "-T", "utf8", "-O", "width=500", str(page)))
    sections, lines = {}, []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            lines = sections.setdefault(line.strip(), [])
        else:
            lines.append(line)
    return sections


def options_of_section(lines):
    found, names, words = {}, None, []
    for line in lines + ["       -"]:
        heading = re.match(r" {5,7}-", line)
        if heading:
            if names:
                found[names] = default_in(" ".join(words))
            names, words = names_at(line.strip()), []
        words.append(line)
    return found


def differences(what, of_help, of_page):
    found = []
    for names in sorted(of_help.keys() | of_page.keys(), key=sorted):
        shown = ", ".join(sorted(names))
        if names not in of_page:
            found.append(f"{what}: {shown} is in --help but not in the manual")
        elif names not in of_help:
            found.append(f"{what}: {shown} is in the manual but not in --help")
        elif of_help[names] != of_page[names]:
            found.append(f"{what}: {shown}: default '{of_help[names]}' in --help, '{of_page[names]}' in the manual")
    return found


def check_itself():
    help_text = "  -a,--all N   Text\n               (default: 1)\n  --bee       More (default: off)\n"
    sound = ["       -a, --all N", "           Text, text. (default: 1)", "", "       --bee", "           More. (default: off)"]
    of_help = options_of_help(help_text)
    if differences("", of_help, options_of_section(sound)):
        return "this test is broken: it finds fault with a sound page"
    for broken in (sound[:2], sound + ["       --sea"], [line.replace("1", "2") for line in sound]):
        if len(differences("", of_help, options_of_section(broken))) != 1:
            return f"this test is broken: it does not find what is wrong with {broken}"
    return None


def main(arguments):
    if len(arguments) != 2:
        return __doc__
    broken = check_itself()
    if broken:
        return broken
    program, folder = arguments[0], pathlib.Path(arguments[1])
    help_text = run(program, "--help")
    commands = re.findall(r"^  ([a-z]+) ", help_text.partition("Subcommands:")[2], re.MULTILINE)
    if not commands:
        return "jsq --help lists no commands"
    main_page = sections_of(folder / "jsq.1")
    found = differences("jsq", options_of_help(help_text), options_of_section(main_page["GLOBAL OPTIONS"]))
    for command in commands:
        page = folder / f"jsq-{command}.1"
        if not page.is_file():
            found.append(f"{command}: has no manual page")
            continue
        of_help = options_of_help(run(program, command, "--help"))
        found += differences(f"jsq {command}", of_help, options_of_section(sections_of(page)["OPTIONS"]))
        if not any(line.strip() == command for line in main_page["COMMANDS"]):
            found.append(f"{command}: is not in jsq.1, COMMANDS")
    for page in folder.glob("jsq-*.1"):
        if page.stem.removeprefix("jsq-") not in commands:
            found.append(f"{page.name}: is about a command that does not exist")
    methods_page = " ".join(" ".join(lines) for lines in sections_of(folder / "jsq-methods.1").values())
    for method in json.loads(run(program, "methods", "--json"))["methods"]:
        if not re.search(rf"\b{re.escape(method['name'])}\b", methods_page):
            found.append(f"method {method['name']}: is not in jsq-methods.1")
    help_codes = re.findall(r"(?:^|[ /])(\d+)(?= [a-z])|(?<= )(\d+)(?=/)", help_text.partition("Exit codes:")[2], re.MULTILINE)
    help_codes = {first or second for first, second in help_codes}
    page_codes = set(re.findall(r"^ +(\d+) ", "\n".join(main_page["EXIT STATUS"]), re.MULTILINE))
    if not help_codes or help_codes != page_codes:
        found.append(f"exit codes: {sorted(help_codes, key=int)} in --help, {sorted(page_codes, key=int)} in jsq.1")
    print(f"{len(commands)} commands, {len(found)} differences between help and manual")
    return "\n".join(found) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
