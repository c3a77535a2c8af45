"""Reads the PTX of the kernels: nothing in it is contracted (fma), approximate, or flushes subnormal numbers, since bytes of
frames depend on every bit. Before it looks at the files it makes sure that it finds what it looks for.

    check_ptx.py FILE.ptx...
"""
import pathlib
import re
import sys

FORBIDDEN = re.compile(r"^\s*(?:@!?%\w+\s+)?((?:fma|mad)(?:\.\w+)*\.f(?:16|32|64)|\w+(?:\.\w+)*\.(?:approx|ftz)(?:\.\w+)*)\b", re.MULTILINE)

for sample in ("fma.rn.f32 %f1, %f2, %f3, %f4;", "\t@%p1 div.approx.f32 %f1, %f2, %f3;", "add.ftz.f32 %f1, %f2, %f3;",
               "mad.rn.f64 %fd1, %fd2, %fd3, %fd4;"):
    assert FORBIDDEN.search(sample), sample
for sample in ("add.rn.f32 %f1, %f2, %f3;", "mad.lo.s32 %r1, %r2, %r3, %r4;", "div.rn.f32 %f1, %f2, %f3;"):
    assert not FORBIDDEN.search(sample), sample

failed = kernels = 0
for name in ";".join(sys.argv[1:]).split(";"):  # a list of CMake is one argument
    text = pathlib.Path(name).read_text()
    kernels += len(re.findall(r"^(?:\.visible )?\.?(?:weak )?\.entry ", text, re.MULTILINE))
    for found in FORBIDDEN.finditer(text):
        failed += 1
        print(f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found.group(1)}")
if kernels == 0:
    sys.exit("no kernels found: the files are not what this test reads")
print(f"{len(sys.argv) - 1} files, {kernels} kernels, {failed} contracted, approximate or flushing operations")
sys.exit(failed > 0)
