#!/usr/bin/python3
"""Checks who includes whom: kernels/element <- kernels/{cpu,cuda} <- lib <- formats <- tools, and nothing upward.

    architecture_test.py ROOT

tools and samples include the installed headers `jsq/...` only (tools also its own); the installed headers include each
other and the standard library only; CUB is included by one file at most. No two files of the program define a type of
one name in one namespace: linkers take the members of either for both. Before it looks at ROOT it makes one small tree
for each rule that breaks it, and makes sure that this is found. Prints every violation; exits 1 if there is any.
"""
import pathlib
import re
import sys
import tempfile

SOURCES = {".hpp", ".cpp", ".h", ".c", ".cu", ".cuh"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)

# What each folder may include in quotes, by the first folders of the path; the longest folder that fits counts.
MAY_INCLUDE = {
    "kernels/element": ["kernels/element"],
    "kernels/cpu": ["kernels/element", "kernels/cpu"],
    "kernels/cuda": ["kernels/element", "kernels/cuda"],
    "lib": ["kernels", "lib", "jsq"],
    "lib/include/jsq": ["jsq"],
    "formats": ["kernels", "lib", "jsq", "formats"],
    "tools": ["jsq", "tools"],
    "samples": ["jsq"],
}
NAMESPACE = re.compile(r"namespace\s*([\w:]*)\s*\{")
TYPE = re.compile(r"(?:template.*>\s*)?(?:struct|class|union|enum class|enum)\s+(?:JSQ_API\s+|alignas\(\w+\)\s+)?(\w+)(?!\w|::)[^;<]*\{")
C_HEADERS = {"stddef.h", "stdint.h"}


def is_below(path, folder):
    return path.startswith(folder + "/")


def is_standard(header):
    return header in C_HEADERS or re.fullmatch(r"[a-z0-9_]+", header)


def violations_of(file, path):
    """What is wrong with one file, whose path from the root is `path`; and whether it includes CUB."""
    folder = max((folder for folder in MAY_INCLUDE if is_below(path, folder)), key=len)
    found, cub = [], False
    for match in INCLUDE.finditer(file.read_text()):
        quoted, angled = match.groups()
        if quoted and (file.parent / quoted).is_file() and "/" not in quoted:
            quoted = f"{path.rpartition('/')[0]}/{quoted}"  # a neighbour
        if quoted and not any(is_below(quoted, allowed) for allowed in MAY_INCLUDE[folder]):
            found.append(f'{path}: includes "{quoted}"; {folder} may include {", ".join(MAY_INCLUDE[folder])}')
        if angled and folder == "lib/include/jsq" and not is_standard(angled):
            found.append(f"{path}: includes <{angled}>; installed headers may include the standard library only")
        if angled and angled.split("/")[0] in ("jsq", "lib", "kernels", "formats", "tools"):
            found.append(f"{path}: includes <{angled}>; headers of this project go in quotes")
        cub = cub or bool(angled and is_below(angled, "cub"))
    return found, cub


def types_of(text):
    """Qualified names of the types that a file laid out by clang-format defines outside unnamed namespaces."""
    names, inside = set(), []
    for line in text.split("\n"):
        if opened := NAMESPACE.match(line):
            inside.append(opened.group(1))
        elif re.match(r"\}\s*// namespace", line) and inside:
            inside.pop()
        elif (defined := TYPE.match(line)) and "" not in inside:
            names.add("::".join([*inside, defined.group(1)]))
    return names


