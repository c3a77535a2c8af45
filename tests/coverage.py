"""Lines of the library and the formats that tests ran, by file, from what gcov counted.

    coverage.py BUILD SOURCE [--lines] [--least PERCENT]

BUILD was built with --coverage and its tests were run. The table has two parts: what reads files of strangers, which must reach PERCENT
of its lines, and the rest, for information. The first are the files DECODERS and, of other files of the library, the functions that
are called decode, read, unpack or parse; but not what drives a CUDA device, which the tests of folder gpu run. --lines names the lines
that nothing ran.
"""
import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys

DECODERS = re.compile(
    r"formats/(?!wire/(compress|aggregate))|lib/core/(bytes.hpp|target.cpp|tensor.cpp|state.cpp)|lib/capi/(frame|arrays|state)\.|lib/transforms/"
    r"|lib/packers/(?!level_histogram)|lib/methods/(registry.cpp|options.hpp|sparse_decoder)|tools/condition.cpp")
DECODING = re.compile(r"[Dd]ecod|unpack|(?<![sS])pars(e|ing)|(^|[:_])read|Reader::")
DEVICE = re.compile(r"device|Device|cuda|decode_group|_gpu|GroupBlock")


def counted(data_file):
    """(path, {line: (count, whether it decodes)}) of each source of one object file; without what drives a device."""
    done = subprocess.run(["gcov", "--json-format", "--stdout", str(data_file)], capture_output=True, check=True, cwd=data_file.parent)
    for document in done.stdout.splitlines():
        for file in json.loads(document)["files"]:
            names = {function["name"]: function["demangled_name"] for function in file["functions"]}
            lines = {}
            for line in file["lines"]:
                name = names.get(line.get("function_name"), "").replace("(anonymous namespace)::", "").split("(")[0]
                if DEVICE.search(file["file"]) or DEVICE.search(name):
                    continue
                decodes = bool(DECODERS.search(file["file"]) or DECODING.search(name))
                count, was = lines.get(line["line_number"], (0, False))
                lines[line["line_number"]] = (count + line["count"], was or decodes)
            yield file["file"], lines


def ranges(numbers):
    """1-3,7 of [1, 2, 3, 7]."""
    parts = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in parts)


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--least", type=float, default=0)
    options = parser.parse_args(arguments)
    build, source = options.build.resolve(), options.source.resolve()
    # Of the tests' own objects only the program's parts that they link hold lines of the table.
    data_files = [path for path in build.rglob("*.gcda")
                  if not path.is_relative_to(build / "tests") or "program_parts" in str(path)]
    if not data_files:
        return f"{build}: no tests of a build with --coverage have run"
    files = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda path: list(counted(path)), data_files):
            for name, lines in found:
                path = (build / name).resolve()
                if not path.is_relative_to(source):
                    continue
                merged = files.setdefault(str(path.relative_to(source)), {})
                for line, (count, decodes) in lines.items():
                    before, decoded = merged.get(line, (0, False))
                    merged[line] = (before + count, decoded or decodes)
    missed_share = 0
    for title, chosen in (("decoders and parsers", True), ("the rest", False)):
        total = ran = 0
        print(f"{title}\n  {'lines':>6} {'run':>6} {'%':>6}")
        for name in sorted(files):
            lines = {line: count for line, (count, decodes) in files[name].items() if decodes == chosen}
            if not lines or not name.startswith(("lib/", "formats/", "tools/")):
                continue
            missed = sorted(line for line, count in lines.items() if count == 0)
            total, ran = total + len(lines), ran + len(lines) - len(missed)
            print(f"  {len(lines):6} {len(lines) - len(missed):6} {100 - 100 * len(missed) / len(lines):6.1f} {name}"
                  + (f": {ranges(missed)}" if options.lines and missed else ""))
        share = 100 * ran / total
        print(f"  {total:6} {ran:6} {share:6.1f} in all")
        if chosen and share < options.least:
            missed_share = share
    return f"{missed_share:.1f} % of the lines of decoders and parsers were run, {options.least:g} % is the least" if missed_share else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
