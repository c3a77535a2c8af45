// jsq completion: shell scripts that complete commands, options, their values and method names. They are
// generated from the program's own description of its command line, so they cannot fall behind it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "command.hpp"
#include "jsq/method.hpp"
#include "report.hpp"

namespace jsq::tools {

namespace {

/// What may follow an option, or stand as an argument.
struct Values {
  bool any = false;         ///< a value follows at all
  bool files = false;       ///< a path may stand here
  bool open_ended = false;  ///< words go on after the completed part ("ratio=")
  std::vector<std::string> words;
};

struct OptionWords {
  std::vector<std::string> short_names, long_names;  ///< without dashes
  std::string help;
  Values values;
};

struct CommandWords {
  std::string name, help;
  std::vector<OptionWords> options;
  Values arguments;
};

struct CommandLine {
  std::vector<OptionWords> global;
  std::vector<CommandWords> commands;
};

constexpr std::string_view path_types[] = {"INPUT", "FILE",   "FOLDER",   "DIR",
                                           "PATH",  "OUTPUT", "ORIGINAL", "FRAME"};

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const MethodInfo* info : methods()) names.emplace_back(info->name);
  return names;
}

/// The choices of a type such as "TEXT:{auto,cpu,cuda}".
std::vector<std::string> choices_of(const std::string& type) {
  const size_t open = type.find('{'), close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

/// True where a path may stand: inputs, outputs and folders. Numbers, sizes, patterns and the like are not
/// completed.
bool is_path(const CLI::Option& option, const std::string& type) {
  const std::string kind = option.get_positional() ? option.get_name() : type;
  return std::any_of(std::begin(path_types), std::end(path_types),
                     [&](std::string_view known) { return kind.find(known) != std::string::npos; });
}

Values values_of(const CLI::Option& option) {
  Values values;
  values.any = option.get_items_expected_max() > 0;
  if (!values.any) return values;
  const std::string type = option.get_type_name();
  values.words = choices_of(type);
  if (!values.words.empty()) return values;
  if (type.starts_with("METHOD") || (option.get_positional() && option.get_name() == "NAME")) {
    values.words = method_names();
    if (type.ends_with("|all")) values.words.emplace_back("all");
  } else if (type == "TARGET") {
    values.words = {"ratio=", "bpw=", "bytes=", "nmse=", "maxabs=", "cosine=", "hprime="};
    values.open_ended = true;
  } else {
    values.files = is_path(option, type);
  }
  return values;
}

/// Descriptions are cut at the first sentence: a completion menu has one line for each.
std::string first_sentence(const std::string& text) {
  const size_t end = std::min({text.find(". "), text.find("; "), text.find('\n')});
  std::string sentence = text.substr(0, end);
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

OptionWords option_words(const CLI::Option& option) {
  return {option.get_snames(), option.get_lnames(), first_sentence(option.get_description()),
          values_of(option)};
}

bool hidden(const CLI::Option& option) {
  return option.get_group().empty();
}

CommandWords command_words(const CLI::App& app) {
  CommandWords command{app.get_name(), first_sentence(app.get_description()), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (hidden(*option)) continue;
    if (option->get_positional()) {
      const Values values = values_of(*option);
      if (!command.arguments.any) command.arguments = values;
    } else {
      command.options.push_back(option_words(*option));
    }
  }
  return command;
}

CommandLine describe(const CLI::App& app) {
  CommandLine line;
  for (const CLI::Option* option : app.get_options())
    if (!hidden(*option) && option->nonpositional()) line.global.push_back(option_words(*option));
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); }))
    line.commands.push_back(command_words(*command));
  return line;
}

std::vector<std::string> dashed_names(const OptionWords& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.short_names) names.push_back("-" + name);
  for (const std::string& name : option.long_names) names.push_back("--" + name);
  return names;
}

std::string all_names(const std::vector<OptionWords>& options) {
  std::vector<std::string> names;
  for (const OptionWords& option : options)
    for (std::string& name : dashed_names(option)) names.push_back(std::move(name));
  return fmt::format("{}", fmt::join(names, " "));
}

std::string command_names(const CommandLine& line) {
  std::vector<std::string> names;
  for (const CommandWords& command : line.commands) names.push_back(command.name);
  return fmt::format("{}", fmt::join(names, " "));
}

/// The case branches that complete what follows an option.
std::string bash_values(const std::vector<OptionWords>& options, const std::string& command) {
  std::string branches;
  for (const OptionWords& option : options) {
    if (!option.values.any) continue;
    std::vector<std::string> patterns;
    for (const std::string& name : dashed_names(option)) patterns.push_back(command + "," + name);
    std::string action = "return";
    if (!option.values.words.empty())
      action = fmt::format("{}COMPREPLY=($(compgen -W '{}' -- \"$current\")); return",
                           option.values.open_ended ? "compopt -o nospace; " : "",
                           fmt::join(option.values.words, " "));
    branches += fmt::format("    {}) {} ;;\n", fmt::join(patterns, "|"), action);
  }
  return branches;
}