def violations(root):
    found, cub_users, files, defined_in = [], [], 0, {}
    for top in sorted({folder.split("/")[0] for folder in MAY_INCLUDE}):
        for file in sorted((root / top).rglob("*")):
            path = file.relative_to(root).as_posix()
            if file.suffix not in SOURCES or not any(is_below(path, folder) for folder in MAY_INCLUDE):
                continue
            of_file, cub = violations_of(file, path)
            files += 1
            found += of_file
            cub_users += [path] if cub else []
            for name in types_of(file.read_text()) if top != "samples" else []:
                defined_in.setdefault(name, []).append(path)
    if len(cub_users) > 1:
        found.append(f"{', '.join(cub_users)}: all include CUB; one file may")
    for name, paths in defined_in.items():
        if len(paths) > 1:
            found.append(f"{', '.join(paths)}: all define {name}; give them names of their own")
    return found, files


BROKEN_TREES = [
    {"kernels/element/a.hpp": '#include "kernels/cpu/b.hpp"'},
    {"kernels/cpu/a.cpp": '#include "jsq/error.hpp"'},
    {"kernels/cuda/a.cu": '#include "lib/core/bytes.hpp"'},
    {"lib/core/a.cpp": '  #  include "formats/npy/npy.hpp"'},
    {"lib/include/jsq/a.hpp": '#include "lib/core/bytes.hpp"'},
    {"lib/include/jsq/a.hpp": "#include <fmt/format.h>"},
    {"lib/include/jsq/a.hpp": "#include <hdf5.h>"},
    {"formats/npy/a.cpp": '#include "tools/report.hpp"'},
    {"tools/a.cpp": '#include "lib/core/bytes.hpp"'},
    {"tools/a.cpp": "#include <formats/npy/npy.hpp>"},
    {"samples/a.cpp": '#include "tools/report.hpp"'},
    {"lib/core/a.cpp": '#include "bytes.hpp"'},
    {"kernels/cuda/a.cuh": "#include <cub/cub.cuh>", "kernels/cuda/b.cu": "#include <cub/device/device_scan.cuh>"},
    {"lib/a.hpp": "namespace jsq {\nstruct A {", "lib/core/b.cpp": "namespace jsq {\nclass A final : public B {"},
    {"lib/a.hpp": "namespace jsq {\nenum class A : int { a };", "tools/b.hpp": "namespace jsq {\nstruct A {};"},
]
SOUND_TREE = {
    "kernels/cpu/a.cpp": '#include "kernels/cpu/a.hpp"\n#include "kernels/element/b.hpp"\n#include <hwy/highway.h>',
    "lib/core/a.cpp": '#include "jsq/error.hpp"\n#include "kernels/cpu/a.hpp"\n#include "lib/core/bytes.hpp"',
    "lib/include/jsq/jsq.h": '#include <stdint.h>\n#include "jsq/export.hpp"',
    "kernels/cuda/a.cuh": "#include <cub/cub.cuh>",
    "tools/command.hpp": "",
    "lib/a.hpp": "namespace jsq {\nclass A {\n  struct B {\n}  // namespace jsq",
    "lib/a.cpp": "namespace jsq {\nstruct B;\nstruct A::B {\nnamespace {\nclass A {\n}  // namespace\n}  // namespace jsq",
    "tools/b.hpp": "namespace jsq::tools {\nclass A {\n}  // namespace jsq::tools",
    "tools/a.cpp": '#include "command.hpp"\n#include "jsq/frame.hpp"\n#include <CLI/CLI.hpp>',
}


def violations_of_tree(tree):
    with tempfile.TemporaryDirectory() as folder:
        for path, text in tree.items():
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return violations(pathlib.Path(folder))[0]


def main(arguments):
    if len(arguments) != 1:
        return __doc__
    for tree in BROKEN_TREES:
        if len(violations_of_tree(tree)) != 1:
            return f"this test is broken: it does not find what is wrong with {tree}"
    if violations_of_tree(SOUND_TREE):
        return f"this test is broken: it finds fault with a sound tree: {violations_of_tree(SOUND_TREE)}"
    found, files = violations(pathlib.Path(arguments[0]))
    if files == 0:
        return f"{arguments[0]}: no sources here"
    print(f"{files} files, {len(found)} violations")
    return "\n".join(found) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
