"""Every kernel of jsq's own is launched by the tests that run under all checks of the emulator: what those find nothing in is all of them.

    check_kernels.py STATISTICS FILE.ptx...

STATISTICS: the folder with what the emulator counted in each of those tests.
"""
import pathlib
import re
import subprocess
import sys

ENTRY = re.compile(r"^(?:\.visible )?(?:\.weak )?\.entry (\w+)", re.MULTILINE)
LAUNCHED = re.compile(r"^kernel (.*)$", re.MULTILINE)

reports = sorted(pathlib.Path(sys.argv[1]).iterdir())
launched = {name for report in reports for name in LAUNCHED.findall(report.read_text())}
mangled = [name for path in ";".join(sys.argv[2:]).split(";")  # a list of CMake is one argument
           for name in ENTRY.findall(pathlib.Path(path).read_text())]
kernels = set(subprocess.run(["c++filt"], input="\n".join(mangled), text=True, capture_output=True, check=True).stdout.splitlines())
if not kernels or not launched:
    sys.exit("no kernels or no launches found: the files are not what this test reads")
shortened = tuple(name[:-3] for name in launched if name.endswith("..."))
missing = sorted(name for name in kernels - launched if not name.startswith(shortened))
for name in missing:
    print(f"never launched under checks: {name}")
print(f"{len(reports)} tests, {len(kernels)} kernels, {len(missing)} of them never launched")
sys.exit(len(missing) > 0)