std::string bash_script(const CommandLine& line) {
  std::string values, options, arguments;
  for (const CommandWords& command : line.commands) {
    values += bash_values(command.options, command.name);
    options += fmt::format("    {}) options+=' {}' ;;\n", command.name, all_names(command.options));
    if (!command.arguments.words.empty())
      arguments += fmt::format("    {}) COMPREPLY=($(compgen -W '{}' -- \"$current\")) ;;\n", command.name,
                               fmt::join(command.arguments.words, " "));
  }
  values += bash_values(line.global, "*");
  return fmt::format(R"(# bash completion of jsq; made by: jsq completion bash
_jsq() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}" command='' word
  # '--format=js' arrives as three words.
  if [[ $current == '=' ]]; then
    current=''
  elif [[ $previous == '=' && COMP_CWORD -ge 2 ]]; then
    previous="${{COMP_WORDS[COMP_CWORD - 2]}}"
  fi
  local -r commands='{0}'
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if [[ " $commands " == *" $word "* ]]; then
      command="$word"
      break
    fi
  done
  COMPREPLY=()
  case "$command,$previous" in
{1}  esac
  local options='{2}'
  case "$command" in
{3}  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
    return
  fi
  case "$command" in
    '') COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
{4}  esac
}}
complete -o bashdefault -o default -F _jsq jsq
)",
                     command_names(line), values, all_names(line.global), options, arguments);
}

/// `text` inside single quotes.
std::string single_quoted(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

/// A description inside the brackets of an _arguments specification.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return single_quoted(out);
}

std::string zsh_action(const Values& values) {
  if (!values.words.empty())
    return values.open_ended ? fmt::format("{{compadd -S \"\" -- {}}}", fmt::join(values.words, " "))
                             : fmt::format("({})", fmt::join(values.words, " "));
  return values.files ? "_files" : " ";
}

std::string zsh_options(const std::vector<OptionWords>& options, const std::string& indent) {
  std::string specs;
  for (const OptionWords& option : options)
    for (const std::string& name : dashed_names(option))
      specs += fmt::format("{}'*{}[{}]{}' \\\n", indent, name, zsh_text(option.help),
                           option.values.any ? ":value:" + single_quoted(zsh_action(option.values)) : "");
  return specs;
}

std::string zsh_script(const CommandLine& line) {
  std::string commands, branches;
  for (const CommandWords& command : line.commands) {
    std::string described = command.name + ":" + command.help;
    commands += fmt::format("    '{}'\n", single_quoted(described));
    const std::string action = command.arguments.any ? zsh_action(command.arguments) : " ";
    branches += fmt::format("        {})\n          _arguments -s \\\n{}{}            '*:argument:{}' ;;\n",
                            command.name, zsh_options(command.options, "            "),
                            zsh_options(line.global, "            "), action);
  }
  return fmt::format(R"(#compdef jsq
# zsh completion of jsq; made by: jsq completion zsh
_jsq() {{
  local state
  local -a commands
  commands=(
{0}  )
  _arguments -s -C \
{1}    '1:command:->command' \
    '*::argument:->argument'
  case $state in
    command) _describe -t commands 'jsq command' commands ;;
    argument)
      case $words[1] in
{2}      esac ;;
  esac
}}
if [ "$funcstack[1]" = "_jsq" ]; then
  _jsq "$@"
else
  compdef _jsq jsq
fi
)",
                     commands, zsh_options(line.global, "    "), branches);
}

std::string fish_text(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string fish_options(const std::vector<OptionWords>& options, const std::string& condition) {
  std::string lines;
  for (const OptionWords& option : options) {
    std::string names;
    for (const std::string& name : option.short_names) names += " -s " + name;
    for (const std::string& name : option.long_names) names += " -l " + name;
    std::string values;
    if (!option.values.words.empty())
      values = fmt::format(" -x -a '{}'", fmt::join(option.values.words, " "));
    else if (option.values.any)
      values = option.values.files ? " -r" : " -x";
    lines += fmt::format("complete -c jsq{}{}{} -d '{}'\n", condition, names, values, fish_text(option.help));
  }
  return lines;
}

std::string fish_script(const CommandLine& line) {
  std::string script = "# fish completion of jsq; made by: jsq completion fish\n";
  script += fish_options(line.global, "");
  for (const CommandWords& command : line.commands) {
    script += fmt::format("complete -c jsq -f -n __fish_use_subcommand -a {} -d '{}'\n", command.name,
                          fish_text(command.help));
    const std::string condition = fmt::format(" -n '__fish_seen_subcommand_from {}'", command.name);
    if (!command.arguments.words.empty())
      script +=
          fmt::format("complete -c jsq -f{} -a '{}'\n", condition, fmt::join(command.arguments.words, " "));
    script += fish_options(command.options, condition);
  }
  return script;
}

int run_completion(const CLI::App& app, const std::string& shell) {
  const CommandLine line = describe(app);
  print(Stream::out, shell == "bash"  ? bash_script(line)
                     : shell == "zsh" ? zsh_script(line)
                                      : fish_script(line));
  return 0;
}

}  // namespace

void add_completion(CLI::App& app, const GlobalOptions&, std::function<int()>& run) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Completion script for a shell, on standard output");
  command->fallthrough();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([shell, &app, &run] { run = [shell, &app] { return run_completion(app, *shell); }; });
}

}  // namespace jsq::tools
