# The manual and the completions: rendered from the sources, held against the program.
bats_require_minimum_version 1.5.0
load helper.bash

# The pages as the build makes them.
render_pages() {
  mkdir pages
  for source in "$JSQ_SOURCE"/man/*.scd; do
    sed 's/@PROJECT_VERSION@/0.0.0/; s,@CMAKE_INSTALL_FULL_DOCDIR@,/usr/share/doc/jsq,; s,@CMAKE_INSTALL_FULL_LIBDIR@,/usr/lib,' "$source" | scdoc >"pages/$(basename "$source" .scd)"
  done
}

@test "help and manual have the same options, defaults, commands, methods and exit codes" {
  render_pages
  expect 0 python "$BATS_TEST_DIRNAME/check_help_against_man.py" "$JSQ_BIN" pages
}

@test "mandoc finds nothing wrong but scdoc's empty paragraphs" {
  render_pages
  for page in pages/*; do
    found=$(mandoc -T lint -W warning "$page" | grep -v "skipping paragraph macro" || true)
    [ -z "$found" ] || { echo "$found"; return 1; }
  done
  lacks "$(cat pages/*)" @
}

@test "every page has a description, and every command an example or nothing to choose" {
  render_pages
  for page in pages/*.1; do
    text=$(mandoc -T ascii "$page" | col -b)
    contains "$text" DESCRIPTION
    contains "$text" "SEE ALSO"
    case $page in *jsq-doctor.1) ;; *) contains "$text" EXAMPLES ;; esac
  done
}

@test "the methods' options and the keys of targets stand in the manual" {
  render_pages
  text=$(mandoc -T ascii pages/jsq.1 | col -b)
  for key in ratio= bpw= bytes= nmse= maxabs= cosine= hprime=; do contains "$text" $key; done
}

# complete_line WORD...: what bash offers for the last word.
complete_line() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) JSQ_BIN=$JSQ_BIN bash --norc -c '
    source <("$JSQ_BIN" completion bash)
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    compopt() { :; }
    _jsq
    echo "${COMPREPLY[*]}"' bash "$@"
}

@test "bash: the script is sound and completes commands, options, values and methods" {
  jsq completion bash >script
  bash -n script
  [ "$(complete_line jsq comp)" = "compress compare completion" ]
  [ "$(complete_line jsq analyze --per)" = "--per-tensor" ]
  [ "$(complete_line jsq --format js)" = "json jsonl" ]
  [ "$(complete_line jsq --format = js)" = "json jsonl" ]
  [ "$(complete_line jsq compress -m join)" = "jointsq" ]
  [ "$(complete_line jsq compare -m al)" = "all" ]
  [ "$(complete_line jsq --threads 2 compare --sort n)" = "nmse" ]
  [ "$(complete_line jsq compress -t n)" = "nmse=" ]
  [ "$(complete_line jsq methods "")" = "$(jsq methods --json | jq -r '[.methods[].name] | join(" ")')" ]
  [ "$(complete_line jsq completion z)" = "zsh" ]
  [ -z "$(complete_line jsq compress grad)" ]
}

@test "bash: the real thing, typed at a prompt" {
  mkdir home
  printf 'PATH=%q:$PATH\nsource <(jsq completion bash)\nPS1="> "\n' "$(dirname "$JSQ_BIN")" >home/rc
  [ "$(basename "$JSQ_BIN")" = jsq ] || skip "the program is not called jsq"
  run python - <<'PYTHON'
import os, pty, re, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execvp("bash", ["bash", "--norc", "--noprofile", "--rcfile", "home/rc", "-i"])
def read_until(pattern):
    text, deadline = "", time.monotonic() + 30
    while not re.search(pattern, text):
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"no {pattern!r} in {text!r}")
        text += os.read(terminal, 4096).decode(errors="replace")
    return text
os.write(terminal, b". home/rc; echo rea''dy\n")
read_until("ready")
os.write(terminal, b"jsq dec\t")
read_until(r"jsq decompress ")
os.write(terminal, b"\x15jsq comp\t\t")
read_until(r"compare\s+completion\s+compress")
os.write(terminal, b"\x15exit\n")
os.waitpid(pid, 0)
PYTHON
  [ "$status" -eq 0 ] || { echo "$output"; return 1; }
}

@test "zsh: the script is sound and offers every command" {
  jsq completion zsh >_jsq
  [ "$(head -1 _jsq)" = "#compdef jsq" ]
  for command in compress decompress test list analyze compare replay aggregate simulate bench methods doctor completion; do
    contains "$(cat _jsq)" "'$command:"
  done
  command -v zsh >/dev/null || skip "zsh is not installed"
  zsh -n _jsq
  zsh -fc 'autoload -U compinit && compinit -u -d dump && source ./_jsq && [[ $_comps[jsq] == _jsq ]]'
}

@test "fish: the script is sound and completes" {
  jsq completion fish >jsq.fish
  contains "$(cat jsq.fish)" "__fish_seen_subcommand_from compare"
  command -v fish >/dev/null || skip "fish is not installed"
  fish --no-execute jsq.fish
  offered=$(HOME=$PWD fish --no-config -c 'source jsq.fish; complete -C "jsq comp"' | cut -f1 | sort | tr '\n' ' ')
  [ "$offered" = "compare completion compress " ]
  [ "$(HOME=$PWD fish --no-config -c 'source jsq.fish; complete -C "jsq compress -m join"' | cut -f1)" = jointsq ]
}
