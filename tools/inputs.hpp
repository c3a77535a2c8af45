// From what the user types to open dumps: paths, '-', path::member, folders, globs. Which tensors of a dump
// are taken is decided here; reading them is the library's.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"
#include "jsq/compress.hpp"

namespace jsq::tools {

/// One dump that an argument stands for.
struct InputFile {
  std::string argument;  ///< what jsq::open_gradients takes: a path, path::member, or "-"
  std::string file;      ///< the file behind it; "-" for standard input
  std::string stored;    ///< the relative path an archive keeps for it
  bool whole = true;     ///< no ::member was given
};

/// Names of tensors to take; '*' also matches '/'. Empty lists take everything.
struct TensorFilter {
  std::vector<std::string> include, exclude;
  bool active() const noexcept { return !include.empty() || !exclude.empty(); }
  /// An unnamed tensor (a plain npy) goes by its dump's stored path.
  bool takes(const std::string& name, const std::string& stored) const;
};

/// Adds --include and --exclude to a subcommand.
void add_filter_options(CLI::App& command, TensorFilter& filter);

/// The dumps one argument stands for. A folder gives its .npy, .npz, .h5 and .hdf5 files, all levels, sorted
/// by path, and their stored paths are relative to it; links to folders are not followed. A glob gives its
/// matches, sorted. \throws Error not_found (nothing there, nothing matches), read_failed.
std::vector<InputFile> expand_input(const std::string& argument);

/// The dumps of all arguments. An argument that fails is reported and counted in `failures`. Stored paths are
/// made distinct: inputs of one base name keep the folders they were given with. \throws Error usage when two
/// inputs would still be stored under one path.
std::vector<InputFile> expand_inputs(const std::vector<std::string>& arguments, Failures& failures);

/// Opens a dump and picks its tensors.  \throws Error as jsq::open_gradients does.
InputDump open_input(const InputFile& input, const TensorFilter& filter);

/// Opens all of them; one that fails is reported and counted. Dumps of which the filter takes nothing are
/// left out. `opened`, when given, receives the inputs behind the dumps, in the same order. \throws Error
/// unknown_name when dumps were opened but the filter takes no tensor of any.
std::vector<InputDump> open_inputs(const std::vector<InputFile>& inputs, const TensorFilter& filter,
                                   Failures& failures, std::vector<InputFile>* opened = nullptr);

/// Indices of the tensors that are taken.
std::vector<size_t> taken_tensors(const InputDump& input);
uint64_t taken_bytes(const InputDump& input);

}  // namespace jsq::tools
