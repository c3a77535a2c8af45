"""Assembles the PTX of jsq's own kernels for the processors that the product has code for, and tells of each kernel how many
registers it takes: none keeps anything on a stack or spills, so that no local memory is used anywhere.

    check_resources.py PTXAS FILE.ptx...
"""
import pathlib
import re
import subprocess
import sys
import tempfile

PROCESSORS = ("sm_80", "sm_90")
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes "
                   r"spill loads.*?Used (\d+) registers", re.DOTALL)
# A kernel that cannot but use local memory, to make sure that this would be found.
STACK = """.version 8.0
.target sm_80
.address_size 64
.visible .entry stack(.param .u64 out, .param .u32 at) {
.local .align 8 .b8 depot[512];
.reg .u64 %rd<4>; .reg .u32 %r<3>;
ld.param.u64 %rd1, [out]; ld.param.u32 %r1, [at];
mov.u64 %rd2, depot; mul.wide.u32 %rd3, %r1, 4; add.u64 %rd2, %rd2, %rd3;
st.local.u32 [%rd2], %r1; xor.b32 %r2, %r1, 4; mul.wide.u32 %rd3, %r2, 4; mov.u64 %rd2, depot; add.u64 %rd2, %rd2, %rd3;
ld.local.u32 %r2, [%rd2]; st.global.u32 [%rd1], %r2; ret; }
"""


def assembled(ptxas, path, processor):
    """(kernel, stack and spills in bytes, registers) of a file."""
    report = subprocess.run([ptxas, "-v", f"--gpu-name={processor}", "--output-file=/dev/null", path], check=True, text=True,
                            stderr=subprocess.STDOUT, stdout=subprocess.PIPE).stdout
    return [(name, int(stack) + int(stores) + int(loads), int(registers))
            for name, _, stack, stores, loads, registers in ENTRY.findall(report)]


def main():
    ptxas, files = sys.argv[1], ";".join(sys.argv[2:]).split(";")  # a list of CMake is one argument
    with tempfile.TemporaryDirectory() as folder:
        stack = pathlib.Path(folder, "stack.ptx")
        stack.write_text(STACK)
        if not assembled(ptxas, stack, PROCESSORS[0])[0][1] > 0:
            sys.exit("this test is broken: it finds no local memory in a kernel that uses it")
    kernels, failed = {}, 0
    for path in files:
        for processor in PROCESSORS:
            for name, local, registers in assembled(ptxas, path, processor):
                kernels.setdefault(name, {})[processor] = registers
                failed += local > 0
                if local > 0:
                    print(f"{name} on {processor}: {local} bytes of stack and spills")
    names = subprocess.run(["c++filt"], input="\n".join(kernels), text=True, capture_output=True, check=True).stdout.splitlines()
    for plain, registers in zip(names, kernels.values()):
        plain = re.sub(r"\(anonymous namespace\)::|jsq::\w+::|^void |(?<=[\w>])\(.*$", "", plain)
        print(f"{plain}: {', '.join(map(str, registers.values()))} registers")
    if not kernels:
        sys.exit("no kernels found: the files are not what this test reads")
    sys.exit(failed > 0)


main()
